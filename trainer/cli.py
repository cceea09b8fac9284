"""`earmark-trainer`: what runs on the workstation."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from edge import __version__
from edge.console import run_command
from trainer.commands import bundle, crops, data, edgetpu, evaluate, means, run, simulate

PROG = "earmark-trainer"


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    # TensorFlow's notes on its own start-up say nothing to a user.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    code: int = options.command(options)
    return code


def entry() -> None:
    """Console script."""
    sys.exit(run_command(main, PROG))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROG, description="Trains what barn devices run: detector, embedder, class means."
    )
    parser.add_argument("--version", action="version", version=f"{PROG} {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in (run, data, crops, means, evaluate, simulate, bundle, edgetpu):
        module.add_parser(commands)
    return parser

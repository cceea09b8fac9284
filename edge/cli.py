"""`earmark-edge`: what runs on a barn device."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

# A device's products are small: a second thread saves little where cores are idle, and waits for
# long where the models have them. NumPy asks once, when it is loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from edge import __version__
from edge.commands import bench, config, demo, doctor, identify, run, update
from edge.commands.options import PROG
from edge.console import run_command


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO if options.verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    code: int = options.run(options)
    return code


def entry() -> None:
    """Console script."""
    sys.exit(run_command(main, PROG))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROG, description="Names the animals that a barn's cameras see, and says so over MQTT."
    )
    parser.add_argument("--version", action="version", version=f"{PROG} {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in (run, identify, config, doctor, update, bench, demo):
        module.add_parser(commands)
    return parser

"""`earmark-deploy`: what is done from a workstation to, and with, the barn devices."""

from __future__ import annotations

import argparse
import importlib.metadata
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy import command
from deploy.broker import command as broker
from deploy.connecting import add_broker, broker_options, seconds
from deploy.fleet import command as fleet
from deploy.ingest import command as ingest
from deploy.means import command as means
from deploy.repo import command as repo
from deploy.report import command as report
from deploy.schemas import write_schemas
from deploy.watch import WatchOptions, watch
from edge.console import run_command
from edge.messaging.topics import check_id

PROG = "earmark-deploy"


def entry() -> None:
    """Run the command line; the console script's entry point."""
    sys.exit(run_command(main, PROG))


def main(arguments: Sequence[str]) -> int:
    """Run one subcommand and return the exit code: 0, 1 for a failure, 2 for wrong usage."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.DEBUG if options.verbose else logging.WARNING)
    if "run" in options:
        return int(options.run(options))
    if options.command == "watch":
        return _watch(options)
    for path in write_schemas(options.out):
        print(path)
    return 0


def _watch(options: argparse.Namespace) -> int:
    if options.device is not None:
        check_id("device", options.device)
    return watch(
        broker_options(options),
        WatchOptions(device=options.device, as_json=options.json, for_s=options.for_s),
    )


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--verbose", action="store_true", help="show tracebacks and what happens")
    parser = argparse.ArgumentParser(prog=PROG, description=__doc__, parents=[common])
    parser.add_argument(
        "--version", action="version", version=f"{PROG} {importlib.metadata.version('earmark')}"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    one = commands.add_parser(
        "watch",
        parents=[common],
        help="show which animals are where, live from the broker",
        description="Subscribe to the broker and show which animals are where. Ctrl-C ends it.",
    )
    add_broker(one)
    one.add_argument("--device", metavar="ID", help="this device only; all by default")
    one.add_argument(
        "--json", action="store_true", help="one JSON line a message on stdout, for pipes"
    )
    one.add_argument(
        "--for", dest="for_s", type=seconds, metavar="SECONDS", help="end after this long"
    )
    for module in (command, means, ingest, report, broker, repo, fleet):
        module.add_parser(commands, common)

    one = commands.add_parser(
        "schemas",
        parents=[common],
        help="write JSON Schema files of everything that is published",
        description="Write the JSON Schema of every MQTT payload and of the bundle's manifest.",
    )
    one.add_argument("--out", type=Path, default=Path("docs/schemas"), metavar="DIR")
    return parser

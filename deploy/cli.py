"""`earmark-deploy`: what is done from a workstation to, and with, the barn devices."""

from __future__ import annotations

import argparse
import importlib.metadata
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.command import CommandOptions, Value, command, parse_argument
from deploy.schemas import write_schemas
from deploy.watch import WatchOptions, watch
from edge.console import run_command
from edge.errors import UsageError
from edge.messaging.broker import BrokerOptions
from edge.messaging.commands import COMMANDS
from edge.messaging.topics import check_id

PROG = "earmark-deploy"


def entry() -> None:
    """Run the command line; the console script's entry point."""
    sys.exit(run_command(main, PROG))


def main(arguments: Sequence[str]) -> int:
    """Run one subcommand and return the exit code: 0, 1 for a failure, 2 for wrong usage."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.DEBUG if options.verbose else logging.WARNING)
    if options.command == "watch":
        return _watch(options)
    if options.command == "command":
        return _command(options)
    for path in write_schemas(options.out):
        print(path)
    return 0


def read_password(path: Path) -> str:
    """Return the first line of a password file; UsageError when there is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such password file") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not a text file; put the password on its first line") from error
    if not lines or not lines[0]:
        raise UsageError(f"{path}: empty; put the password on its first line")
    return lines[0]


def _broker(options: argparse.Namespace) -> BrokerOptions:
    password = None if options.password_file is None else read_password(options.password_file)
    return BrokerOptions(
        options.broker,
        username=options.username,
        password=password,
        ca_file=options.ca_file,
        cert_file=options.cert_file,
        key_file=options.key_file,
    )


def _command(options: argparse.Namespace) -> int:
    return command(
        _broker(options),
        CommandOptions(
            device=check_id("device", options.device),
            name=options.name,
            args=dict(options.args),
            timeout_s=options.timeout_s,
            as_json=options.json,
            out=options.out,
        ),
    )


def _watch(options: argparse.Namespace) -> int:
    broker = _broker(options)
    if options.device is not None:
        check_id("device", options.device)
    return watch(
        broker, WatchOptions(device=options.device, as_json=options.json, for_s=options.for_s)
    )


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--verbose", action="store_true", help="show tracebacks and what happens")
    parser = argparse.ArgumentParser(prog=PROG, description=__doc__, parents=[common])
    parser.add_argument(
        "--version", action="version", version=f"{PROG} {importlib.metadata.version('earmark')}"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    command = commands.add_parser(
        "watch",
        parents=[common],
        help="show which animals are where, live from the broker",
        description="Subscribe to the broker and show which animals are where. Ctrl-C ends it.",
    )
    command.add_argument("--device", metavar="ID", help="this device only; all by default")
    command.add_argument(
        "--json", action="store_true", help="one JSON line a message on stdout, for pipes"
    )
    command.add_argument(
        "--for", dest="for_s", type=_seconds, metavar="SECONDS", help="end after this long"
    )
    _add_broker(command)

    command = commands.add_parser(
        "command",
        parents=[common],
        help="tell a device to do something",
        description="Send a command to a device and wait for its reply (docs/commands.md).",
    )
    command.add_argument("device", metavar="DEVICE", help="the device's id")
    command.add_argument("name", metavar="NAME", help=", ".join(COMMANDS))
    command.add_argument(
        "--arg",
        dest="args",
        action="append",
        type=_argument,
        default=[],
        metavar="KEY=VALUE",
        help="an argument of the command; again for more",
    )
    command.add_argument(
        "--timeout",
        dest="timeout_s",
        type=_seconds,
        default=30.0,
        metavar="SECONDS",
        help="wait so long, after which the command is void (30)",
    )
    command.add_argument("--json", action="store_true", help="print the reply as it came")
    command.add_argument(
        "--out", type=Path, metavar="FILE.jpg", help="write the picture of a snapshot here"
    )
    _add_broker(command)

    command = commands.add_parser(
        "schemas",
        parents=[common],
        help="write JSON Schema files of everything that is published",
        description="Write the JSON Schema of every MQTT payload and of the bundle's manifest.",
    )
    command.add_argument("--out", type=Path, default=Path("docs/schemas"), metavar="DIR")
    return parser


def _add_broker(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--broker", required=True, metavar="URL", help="mqtt://HOST[:1883] or mqtts://HOST[:8883]"
    )
    command.add_argument("--username", metavar="U", help="user name at the broker")
    command.add_argument(
        "--password-file", type=Path, metavar="F", help="file with the password on its first line"
    )
    command.add_argument("--ca-file", type=Path, metavar="F", help="CA certificate, PEM")
    command.add_argument("--cert-file", type=Path, metavar="F", help="client certificate, PEM")
    command.add_argument("--key-file", type=Path, metavar="F", help="its private key, PEM")


def _argument(text: str) -> tuple[str, Value]:
    try:
        return parse_argument(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("give seconds above 0")
    return value

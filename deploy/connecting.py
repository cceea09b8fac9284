"""What every command that talks to a broker asks on its command line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Protocol

from edge.errors import UsageError
from edge.messaging.broker import BrokerOptions


class Commands(Protocol):
    """What `ArgumentParser.add_subparsers` returns, as far as a command needs it."""

    def add_parser(self, name: str, **arguments: Any) -> argparse.ArgumentParser:
        """Add a command and return its parser."""


def add_broker(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add where the broker is and who we are there."""
    parser.add_argument(
        "--broker",
        required=required,
        metavar="URL",
        help="mqtt://HOST[:1883] or mqtts://HOST[:8883]",
    )
    parser.add_argument("--username", metavar="U", help="user name at the broker")
    parser.add_argument(
        "--password-file", type=Path, metavar="F", help="file with the password on its first line"
    )
    parser.add_argument("--ca-file", type=Path, metavar="F", help="CA certificate, PEM")
    parser.add_argument("--cert-file", type=Path, metavar="F", help="client certificate, PEM")
    parser.add_argument("--key-file", type=Path, metavar="F", help="its private key, PEM")


def broker_options(options: argparse.Namespace) -> BrokerOptions:
    """Return what `add_broker` was given; UsageError when it cannot be."""
    password = None if options.password_file is None else read_password(options.password_file)
    return BrokerOptions(
        options.broker,
        username=options.username,
        password=password,
        ca_file=options.ca_file,
        cert_file=options.cert_file,
        key_file=options.key_file,
    )


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


def seconds(text: str) -> float:
    """Read a length of time from a command line."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("give seconds above 0")
    return value

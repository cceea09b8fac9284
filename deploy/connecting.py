"""What every command that talks to a broker asks on its command line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Protocol

from edge.messaging.broker import PASSWORD_VARIABLE, BrokerOptions, read_password


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
        help="mqtt://HOST[:1883], mqtts://HOST[:8883], ws://HOST[/PATH] or wss://HOST[/PATH]",
    )
    parser.add_argument("--username", metavar="U", help="user name at the broker")
    parser.add_argument(
        "--password-file",
        type=Path,
        metavar="F",
        help=f"file with the password on its first line; without, ${PASSWORD_VARIABLE}",
    )
    parser.add_argument("--ca-file", type=Path, metavar="F", help="CA certificate, PEM")
    parser.add_argument("--cert-file", type=Path, metavar="F", help="client certificate, PEM")
    parser.add_argument("--key-file", type=Path, metavar="F", help="its private key, PEM")


def broker_options(options: argparse.Namespace) -> BrokerOptions:
    """Return what `add_broker` was given; UsageError when it cannot be."""
    wanted = options.username is not None or options.password_file is not None
    password = read_password(options.password_file) if wanted else None
    return BrokerOptions(
        options.broker,
        username=options.username,
        password=password,
        ca_file=options.ca_file,
        cert_file=options.cert_file,
        key_file=options.key_file,
    )


def seconds(text: str) -> float:
    """Read a length of time from a command line."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("give seconds above 0")
    return value

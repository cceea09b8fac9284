"""What the commands of `earmark-edge` have in common."""

from __future__ import annotations

import argparse
import sys
from typing import Any, Protocol

PROG = "earmark-edge"


class Commands(Protocol):
    """What `ArgumentParser.add_subparsers` returns, as far as a command needs it."""

    def add_parser(self, name: str, **arguments: Any) -> argparse.ArgumentParser:
        """Add a command and return its parser."""


def add_verbose(parser: argparse.ArgumentParser) -> None:
    """Add `--verbose`, which every command takes."""
    parser.add_argument("--verbose", action="store_true", help="say what happens; show tracebacks")


def add_login(parser: argparse.ArgumentParser) -> None:
    """Add who we are at the broker."""
    parser.add_argument("--username", metavar="U", help="user name at the broker")
    parser.add_argument(
        "--password-file", metavar="F", help="file with the password and nothing else"
    )
    parser.add_argument("--ca-file", metavar="F", help="CA certificate of an mqtts broker, PEM")


def login(options: argparse.Namespace) -> dict[str, str]:
    """Return what of `add_login` was given, as keys of the config's `broker`."""
    names = ("username", "password_file", "ca_file")
    return {name: getattr(options, name) for name in names if getattr(options, name)}


def say(text: str) -> None:
    """Tell the person at the terminal."""
    print(f"{PROG}: {text}", file=sys.stderr)

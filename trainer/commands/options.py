"""What the commands of `earmark-trainer` have in common."""

from __future__ import annotations

import argparse
from typing import Any, Protocol


class Commands(Protocol):
    """What `ArgumentParser.add_subparsers` returns, as far as a command needs it."""

    def add_parser(self, name: str, **arguments: Any) -> argparse.ArgumentParser:
        """Add a command and return its parser."""


def add_verbose(parser: argparse.ArgumentParser) -> None:
    """Add `--verbose`, which every command takes."""
    parser.add_argument("--verbose", action="store_true", help="show tracebacks")


def whole_number(text: str) -> int:
    """Read a number of 0 or more, such as a seed."""
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number of 0 or more")
    return int(text)

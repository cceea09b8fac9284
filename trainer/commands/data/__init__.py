"""`earmark-trainer data`: annotated frames checked, looked at, split and converted."""

from __future__ import annotations

from trainer.commands.data import check, convert, preview, split
from trainer.commands.options import Commands


def add_parser(commands: Commands) -> None:
    """Add the command to those of `earmark-trainer`."""
    data = commands.add_parser("data", help="check, look at, split and convert annotated frames")
    parts = data.add_subparsers(required=True, metavar="COMMAND")
    for module in (check, preview, split, convert):
        module.add_parser(parts)

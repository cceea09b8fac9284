"""`earmark-trainer means`: class means built, looked at, edited and exchanged; no TensorFlow."""

from __future__ import annotations

from trainer.commands.means import build, edit, exchange, inspect
from trainer.commands.options import Commands


def add_parser(commands: Commands) -> None:
    """Add the command to those of `earmark-trainer`."""
    means = commands.add_parser("means", help="build, inspect and edit the herd's class means")
    parts = means.add_subparsers(required=True, metavar="COMMAND")
    for module in (build, inspect, edit, exchange):
        module.add_parsers(parts)

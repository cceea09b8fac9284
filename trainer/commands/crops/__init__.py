"""`earmark-trainer crops`: identity crops from annotations, or from unlabelled video by hand."""

from __future__ import annotations

from trainer.commands.crops import cut, name, propose
from trainer.commands.options import Commands


def add_parser(commands: Commands) -> None:
    """Add the command to those of `earmark-trainer`."""
    crops = commands.add_parser(
        "crops", help="cut identity crops from annotations, or propose tracklets to be named"
    )
    parts = crops.add_subparsers(required=True, metavar="COMMAND")
    for module in (cut, propose, name):
        module.add_parser(parts)

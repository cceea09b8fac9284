"""`earmark-trainer evaluate`: what models are worth, measured on what they have not seen."""

from __future__ import annotations

from trainer.commands.evaluate import detection, identification, tracking
from trainer.commands.options import Commands


def add_parser(commands: Commands) -> None:
    """Add the command to those of `earmark-trainer`."""
    evaluate = commands.add_parser("evaluate", help="measure what models are worth")
    parts = evaluate.add_subparsers(required=True, metavar="WHAT")
    for module in (identification, detection, tracking):
        module.add_parser(parts)

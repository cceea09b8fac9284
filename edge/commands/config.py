"""`earmark-edge config`: print a commented agent.yaml."""

from __future__ import annotations

import argparse

from edge.commands.options import Commands, add_verbose
from edge.config import reference_config


def add_parser(commands: Commands) -> None:
    """Add the command to those of `earmark-edge`."""
    config = commands.add_parser("config", help="print a commented agent.yaml")
    add_verbose(config)
    config.set_defaults(run=_config)


def _config(options: argparse.Namespace) -> int:
    print(reference_config(), end="")
    return 0

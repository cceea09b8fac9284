"""`earmark-edge demo`: name the animals of the demo clip."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from edge.commands.options import Commands, add_login, add_verbose, login
from edge.config import BrokerConfig
from edge.errors import UsageError


def add_parser(commands: Commands) -> None:
    """Add the command to those of `earmark-edge`."""
    demo = commands.add_parser("demo", help="name the animals of the demo clip")
    demo.add_argument("--out", type=Path, default=Path("out/demo"), metavar="DIR")
    demo.add_argument(
        "--broker",
        metavar="URL",
        default=os.environ.get("EARMARK_BROKER") or None,
        help="broker to use instead of one of the demo's own (or EARMARK_BROKER)",
    )
    add_login(demo)
    demo.add_argument("--assets", type=Path, metavar="DIR", help="folder with bundle, clip, truth")
    add_verbose(demo)
    demo.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> int:
    from edge.demo.run import find_assets, run_demo

    if options.broker is None and login(options):
        raise UsageError("--username, --password-file and --ca-file belong to --broker")
    assets = options.assets or find_assets()
    if options.broker is None:
        return run_demo(assets, options.out)
    broker = BrokerConfig(
        url=options.broker,
        username=options.username,
        password_file=options.password_file,
        ca_file=options.ca_file,
    )
    return run_demo(assets, options.out, broker)

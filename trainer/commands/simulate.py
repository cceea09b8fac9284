"""`earmark-trainer simulate`: a pen of animals from nothing, with the truth."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge.errors import UsageError
from trainer.commands.options import Commands, add_verbose, whole_number


def add_parser(commands: Commands) -> None:
    """Add the command to those of `earmark-trainer`."""
    simulate = commands.add_parser("simulate", help="draw a pen of animals, with the truth")
    simulate.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to make")
    simulate.add_argument("--animals", type=int, default=16, metavar="N")
    simulate.add_argument(
        "--frames", type=int, default=240, metavar="N", help="of each light and camera"
    )
    simulate.add_argument(
        "--seed", type=whole_number, default=0, metavar="S", help="another seed: another herd"
    )
    simulate.add_argument(
        "--sprites", type=Path, metavar="CROPS", help="real coats: a folder of crops per animal"
    )
    add_verbose(simulate)
    simulate.set_defaults(command=_simulate)


def _simulate(options: argparse.Namespace) -> int:
    from rich.console import Console

    from trainer.data.herd import HerdOptions, simulate
    from trainer.progress import progress_bar

    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        raise UsageError(f"{options.out}: exists and is not empty; choose another --out")
    herd = HerdOptions(
        animals=options.animals, frames=options.frames, seed=options.seed, sprites=options.sprites
    )
    with progress_bar("drawing the herd", Console(stderr=True)) as report:
        simulate(options.out, herd, report)
    print(f"herd {options.out}")
    return 0

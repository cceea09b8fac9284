"""Arguments that the `means` commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

from trainer.commands.options import add_verbose


def add_place(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add `--bundle` and `--out`: where class means are read and written."""
    parser.add_argument(
        "--bundle",
        type=Path,
        required=required,
        metavar="DIR",
        help="bundle whose embedder and class means are used; changed in place without --out",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="PATH",
        help="leave the bundle alone: write another one here, or a loose file if it ends in .npz",
    )
    add_verbose(parser)


def add_crops(parser: argparse.ArgumentParser) -> None:
    """Add `--crops DIR…`."""
    parser.add_argument(
        "--crops",
        type=Path,
        nargs="+",
        required=True,
        metavar="DIR",
        help="folders with one folder per animal: DIR/<animal>/<session>_<frame>.jpg",
    )


def fraction(text: str) -> float:
    """Read a number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value

"""Arguments that the `data` commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

from trainer.commands.options import add_verbose

# As `trainer.data.annotations.FORMATS`, which is imported only when a command runs.
FORMATS = ("coco", "voc", "yolo", "cvat", "psrg")


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add `SRC`, `--from` and `--images`: annotated frames that are read."""
    parser.add_argument(
        "source",
        type=Path,
        metavar="SRC",
        help="a COCO .json, a folder of Pascal VOC files, a YOLO data.yaml (data.yaml#val for one "
        "of its parts), a CVAT .xml, a LocationSelected.mat, or a folder with one of them",
    )
    parser.add_argument(
        "--from",
        choices=FORMATS,
        dest="format",
        metavar="FORMAT",
        help=f"the format of SRC, where its name does not tell: {', '.join(FORMATS)}",
    )
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="folder that names of images are relative to"
    )
    add_verbose(parser)


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value


def share(text: str) -> float:
    """Read a number between 0 and 1."""
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def counted(count: int, noun: str) -> str:
    """Return a number with its noun."""
    plural = "es" if noun.endswith(("x", "s")) else "s"
    return f"{count} {noun}{'' if count == 1 else plural}"

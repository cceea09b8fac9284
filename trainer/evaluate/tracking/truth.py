"""The truth of a clip: truth.json as the simulator writes it, or MOTChallenge's gt.txt with names.

truth.json: see `edge.demo.truth`. gt.txt: a line a box, `frame (from 1), id, left, top, width,
height, flag, class, visibility (0..1)`; flag 0 marks a box that is not asked for; what comes after
the height may be missing. names.csv: a line an animal, `id,name`.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from edge.demo.truth import Truth, load_truth
from edge.errors import DataError, UsageError
from trainer.evaluate.tracking.rows import TrueBox

NAMES_NAME = "names.csv"
# Less of an animal than this is asked of nobody.
LEAST_VISIBLE_PERCENT = 20


@dataclass(frozen=True, slots=True, eq=False)
class ClipTruth:
    """Where the animals of a clip are. size: width, height; fps, size: None where not told."""

    boxes: list[TrueBox]
    fps: float | None = None
    size: tuple[int, int] | None = None


def read_truth(path: Path, names: Path | None = None) -> ClipTruth:
    """Read truth.json, or gt.txt with its names: `names`, else names.csv beside it.

    Raises UsageError for a file that is not there or of another kind, DataError for a line that
    is wrong, with its number.
    """
    if path.suffix.lower() == ".json":
        if names is not None:
            raise UsageError(f"{path}: has names of its own; --names goes with gt.txt")
        truth = load_truth(path)
        return ClipTruth(true_boxes(truth), truth.fps, (truth.width, truth.height))
    if path.suffix.lower() != ".txt":
        raise UsageError(f"{path}: is neither a truth.json nor MOTChallenge's gt.txt")
    lines = _lines(path)
    animals = _names(names or path.with_name(NAMES_NAME), path)
    return ClipTruth([_box(line, animals, f"{path}:{n}") for n, line in lines])


def true_boxes(truth: Truth) -> list[TrueBox]:
    """Return the truth as tracking figures want it; animals that are all but hidden are ignored."""
    return [
        TrueBox(
            frame, truth.animals[animal], (x1, y1, x2, y2), ignored=visible < LEAST_VISIBLE_PERCENT
        )
        for frame, animal, x1, y1, x2, y2, visible in truth.boxes
    ]


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """Return the fields of each line that has some, and its number."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file; the clip's truth is wanted") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as text: {error}") from error
    rows = enumerate(csv.reader(text.splitlines()), 1)
    return [(number, [field.strip() for field in row]) for number, row in rows if any(row)]


def _names(path: Path, truth: Path) -> dict[str, str]:
    if not path.is_file():
        raise UsageError(
            f"{path}: no such file; {truth.name} has numbers only, so a file of lines `id,name` "
            "must say who they are (--names)"
        )
    animals: dict[str, str] = {}
    for number, row in _lines(path):
        if number == 1 and row[0].lower() == "id":
            continue
        if len(row) != 2 or not all(row):
            raise DataError(f"{path}:{number}: expected `id,name`, found {','.join(row)!r}")
        if row[0] in animals or row[1] in animals.values():
            raise DataError(f"{path}:{number}: {','.join(row)!r} names an id or animal twice")
        animals[row[0]] = row[1]
    return animals


def _box(row: list[str], animals: dict[str, str], where: str) -> TrueBox:
    try:
        frame = int(row[0])
        left, top, width, height, flag, _, seen = map(float, [*row[2:9], *"111"[: 9 - len(row)]])
    except (ValueError, IndexError) as error:
        raise DataError(
            f"{where}: expected frame, id, left, top, width, height and up to three more numbers"
        ) from error
    # What is left away is 1: asked for, and all to be seen.
    if frame < 1:
        raise DataError(f"{where}: frames count from 1, not {frame}")
    if not (width > 0 and height > 0 and math.isfinite(left + top + width + height)):
        raise DataError(f"{where}: a box of {width:g} x {height:g} pixels at {left:g}, {top:g}")
    if row[1] not in animals:
        raise DataError(f"{where}: the names have no animal of id {row[1]!r}")
    ignored = flag == 0 or 100 * seen < LEAST_VISIBLE_PERCENT
    box = (left, top, left + width, top + height)
    return TrueBox(frame - 1, animals[row[1]], box, ignored)

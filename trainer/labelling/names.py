"""`names.csv`: which animal each tracklet shows, as the page writes it or a person types it."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from edge.errors import DataError, UsageError
from edge.messaging.topics import check_animals
from trainer.labelling.tracklets import Proposal, clashes

NAMES_NAME = "names.csv"
# No animal's id can begin so.
NOT_AN_ANIMAL, TWO_ANIMALS = "!not-an-animal", "!two-animals"
MARKS = (NOT_AN_ANIMAL, TWO_ANIMALS)
_HEAD = ("tracklet", "animal")
_MOST_BYTES = 64 << 20
_MOST_TOLD = 3


def read_names(path: Path) -> dict[str, str]:
    """Return the animal's id, or the mark, of each tracklet that has one.

    The first line says `tracklet,animal`; other columns are passed over. Commas, semicolons and
    tabs will do, as spreadsheets write them. Raises DataError, which names the line, for anything
    else and for a tracklet with two names.
    """
    lines = _lines(path)
    delimiter = max(",;\t", key=lines[0].count) if lines else ","
    rows = csv.reader(lines, delimiter=delimiter)
    names: dict[str, str] = {}
    try:
        head = [cell.strip().lower() for cell in next(rows, [])]
        if any(head.count(name) != 1 for name in _HEAD):
            raise DataError(f"{path}: its first line must name the columns: {','.join(_HEAD)}")
        columns = [head.index(name) for name in _HEAD]
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            where = f"{path}: line {rows.line_num}"
            if len(row) <= max(columns):
                raise DataError(f"{where}: has {len(row)} of {len(head)} cells")
            tracklet, animal = (row[column].strip() for column in columns)
            if animal and names.setdefault(tracklet, animal) != animal:
                raise DataError(
                    f"{where}: tracklet {tracklet!r} is {animal!r} here and {names[tracklet]!r} "
                    "before"
                )
    except csv.Error as error:
        raise DataError(f"{path}: line {rows.line_num}: {error}") from error
    return names


def check_names(
    proposal: Proposal, names: Mapping[str, str], where: str, *, force: bool = False
) -> dict[str, str]:
    """Return the animal of each tracklet that shows one; marked ones are left out.

    Raises DataError for tracklets that are not in the proposal, for names that are no animals'
    ids, and, without `force`, for one name for two tracklets that were seen together.
    """
    known = {tracklet.name for tracklet in proposal.tracklets}
    strange = [tracklet for tracklet in names if tracklet not in known]
    if strange:
        raise DataError(
            f"{where}: names {_some(strange)}, which {_is(strange)} not in this proposal; is it "
            "another one's?"
        )
    animals = {name: animal for name, animal in names.items() if animal not in MARKS}
    for tracklet, animal in animals.items():
        try:
            check_animals([animal])
        except UsageError as error:
            marks = " or ".join(MARKS)
            raise DataError(f"{where}: tracklet {tracklet!r}: {error} (or mark it: {marks})") from (
                error
            )
    both = clashes(proposal, animals)
    if both and not force:
        told = "; ".join(f"{one} and {two} are both {name!r}" for one, two, name in both[:3])
        more = f"; and {len(both) - _MOST_TOLD} more" if len(both) > _MOST_TOLD else ""
        raise DataError(
            f"{where}: {told}{more}: seen in one picture, so not one animal; correct it, or take "
            "it as it is with --force"
        )
    return animals


def _lines(path: Path) -> Sequence[str]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"{path}: larger than any list of names should be")
        return path.read_text(encoding="utf-8-sig").splitlines(keepends=True)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file of names") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file in UTF-8; save it as CSV") from error


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_MOST_TOLD])
    return shown + (f" and {len(names) - _MOST_TOLD} more" if len(names) > _MOST_TOLD else "")


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"

"""What an annotation file says, before anybody has checked it: the same values for every format."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Severity = Literal["error", "warning"]
Kind = Literal[
    "broken file",
    "classes",
    "unknown class",
    "unknown image",
    "missing image",
    "video without images",
    "animal not marked",
    "annotation id",
    "image outside its folder",
    "image listed twice",
    "file name",
    "no images",
    "crowd",
    "box not finite",
    "box without area",
    "box outside its image",
    "shape passed over",
    "broken image",
    "truncated image",
    "empty image",
    "size differs from declared",
    "duplicate box",
    "duplicate image",
    "near-duplicate image",
    "image without annotations",
    "frame without boxes",
    "animal id",
    "class never used",
]
Corners = tuple[float, float, float, float]
# Under these names a box's animal is looked for, wherever a format has room for such a thing.
ANIMAL_KEYS = ("animal_id", "animal")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, or odd. where: the file and the place in it. message: one line."""

    kind: Kind
    where: str
    message: str
    severity: Severity = "error"

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


@dataclass(frozen=True, slots=True)
class RawBox:
    """A box as a file gives it.

    corners: x1 y1 x2 y2 in pixels of the frame, float64, unchecked. where: file and annotation.
    written: the numbers as they stand in the file, where they are not the corners. hull: the box
    was made around another shape, and may reach over the frame's edge as far as it likes.
    """

    corners: Corners
    class_name: str
    animal: str | None
    where: str
    written: tuple[float, ...] = ()
    hull: bool = False

    def shown(self) -> str:
        """Return the box as a person finds it in the file."""
        return f"box [{', '.join(f'{value:g}' for value in self.written or self.corners)}]"


@dataclass(frozen=True, slots=True)
class RawFrame:
    """A frame as a file gives it.

    name: the image as it is written. path: where that leads, unchecked. size: declared (width,
    height), or None. session: as the file says, or None. number: of a video's frame, from 0.
    """

    name: str
    path: Path
    size: tuple[int, int] | None
    session: str | None
    boxes: tuple[RawBox, ...]
    where: str
    number: int | None = None


@dataclass(frozen=True, slots=True)
class RawFrames:
    """All that was read from `source`. images: the folder that all images must lie in.

    problems: what the reader itself found wrong; it read on after each. by_boxes: the format has no
    list of classes, so without boxes there may be none.
    """

    source: Path
    images: Path
    class_names: tuple[str, ...]
    frames: tuple[RawFrame, ...]
    problems: tuple[Problem, ...] = ()
    by_boxes: bool = False


def problem_of(kind: Kind, path: Path, error: Exception) -> Problem:
    """Return an error about a file, whose message may begin with its path, as a problem."""
    return Problem(kind, str(path), str(error).removeprefix(f"{path}: "))


def declared_size(width: int | None, height: int | None) -> tuple[int, int] | None:
    """Return a declared (width, height), or None where it says nothing: some tools write 0."""
    return (width, height) if width and height and width > 0 and height > 0 else None


def hull(points: Iterable[tuple[float, float]]) -> Corners:
    """Return the upright box around points."""
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def animal_of(values: dict[str, Any]) -> str | None:
    """Return the animal's id among a box's attributes: text or a whole number."""
    for key in ANIMAL_KEYS:
        value = values.get(key)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            return str(value).strip()
    return None


def is_file(path: Path) -> bool:
    """Say whether there is such a file; a name that no file can have is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_within(folder: Path, path: Path) -> bool:
    """Say whether a path stays in a folder, by its text alone: links in the folder are the user's.

    So `../x.jpg` and absolute names are refused, unless they lead into the folder after all.
    """
    return whole(path).is_relative_to(whole(folder))


def whole(path: Path) -> Path:
    """Return an absolute path without `..`; links stay as they are."""
    return Path(os.path.abspath(path))  # noqa: PTH100

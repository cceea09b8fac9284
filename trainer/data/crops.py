"""Crops folders: `<root>/<animal>/<session>_<frame>.jpg`, one folder an animal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.capture.images import decode_image
from edge.errors import DataError
from edge.vision.geometry import Colour, letterbox
from trainer.progress import Report, silent

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
_REPORT_EVERY = 64


@dataclass(frozen=True, slots=True, eq=False)
class CropSet:
    """N crops of A animals, as parallel arrays.

    paths: image files. animals: ids, sorted. labels: int32 (N,), index into `animals`.
    sessions: per crop, the camera and stretch of time it comes from.
    """

    paths: tuple[Path, ...]
    animals: tuple[str, ...]
    labels: NDArray[np.int32]
    sessions: tuple[str, ...]

    def __post_init__(self) -> None:
        count = len(self.paths)
        if self.labels.shape != (count,) or len(self.sessions) != count:
            raise ValueError(
                f"labels and sessions must be ({count},), not {self.labels.shape} and "
                f"({len(self.sessions)},)"
            )
        if count and not 0 <= self.labels.min() <= self.labels.max() < len(self.animals):
            raise ValueError("a label points outside the list of animals")

    def __len__(self) -> int:
        return len(self.paths)

    def select(self, which: NDArray[Any] | Sequence[int]) -> CropSet:
        """Return the crops of a boolean mask (N,) or of indices; the animals stay as they are."""
        rows = np.asarray(which)
        if rows.dtype == np.bool_:
            if rows.shape != (len(self),):
                raise ValueError(f"the mask must be ({len(self)},), not {rows.shape}")
            rows = np.flatnonzero(rows)
        rows = rows.astype(np.int64)
        return CropSet(
            tuple(self.paths[row] for row in rows),
            self.animals,
            self.labels[rows],
            tuple(self.sessions[row] for row in rows),
        )

    def without_empty(self) -> CropSet:
        """Return the same crops with only those animals that have any, labelled anew."""
        present = np.unique(self.labels)
        animals = tuple(self.animals[label] for label in present)
        labels = np.searchsorted(present, self.labels).astype(np.int32)
        return CropSet(self.paths, animals, labels, self.sessions)

    def names(self) -> tuple[str, ...]:
        """Return each crop's animal id (N,)."""
        return tuple(self.animals[label] for label in self.labels)

    def counts(self) -> NDArray[np.int64]:
        """Return how many crops each animal has (A,)."""
        return np.bincount(self.labels, minlength=len(self.animals)).astype(np.int64)


def joined(parts: Sequence[CropSet]) -> CropSet:
    """Return the crops of several sets as one; animals of the same id are the same."""
    animals = tuple(sorted({animal for part in parts for animal in part.animals}))
    index = {animal: label for label, animal in enumerate(animals)}
    return CropSet(
        tuple(path for part in parts for path in part.paths),
        animals,
        np.array([index[name] for part in parts for name in part.names()], np.int32),
        tuple(session for part in parts for session in part.sessions),
    )


def session_of(path: Path) -> str:
    """Return the session a crop's file name gives: its stem before the last `_`."""
    return path.stem.rpartition("_")[0] or path.stem


def names_session(path: Path) -> bool:
    """Return whether a crop's file name gives a session; without one it is a session of its own."""
    return "_" in path.stem


def by_time(path: Path) -> tuple[str, list[tuple[bool, int, str]]]:
    """Return a sort key: by session, then by frame, in which numbers count as numbers."""
    return session_of(path), natural(path.stem)


def natural(text: str) -> list[tuple[bool, int, str]]:
    """Return a sort key of names in which numbers count as numbers."""
    parts = re.split(r"([0-9]+)", text)
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


def read_crops(root: Path) -> CropSet:
    """List the crops under `root`, each animal's by session and frame.

    Hidden files and files that are no images are passed over. Raises DataError when the folder is
    missing or holds no images, and for an animal's folder without images: whoever made it would
    miss the animal only when the herd is in the barn.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected one folder of crops per animal in it")
    animals: list[str] = []
    paths: list[Path] = []
    labels: list[int] = []
    empty: list[Path] = []
    for folder in sorted(path for path in _visible(root) if path.is_dir()):
        files = sorted(_images(folder), key=by_time)
        if not files:
            empty.append(folder)
            continue
        paths.extend(files)
        labels.extend([len(animals)] * len(files))
        animals.append(folder.name)
    if not paths:
        raise DataError(
            f"{root}: no images found; expected {root.name}/<animal>/<session>_<frame>.jpg"
        )
    if empty:
        deeper = any(path.suffix.lower() in SUFFIXES for path in empty[0].rglob("*"))
        raise DataError(
            f"{empty[0]}: its images lie in folders of their own; expected "
            f"{empty[0].name}/<session>_<frame>.jpg"
            if deeper
            else f"{empty[0]}: an animal without images; add some or take the folder away"
        )
    sessions = tuple(session_of(path) for path in paths)
    return CropSet(tuple(paths), tuple(animals), np.array(labels, np.int32), sessions)


def check_trainable(crops: CropSet, minimum: int = 2) -> None:
    """Raise DataError naming the first animal with fewer than `minimum` crops."""
    if len(crops.animals) < 2:
        raise DataError(
            f"training needs at least 2 animals, found {len(crops.animals)}; add more folders"
        )
    for animal, count in zip(crops.animals, crops.counts(), strict=True):
        if count < minimum:
            raise DataError(
                f"animal {animal!r} has {count} image{'' if count == 1 else 's'}, training needs "
                f"at least {minimum}; add some or take its folder away"
            )


def load_image(path: Path) -> NDArray[np.uint8]:
    """Read an image file as uint8 (H, W, 3) RGB; DataError names a file that cannot be read."""
    try:
        image = decode_image(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if image is None:
        raise DataError(f"{path}: not an image that can be read; replace it or take it away")
    return image


def load_images(
    crops: CropSet, size: int, colour: Colour = (114, 114, 114), report: Report = silent
) -> NDArray[np.uint8]:
    """Return all crops letterboxed, uint8 (N, size, size, 3) RGB, as the device would see them."""
    images = np.empty((len(crops), size, size, 3), np.uint8)
    for row, path in enumerate(crops.paths):
        images[row] = letterbox(load_image(path), (size, size), colour)[0]
        if row % _REPORT_EVERY == 0 or row + 1 == len(crops):
            report(row + 1, len(crops))
    return images


def _visible(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def _images(folder: Path) -> list[Path]:
    return [path for path in _visible(folder) if path.suffix.lower() in SUFFIXES and path.is_file()]

"""The article's own data set (PSRG 2020): videos of pigs, two points along each back.

`LocationSelected.mat` holds a cell array, 1 by 15, an entry a video: an array (4, frames, animals)
of x1 y1 x2 y2 in pixels, front and rear. `InitialLabels.mat` beside it, if it is there, holds the
animals' numbers in the same order. An animal without both points (NaN or 0), or with both on one
spot, is not marked.

A box is made as the original made it: along the back from 1.4 lengths before the rear point to 0.8
behind it, 0.4 lengths to either side; then the upright box around that, cut to the image. Videos
are the sessions `video01` … `video15`, to be found as files that begin with their number.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import DataError
from trainer.data.annotations.files import read_bytes
from trainer.data.annotations.raw import Problem, RawBox, RawFrame, RawFrames
from trainer.data.annotations.video import VideoImages

LOCATIONS, LABELS = "LocationSelected", "InitialLabels"
CLASS_NAME = "pig"
_BEFORE, _BEHIND, _BESIDE = 1.4, 0.8, 0.4


def read(source: Path, images: Path | None = None, every: int | None = None) -> RawFrames:
    """Return what `LocationSelected.mat` (a file, or in the folder `source`) says.

    images: the folder of extracted frames, None for the file's own. every: frames are still to be
    taken from the videos, every so many. DataError for a file of another kind or shape.
    """
    path = source / f"{LOCATIONS}.mat" if source.is_dir() else source
    folder = path.parent if images is None else images
    cells = _cells(path, LOCATIONS)
    names = path.parent / f"{LABELS}.mat"
    labels = _cells(names, LABELS) if names.is_file() else [None] * len(cells)
    if len(labels) != len(cells):
        raise DataError(f"{names}: has {len(labels)} entries, and {path.name} has {len(cells)}")
    frames: list[RawFrame] = []
    problems: list[Problem] = []
    missing: list[str] = []
    for row, (points, animals) in enumerate(zip(cells, labels, strict=True), 1):
        where = f"{path}: entry {row}"
        if points.size == 0:
            continue
        marks = _points(points, where)
        own = _animals(animals, marks.shape[2], f"{names}: entry {row}")
        place = VideoImages(path, folder, f"video{row:02d}", every)
        wanted = place.wanted(range(marks.shape[1]))
        if not wanted:
            missing.append(place.missing())
            problems.append(Problem("video without images", where, missing[-1], "warning"))
        for number in wanted:
            boxes = _boxes(marks[:, number], own, f"{where}: frame {number}", problems)
            frames.append(place.frame(number, None, boxes))
    if missing and not frames:
        raise DataError(f"{path}: {missing[0]}")
    return RawFrames(path, folder, (CLASS_NAME,), tuple(frames), tuple(problems))


def back_boxes(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the upright boxes (N, 4) around animals whose backs are `points` (4, N)."""
    front, rear = points[:2], points[2:]
    length = front - rear
    ends = np.stack([rear + _BEFORE * length, rear - _BEHIND * length])
    # At right angles to the back, so the x of the back reaches out in y.
    side = _BESIDE * np.abs(length[::-1])
    return np.concatenate([ends.min(axis=0) - side, ends.max(axis=0) + side]).T


def _boxes(
    points: NDArray[np.float64],
    animals: list[str | None],
    where: str,
    problems: list[Problem],
) -> list[RawBox]:
    """Return the boxes of one frame's marked animals; points (4, A).

    Two clicks on the same spot mark nobody.
    """
    # What is not finite is told by the validation.
    with np.errstate(invalid="ignore", over="ignore"):
        corners = back_boxes(points)
    unknown = np.isnan(points).any(axis=0)
    both = ~unknown & points[:2].any(axis=0) & points[2:].any(axis=0)
    spot = both & np.isfinite(points).all(axis=0) & (points[:2] == points[2:]).all(axis=0)
    for row in np.flatnonzero(spot):
        message = f"front and rear are both at {points[0, row]:g}, {points[1, row]:g}: not marked"
        problems.append(
            Problem("animal not marked", f"{where}: animal {row + 1}", message, "warning")
        )
    return [
        RawBox(
            tuple(corners[row].tolist()),
            CLASS_NAME,
            animals[row],
            f"{where}: animal {row + 1}",
            hull=True,
        )
        for row in np.flatnonzero(both & ~spot)
    ]


def _cells(path: Path, name: str) -> list[NDArray[Any]]:
    """Return the entries of a cell array in a MATLAB file."""
    from scipy.io import loadmat

    data = read_bytes(path, "MATLAB data")
    if data[:4] == b"\x89HDF" or b"MATLAB 7.3" in data[:128]:
        raise DataError(f"{path}: is MATLAB 7.3 data (HDF5); save it again with -v7")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = loadmat(path, variable_names=[name])
    # What scipy raises for bytes that are no MATLAB file is of a dozen kinds, none its own.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: not MATLAB data: {reason}") from error
    value = content.get(name)
    if value is None:
        raise DataError(f"{path}: holds no {name}")
    if not isinstance(value, np.ndarray) or value.dtype != object:
        raise DataError(f"{path}: {name} is no cell array of one entry a video")
    cells = list(value.ravel())
    for row, cell in enumerate(cells, 1):
        if not isinstance(cell, np.ndarray) or cell.dtype.kind not in "iufb":
            raise DataError(f"{path}: entry {row}: expected numbers")
    if not any(cell.size for cell in cells):
        raise DataError(f"{path}: {name} is empty")
    return cells


def _points(cell: NDArray[Any], where: str) -> NDArray[np.float64]:
    """Return an entry as (4, frames, animals); MATLAB drops a last dimension of 1."""
    points = cell[:, :, None] if cell.ndim == 2 else cell
    if points.ndim != 3 or points.shape[0] != 4:
        raise DataError(
            f"{where}: has the shape {cell.shape}; expected (4, frames, animals): x1 y1 x2 y2"
        )
    return points.astype(np.float64)


def _animals(labels: NDArray[Any] | None, count: int, where: str) -> list[str | None]:
    """Return the animals' ids: their numbers as text."""
    if labels is None:
        return [None] * count
    numbers = labels.ravel()
    if len(numbers) != count:
        raise DataError(f"{where}: has {len(numbers)} numbers for {count} animals")
    return [f"{number:g}" if np.isfinite(number) else None for number in numbers]

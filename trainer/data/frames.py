"""Whole frames with their boxes; `trainer.data.annotations` reads them from files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import DataError
from edge.vision.geometry import Colour, letterbox
from edge.vision.types import Floats
from trainer.data.crops import load_image
from trainer.progress import Report, silent

_REPORT_EVERY = 16


@dataclass(frozen=True, slots=True, eq=False)
class FrameSet:
    """N frames and what is in them, as parallel tuples. Images are read when they are needed.

    paths: image files. boxes: float32 (n, 4) each, x1 y1 x2 y2 in pixels of the frame. classes:
    int32 (n,) each, index into `class_names`. sessions: the camera and stretch of time of each.
    animals: the id of each box's animal, None where nobody said; all None when left out.
    """

    paths: tuple[Path, ...]
    boxes: tuple[Floats, ...]
    classes: tuple[NDArray[np.int32], ...]
    sessions: tuple[str, ...]
    class_names: tuple[str, ...]
    animals: tuple[tuple[str | None, ...], ...] = ()

    def __post_init__(self) -> None:
        if not self.animals:
            nobody = tuple((None,) * len(boxes) for boxes in self.boxes)
            object.__setattr__(self, "animals", nobody)
        parts = (self.paths, self.boxes, self.classes, self.sessions, self.animals)
        if len({len(part) for part in parts}) != 1:
            raise ValueError("paths, boxes, classes, sessions and animals must have one length")
        for boxes, classes, animals in zip(self.boxes, self.classes, self.animals, strict=True):
            if boxes.shape != (len(classes), 4):
                raise ValueError(f"boxes must be ({len(classes)}, 4), not {boxes.shape}")
            if len(animals) != len(boxes):
                raise ValueError(
                    f"{len(boxes)} boxes must have as many animals, not {len(animals)}"
                )
            if len(classes) and not 0 <= classes.min() <= classes.max() < len(self.class_names):
                raise ValueError("a class points outside the list of class names")

    def __len__(self) -> int:
        return len(self.paths)

    def select(self, which: NDArray[Any] | Sequence[int]) -> FrameSet:
        """Return the frames of a boolean mask (N,) or of indices; class names stay as they are."""
        rows = np.asarray(which)
        if rows.dtype == np.bool_:
            if rows.shape != (len(self),):
                raise ValueError(f"the mask must be ({len(self)},), not {rows.shape}")
            rows = np.flatnonzero(rows)
        chosen = [int(row) for row in rows]
        return FrameSet(
            tuple(self.paths[row] for row in chosen),
            tuple(self.boxes[row] for row in chosen),
            tuple(self.classes[row] for row in chosen),
            tuple(self.sessions[row] for row in chosen),
            self.class_names,
            tuple(self.animals[row] for row in chosen),
        )

    def with_classes(self, names: Sequence[str]) -> FrameSet:
        """Return the same boxes with classes as indices into `names`, which may lack unused ones.

        Raises DataError for a class that has boxes here and is not among `names`.
        """
        index = {name: row for row, name in enumerate(names)}
        target = np.array([index.get(name, -1) for name in self.class_names], np.int32)
        classes = tuple(target[rows] for rows in self.classes)
        for path, before, after in zip(self.paths, self.classes, classes, strict=True):
            if len(after) and after.min() < 0:
                strange = self.class_names[before[int(after.argmin())]]
                known = ", ".join(repr(name) for name in names)
                raise DataError(f"{path}: has a box of class {strange!r}; known are {known}")
        return replace(self, classes=classes, class_names=tuple(names))


def joined_frames(parts: Sequence[FrameSet]) -> FrameSet:
    """Return the frames of all parts, which have the same classes and sessions of their own."""
    return FrameSet(
        paths=tuple(path for part in parts for path in part.paths),
        boxes=tuple(boxes for part in parts for boxes in part.boxes),
        classes=tuple(classes for part in parts for classes in part.classes),
        sessions=tuple(f"{n}/{name}" for n, part in enumerate(parts) for name in part.sessions),
        class_names=parts[0].class_names,
        animals=tuple(animals for part in parts for animals in part.animals),
    )


def load_frames(
    frames: FrameSet,
    size: tuple[int, int],
    colour: Colour = (114, 114, 114),
    report: Report = silent,
) -> NDArray[np.uint8]:
    """Return all frames letterboxed to `size` (height, width): uint8 (N, height, width, 3) RGB."""
    return load_frames_and_boxes(frames, size, colour, report)[0]


def load_frames_and_boxes(
    frames: FrameSet,
    size: tuple[int, int],
    colour: Colour = (114, 114, 114),
    report: Report = silent,
) -> tuple[NDArray[np.uint8], tuple[Floats, ...]]:
    """Return frames as `load_frames`, and their boxes in pixels of the letterboxed frames.

    Only the small frames stay in memory. Raises DataError for an image that cannot be read or is
    smaller than its boxes say.
    """
    images = np.empty((len(frames), *size, 3), np.uint8)
    placed: list[Floats] = []
    for row, (path, boxes) in enumerate(zip(frames.paths, frames.boxes, strict=True)):
        image = load_image(path)
        height, width = image.shape[:2]
        if len(boxes) and (boxes[:, 2].max() > width or boxes[:, 3].max() > height):
            raise DataError(
                f"{path}: has {width}x{height} pixels and boxes outside of them; "
                "was it annotated at another size?"
            )
        images[row], box = letterbox(image, size, colour)
        placed.append(box.to_target(boxes))
        if row % _REPORT_EVERY == 0 or row + 1 == len(frames):
            report(row + 1, len(frames))
    return images, tuple(placed)

"""The one validation that annotations of every format go through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import DataError
from edge.vision.opencv import silence_opencv
from edge.vision.types import Floats
from trainer.data.annotations.raw import (
    Corners,
    Kind,
    Problem,
    RawBox,
    RawFrame,
    RawFrames,
    is_file,
    is_within,
    problem_of,
    whole,
)
from trainer.data.annotations.sessions import sessions_of_frames
from trainer.data.annotations.sizes import image_size, size_problem
from trainer.data.frames import FrameSet

# Labelling tools round: a box may reach this far over the edge and is cut there.
OVERSHOOT_PX = 1.0
silence_opencv()
_Add = Callable[[Kind, str, str], None]


@dataclass(frozen=True, slots=True, eq=False)
class Validated:
    """The frames and boxes that are right, and what is wrong with the others."""

    frames: FrameSet
    problems: tuple[Problem, ...]


def strict(raw: RawFrames) -> FrameSet:
    """Return the frames; DataError tells the first error: it would be trained on in silence."""
    validated = validate(raw)
    for problem in validated.problems:
        if problem.severity == "error":
            raise DataError(str(problem))
    return validated.frames


def validate(raw: RawFrames) -> Validated:
    """Check everything that can be told without looking at pictures.

    Class names are unique; each image is there once, within `raw.images`, under a name that is
    text, and has the size that is declared; boxes are finite, have an area and lie in their image.
    A box that reaches over the edge by a pixel of rounding is cut, as is one around another shape.
    Of an image only the header is read, unless no size is declared. A frame without boxes is a
    frame without animals.
    """
    problems = list(raw.problems)
    add = partial(_add, problems)
    names = _class_names(raw, add)
    if not raw.frames:
        add("no images", str(raw.source), "lists no images")
    index = {name: row for row, name in enumerate(names)}
    kept: list[tuple[RawFrame, str, list[Floats], list[RawBox]]] = []
    seen: set[Path] = set()
    sessions = sessions_of_frames(raw.frames, raw.images)
    for frame, session in zip(raw.frames, sessions, strict=True):
        if not _check_image(frame, raw, seen, add):
            continue
        if (wrong := size_problem(frame)) is not None:
            problems.append(wrong)
        boxes: list[Floats] = []
        right: list[RawBox] = []
        size = frame.size
        for box in frame.boxes:
            # Opened for frames with boxes only: nothing depends on an empty frame's size.
            size = size or _measured(frame, problems)
            if size is None:
                break
            if box.class_name.strip() not in index:
                known = ", ".join(names)
                add("unknown class", box.where, f"no class {box.class_name!r}; there are {known}")
            elif (corners := _corners(box, frame, size, add)) is not None:
                boxes.append(corners)
                right.append(box)
        kept.append((frame, session, boxes, right))
    frames = FrameSet(
        tuple(frame.path for frame, *_ in kept),
        tuple(np.array(boxes, np.float32).reshape(-1, 4) for _, _, boxes, _ in kept),
        tuple(_classes(right, index) for *_, right in kept),
        tuple(session for _, session, *_ in kept),
        names,
        tuple(tuple(box.animal for box in right) for *_, right in kept),
    )
    return Validated(frames, tuple(problems))


def overshoot(corners: Corners, size: tuple[int, int]) -> float:
    """Return by how many pixels a box reaches over an edge of its image (width, height)."""
    x1, y1, x2, y2 = corners
    return max(-x1, -y1, x2 - size[0], y2 - size[1])


def _add(problems: list[Problem], kind: Kind, where: str, message: str) -> None:
    problems.append(Problem(kind, where, message))


def _class_names(raw: RawFrames, add: _Add) -> tuple[str, ...]:
    """Return the names, each once, without the spaces around them: some formats lose those."""
    names = tuple(dict.fromkeys(name.strip() for name in raw.class_names))
    if not names and raw.frames and not raw.by_boxes:
        add("classes", str(raw.source), "lists no classes; it needs at least one box or class")
    if len(names) < len(raw.class_names):
        add("classes", str(raw.source), "class names are not unique")
    if "" in names:
        add("classes", str(raw.source), "a class has no name")
    return names


def _check_image(frame: RawFrame, raw: RawFrames, seen: set[Path], add: _Add) -> bool:
    """Say whether a frame's image is there, and there once."""
    if "\0" in frame.name or not is_within(raw.images, frame.path):
        add(
            "image outside its folder",
            frame.where,
            f"image {frame.name!r} leads out of {raw.images}; "
            "name the folder that holds all images (--images)",
        )
        return False
    if not is_file(frame.path):
        add("missing image", frame.where, f"image {frame.name!r} is not in {raw.images}")
        return False
    try:
        str(frame.path).encode()
    except UnicodeEncodeError:
        shown = str(frame.path).encode(errors="replace").decode()
        add("file name", frame.where, f"image {shown}: its name is not text in UTF-8; rename it")
        return False
    if whole(frame.path) in seen:
        add("image listed twice", frame.where, f"image {frame.name!r} is listed already")
        return False
    seen.add(whole(frame.path))
    return True


def _measured(frame: RawFrame, problems: list[Problem]) -> tuple[int, int] | None:
    try:
        return image_size(frame.path)
    except DataError as error:
        problems.append(problem_of("broken image", frame.path, error))
        return None


def _classes(boxes: list[RawBox], index: dict[str, int]) -> NDArray[np.int32]:
    return np.array([index[box.class_name.strip()] for box in boxes], np.int32)


def _corners(box: RawBox, frame: RawFrame, size: tuple[int, int], add: _Add) -> Floats | None:
    """Return a box (4,), cut to the image it must lie in, or None when something is wrong."""
    width, height = size
    x1, y1, x2, y2 = box.corners
    if not all(isfinite(value) for value in box.corners):
        add("box not finite", box.where, f"{box.shown()} has numbers that are not finite")
        return None
    if not (x2 > x1 and y2 > y1):
        text = f"{box.shown()} has no area; width and height must be more than 0"
        add("box without area", box.where, text)
        return None
    limits = np.array([width, height, width, height], np.float64)
    cut = np.clip(np.array(box.corners, np.float64), 0, limits).astype(np.float32)
    outside = f"reaches outside {frame.name} ({width}x{height} pixels)"
    if not box.hull and overshoot(box.corners, size) > OVERSHOOT_PX:
        add("box outside its image", box.where, f"{box.shown()} {outside}")
        return None
    if not (cut[2] > cut[0] and cut[3] > cut[1]):
        add("box without area", box.where, f"{box.shown()} has no area inside {frame.name}")
        return None
    return np.asarray(cut, np.float32)

"""Whole frames with their boxes, read from COCO annotations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.errors import DataError
from edge.vision.geometry import Colour, clip_boxes, letterbox
from edge.vision.types import Floats
from trainer.data.crops import load_image, session_of
from trainer.progress import Report, silent

# Labelling tools round: a box may reach this far over the edge and is cut there.
_OVERSHOOT_PX = 1.0
_REPORT_EVERY = 16


@dataclass(frozen=True, slots=True, eq=False)
class FrameSet:
    """N frames and what is in them, as parallel tuples. Images are read when they are needed.

    paths: image files. boxes: float32 (n, 4) each, x1 y1 x2 y2 in pixels of the frame. classes:
    int32 (n,) each, index into `class_names`. sessions: the camera and stretch of time of each.
    """

    paths: tuple[Path, ...]
    boxes: tuple[Floats, ...]
    classes: tuple[NDArray[np.int32], ...]
    sessions: tuple[str, ...]
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        lengths = {len(self.paths), len(self.boxes), len(self.classes), len(self.sessions)}
        if len(lengths) != 1:
            raise ValueError("paths, boxes, classes and sessions must have the same length")
        for boxes, classes in zip(self.boxes, self.classes, strict=True):
            if boxes.shape != (len(classes), 4):
                raise ValueError(f"boxes must be ({len(classes)}, 4), not {boxes.shape}")
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
        )


class _CocoImage(msgspec.Struct):
    id: int
    file_name: str
    width: int
    height: int
    session: str | None = None


class _CocoAnnotation(msgspec.Struct):
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    id: int | str = "without id"
    iscrowd: int = 0


class _CocoCategory(msgspec.Struct):
    id: int
    name: str


class _Coco(msgspec.Struct):
    images: list[_CocoImage]
    annotations: list[_CocoAnnotation]
    categories: list[_CocoCategory]


def read_coco(annotations: Path, images: Path | None = None) -> FrameSet:
    """Read frames and boxes from a COCO file; what it holds beside them is passed over.

    images: folder that file names are relative to, None for the file's own. A frame's session is
    its image's `session`, or else what its file name gives (`<session>_<frame>`). Frames without
    boxes are frames without animals. Raises DataError, one line that names the file, for anything
    that is not right: a mistake here would be trained on in silence.
    """
    coco = _decode(annotations)
    folder = annotations.parent if images is None else images
    class_of = {category.id: row for row, category in enumerate(coco.categories)}
    names = tuple(category.name for category in coco.categories)
    if not names:
        raise DataError(f"{annotations}: lists no categories; it needs at least one")
    for what, values in (("category ids", list(class_of)), ("category names", set(names))):
        if len(values) != len(coco.categories):
            raise DataError(f"{annotations}: {what} are not unique")
    if not coco.images:
        raise DataError(f"{annotations}: lists no images")
    row_of = {image.id: row for row, image in enumerate(coco.images)}
    if len(row_of) != len(coco.images):
        raise DataError(f"{annotations}: image ids are not unique")
    paths = tuple(_existing(annotations, folder, image.file_name) for image in coco.images)
    boxes: list[list[Floats]] = [[] for _ in paths]
    classes: list[list[int]] = [[] for _ in paths]
    for annotation in coco.annotations:
        where = f"{annotations}: annotation {annotation.id}"
        if annotation.image_id not in row_of:
            raise DataError(f"{where}: no image has the id {annotation.image_id}")
        if annotation.category_id not in class_of:
            known = ", ".join(str(number) for number in sorted(class_of))
            raise DataError(f"{where}: no category {annotation.category_id}; there are {known}")
        if annotation.iscrowd:
            raise DataError(f"{where}: marks a crowd; draw one box an animal instead")
        row = row_of[annotation.image_id]
        boxes[row].append(_checked(where, annotation, coco.images[row]))
        classes[row].append(class_of[annotation.category_id])
    return FrameSet(
        paths,
        tuple(np.array(rows, np.float32).reshape(-1, 4) for rows in boxes),
        tuple(np.array(rows, np.int32) for rows in classes),
        tuple(
            image.session or session_of(path)
            for image, path in zip(coco.images, paths, strict=True)
        ),
        names,
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


def _decode(annotations: Path) -> _Coco:
    try:
        return msgspec.json.decode(annotations.read_bytes(), type=_Coco)
    except FileNotFoundError as error:
        raise DataError(f"{annotations}: no such file; expected COCO annotations") from error
    except OSError as error:
        raise DataError(f"{annotations}: cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{annotations}: not COCO annotations: {error}") from error


def _existing(annotations: Path, folder: Path, name: str) -> Path:
    path = folder / name
    if "\0" in name or not path.is_file():
        raise DataError(f"{annotations}: image {name!r} is not in {folder}")
    return path


def _checked(where: str, annotation: _CocoAnnotation, image: _CocoImage) -> Floats:
    """Return an annotation's box (4,), cut to the image it must lie in."""
    x, y, width, height = annotation.bbox
    shown = f"box [{x:g}, {y:g}, {width:g}, {height:g}]"
    if not (width > 0 and height > 0):
        raise DataError(f"{where}: {shown} has no area; width and height must be more than 0")
    reach = max(-x, -y, x + width - image.width, y + height - image.height)
    if not reach <= _OVERSHOOT_PX:
        raise DataError(
            f"{where}: {shown} reaches outside {image.file_name} "
            f"({image.width}x{image.height} pixels)"
        )
    corners = np.array([[x, y, x + width, y + height]], np.float32)
    return clip_boxes(corners, image.width, image.height)[0]

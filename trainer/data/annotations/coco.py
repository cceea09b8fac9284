"""COCO object detection: one JSON file of images, annotations and categories.

Boxes are `[x, y, width, height]` in pixels. Beside the format's own fields an image may name its
`session`, and an annotation its animal: `animal_id` or `animal`, itself or among `attributes`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from edge.errors import DataError
from trainer.data.annotations.files import read_bytes
from trainer.data.annotations.placed import PlacedFrame
from trainer.data.annotations.raw import (
    Kind,
    Problem,
    RawBox,
    RawFrame,
    RawFrames,
    animal_of,
    declared_size,
    is_file,
)
from trainer.data.annotations.validate import strict
from trainer.data.frames import FrameSet

ANNOTATIONS_NAME = "annotations.json"
# What Windows tools put in front of text in UTF-8.
_BOM = b"\xef\xbb\xbf"


class _Image(msgspec.Struct):
    id: int
    file_name: str
    # Tools that keep their tables in floats write whole numbers as 640.0.
    width: float | None = None
    height: float | None = None
    session: str | None = None


class _Annotation(msgspec.Struct):
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    id: int | str = "without id"
    iscrowd: bool | int = 0
    animal_id: int | float | str | None = None
    animal: int | float | str | None = None
    attributes: Any = None

    def named(self) -> str | None:
        """Return the animal's id."""
        own = animal_of({"animal_id": self.animal_id, "animal": self.animal})
        return own or (animal_of(self.attributes) if isinstance(self.attributes, dict) else None)


class _Category(msgspec.Struct):
    id: int
    name: str


class _Coco(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def read_coco(annotations: Path, images: Path | None = None) -> FrameSet:
    """Read and check frames of a COCO file; what it holds beside them is passed over.

    images: folder that file names are relative to, None for the file's own. A frame's session is
    its image's `session`, or else what its file name gives (`<session>_<frame>`). Raises DataError,
    one line that names the file, for anything that is not right.
    """
    return strict(read(annotations, images))


def read(annotations: Path, images: Path | None = None) -> RawFrames:
    """Return what a COCO file says; DataError for one that is no COCO file."""
    coco = _decode(annotations)
    folder = annotations.parent if images is None else images
    if not coco.categories:
        raise DataError(f"{annotations}: lists no categories; it needs at least one")
    names = {category.id: category.name for category in coco.categories}
    for what, values in (("category ids", names), ("category names", set(names.values()))):
        if len(values) != len(coco.categories):
            raise DataError(f"{annotations}: {what} are not unique")
    if not coco.images:
        raise DataError(f"{annotations}: lists no images")
    rows = {image.id: row for row, image in enumerate(coco.images)}
    if len(rows) != len(coco.images):
        raise DataError(f"{annotations}: image ids are not unique")
    boxes: list[list[RawBox]] = [[] for _ in coco.images]
    problems: list[Problem] = []
    ids: set[int | str] = set()
    for number, annotation in enumerate(coco.annotations):
        place = annotation.id if annotation.id != "without id" else f"without id (number {number})"
        where = f"{annotations}: annotation {place}"
        if annotation.id != "without id" and annotation.id in ids:
            message = "its id is another annotation's as well; both are read"
            problems.append(Problem("annotation id", where, message, "warning"))
        ids.add(annotation.id)
        wrong = _refused(annotation, names, rows)
        if wrong is not None:
            problems.append(Problem(wrong[0], where, wrong[1]))
            continue
        x, y, width, height = annotation.bbox
        box = RawBox(
            (x, y, x + width, y + height),
            names[annotation.category_id],
            annotation.named(),
            where,
            annotation.bbox,
        )
        boxes[rows[annotation.image_id]].append(box)
    frames = tuple(
        RawFrame(
            image.file_name,
            _place(folder, image.file_name),
            _size(image, f"{annotations}: image {image.id}", problems),
            image.session,
            tuple(own),
            str(annotations),
        )
        for image, own in zip(coco.images, boxes, strict=True)
    )
    return RawFrames(annotations, folder, tuple(names.values()), frames, tuple(problems))


def document(frames: list[PlacedFrame], class_names: tuple[str, ...]) -> bytes:
    """Return a COCO file; the boxes' numbers read back as the same float32 corners."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, frame in enumerate(frames, 1):
        image = {"id": image_id, "file_name": frame.name, "session": frame.session}
        images.append(image | {"width": frame.width, "height": frame.height})
        for box in frame.boxes:
            x1, y1, x2, y2 = box.corners
            entry: dict[str, Any] = {
                "id": len(annotations) + 1,
                "image_id": image_id,
                "category_id": class_names.index(box.class_name) + 1,
                # In float64: x1 + (x2 - x1) is x2 again once it is rounded to float32.
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": 0,
            }
            if box.animal is not None:
                entry["animal_id"] = box.animal
            annotations.append(entry)
    categories = [{"id": row, "name": name} for row, name in enumerate(class_names, 1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    return msgspec.json.encode(content) + b"\n"


def write(frames: list[PlacedFrame], class_names: tuple[str, ...], folder: Path) -> None:
    """Write `annotations.json` into a folder; names of images are relative to it."""
    (folder / ANNOTATIONS_NAME).write_bytes(document(frames, class_names))


def _decode(annotations: Path) -> _Coco:
    data = read_bytes(annotations, "COCO annotations")
    try:
        return msgspec.json.decode(
            memoryview(data)[len(_BOM) * data.startswith(_BOM) :], type=_Coco
        )
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{annotations}: not COCO annotations: {error}") from error


def _place(folder: Path, name: str) -> Path:
    """Return where an image is: Windows' separators are meant, unless a file is called so."""
    path = folder / name
    return path if "\\" not in name or is_file(path) else folder / name.replace("\\", "/")


def _size(image: _Image, where: str, problems: list[Problem]) -> tuple[int, int] | None:
    sides = image.width or 0, image.height or 0
    if any(side != int(side) for side in sides):
        message = f"its size is {sides[0]:g} x {sides[1]:g}, not whole numbers"
        problems.append(Problem("broken file", where, message))
        return None
    return declared_size(*map(int, sides))


def _refused(
    annotation: _Annotation, names: dict[int, str], rows: dict[int, int]
) -> tuple[Kind, str] | None:
    """Say why an annotation cannot be read, or None."""
    if annotation.image_id not in rows:
        return "unknown image", f"no image has the id {annotation.image_id}"
    if annotation.category_id not in names:
        known = ", ".join(str(number) for number in sorted(names))
        return "unknown class", f"no category {annotation.category_id}; there are {known}"
    if annotation.iscrowd:
        return "crowd", "marks a crowd; draw one box an animal instead"
    for name, value in (("animal_id", annotation.animal_id), ("animal", annotation.animal)):
        if isinstance(value, float) and not value.is_integer():
            return "animal id", f"its {name} is {value:g}; write a whole number or text"
    return None

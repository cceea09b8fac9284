"""YOLO: a text file an image, a line a box, and `data.yaml` (see `data_yaml`).

A line is `class cx cy w h` as fractions of the image's width and height. Three and more points
(`class x1 y1 x2 y2 x3 y3 …`: segments and oriented boxes) become the upright box around them, and
of a pose's line (`kpt_shape` in `data.yaml`) the box is taken. A number or two after a box are a
detector's confidence and a track: such lines are guesses, not labels, and are refused. A box with
both has as many numbers as a triangle; points lie in the image, and a track is a whole number. The
labels of
`…/images/x.jpg` are `…/labels/x.txt`, or else lie beside the image; without any, the image shows
no animal. There is no room for animals' ids; sessions are in the file names.
"""

from __future__ import annotations

import re
from math import isfinite
from pathlib import Path

import yaml

from edge.errors import DataError
from trainer.data.annotations.data_yaml import DataYaml, images_of, read_data_yaml
from trainer.data.annotations.files import read_text
from trainer.data.annotations.placed import PlacedFrame
from trainer.data.annotations.raw import (
    Corners,
    Problem,
    RawBox,
    RawFrame,
    RawFrames,
    hull,
    is_file,
    is_within,
    problem_of,
)
from trainer.data.annotations.sizes import image_size
from trainer.data.annotations.validate import OVERSHOOT_PX, overshoot

DATA_NAME = "data.yaml"
_MOST_BYTES = 64 << 20
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(nan|inf)", re.IGNORECASE)
_SEGMENT_COLUMNS = 7
# Fractions are rounded: what lies so near the edge lay on it.
_EDGE_PX = 1e-6
_ROUNDING = 1e-5
_HEADER = """\
# Written by `earmark-trainer data convert`. `val` names the same images because some tools want
# one: split them before you believe their figures (earmark-trainer data split).
"""


def read(source: Path, images: Path | None = None, part: str | None = None) -> RawFrames:
    """Return what the labels under a `data.yaml` say; images are opened for their sizes.

    images: the root, instead of `path`. part: "train", "val" or "test", None for all of them.
    """
    data = read_data_yaml(source, images)
    wanted = [part] if part is not None else list(data.parts)
    frames: list[RawFrame] = []
    problems: list[Problem] = []
    seen: dict[Path, tuple[str, str]] = {}
    for name in wanted:
        if not data.parts.get(name) and part is not None:
            there = ", ".join(key for key, entries in data.parts.items() if entries)
            raise DataError(f"{source}: has no part {part!r}; there are {there}")
        for entry in data.parts[name]:
            for path in images_of(source, data.root, entry):
                other, other_entry = seen.setdefault(path, (name, entry))
                if (other, other_entry) == (name, entry):
                    frames.append(_frame(path, data, problems))
                elif other_entry != entry:
                    message = f"is in {name} ({entry}) and in {other} ({other_entry})"
                    problem = Problem("image listed twice", str(path), message, "warning")
                    problems.append(problem)
    problems += _orphans([frame.path for frame in frames]) if part is None else []
    names = tuple(data.names[number] for number in sorted(data.names))
    return RawFrames(source, data.root, names, tuple(frames), tuple(problems))


def labels_of(path: Path) -> Path:
    """Return where the labels of an image are looked for."""
    places = [row for row, part in enumerate(path.parts[:-1]) if part == "images"]
    if places:
        parts = list(path.parts)
        parts[places[-1]] = "labels"
        beside = Path(*parts).with_suffix(".txt")
        if is_file(beside) or not is_file(path.with_suffix(".txt")):
            return beside
    return path.with_suffix(".txt")


def write(frames: list[PlacedFrame], class_names: tuple[str, ...], folder: Path) -> None:
    """Write `labels` and `data.yaml` into a folder, images being in `images`.

    Numbers have all the digits of a float64: corners of 0 or of at least a thousandth of a pixel
    read back as the same float32.
    """
    (folder / "labels").mkdir()
    for frame in frames:
        lines = []
        for box in frame.boxes:
            x1, y1, x2, y2 = box.corners
            numbers = (
                (x1 + x2) / 2 / frame.width,
                (y1 + y2) / 2 / frame.height,
                (x2 - x1) / frame.width,
                (y2 - y1) / frame.height,
            )
            row = class_names.index(box.class_name)
            lines.append(f"{row} {' '.join(repr(value) for value in numbers)}\n")
        label = folder / "labels" / f"{Path(frame.name).stem}.txt"
        label.write_text("".join(lines), encoding="utf-8")
    content = {"train": "images", "val": "images", "names": dict(enumerate(class_names))}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    (folder / DATA_NAME).write_text(_HEADER + text, encoding="utf-8")


def _frame(path: Path, data: DataYaml, problems: list[Problem]) -> RawFrame:
    label = labels_of(path)
    boxes: list[RawBox] = []
    size = None
    name = str(path.relative_to(data.root) if path.is_relative_to(data.root) else path)
    # A missing image is told by the validation, as in every format.
    if is_within(data.root, path) and is_file(path) and is_file(label):
        lines = _lines(label, problems)
        size = _size(path, problems) if lines else None
        for row, line in lines:
            if size is None:
                break
            where = f"{label}: line {row}"
            try:
                boxes.append(_box(line.split(), size, data, where))
            except ValueError as error:
                problems.append(Problem("broken file", where, str(error)))
    return RawFrame(name, path, size, None, tuple(boxes), str(label))


def _orphans(paths: list[Path]) -> list[Problem]:
    """Return warnings about images without labels and labels without an image."""
    labels = {labels_of(path): path for path in paths if is_file(path)}
    problems = []
    for label, path in labels.items():
        if not is_file(label):
            message = f"has no labels ({label}), so it counts as showing no animal"
            problems.append(Problem("image without annotations", str(path), message, "warning"))
    for folder in sorted({label.parent for label in labels}):
        for label in sorted(folder.glob("*.txt")):
            # labelImg and CVAT write the classes' names beside the labels.
            if label not in labels and label.stem not in ("classes", "train", "val", "test"):
                message = "labels an image that is not listed"
                problems.append(Problem("unknown image", str(label), message, "warning"))
    return problems


def _lines(label: Path, problems: list[Problem]) -> list[tuple[int, str]]:
    """Return the lines that hold anything, with their numbers from 1."""
    try:
        text = read_text(label, "YOLO labels", _MOST_BYTES)
    except DataError as error:
        problems.append(problem_of("broken file", label, error))
        return []
    return [(row, line) for row, line in enumerate(text.split("\n"), 1) if line.strip()]


def _size(path: Path, problems: list[Problem]) -> tuple[int, int] | None:
    try:
        return image_size(path)
    except DataError as error:
        problems.append(problem_of("broken image", path, error))
        return None


def _is_tracked(values: list[float]) -> bool:
    """Say whether seven numbers are a box within its image, a confidence and a track's number."""
    if len(values) != 7 or not all(map(isfinite, values)):
        return False
    _, x, y, w, h, _, track = values
    inside = all(
        side / 2 - _ROUNDING <= centre <= 1 - side / 2 + _ROUNDING
        for centre, side in ((x, w), (y, h))
    )
    return inside and w > 0 and h > 0 and track == int(track)


def _box(columns: list[str], size: tuple[int, int], data: DataYaml, where: str) -> RawBox:
    """Return a line's box; ValueError says what is wrong with the line."""
    for text in columns:
        if not _NUMBER.fullmatch(text):
            raise ValueError(f"{text[:40]!r} is not a number")
    values = [float(text) for text in columns]
    if data.keypoint_columns and len(values) == 5 + data.keypoint_columns:
        values = values[:5]
    if len(values) == 6 or _is_tracked(values):
        what = "last is a confidence or a track" if len(values) == 6 else "last is a track"
        raise ValueError(
            f"has {len(values)} numbers; the {what}, so this is a detector's guess and "
            "no label: correct it by hand and leave `class cx cy w h`"
        )
    if len(values) != 5 and (len(values) < _SEGMENT_COLUMNS or len(values) % 2 == 0):
        raise ValueError(
            f"has {len(values)} numbers; expected `class cx cy w h` or class and points"
        )
    number = values[0]
    if not isfinite(number) or number != int(number) or int(number) not in data.names:
        known = ", ".join(f"{key} ({name})" for key, name in sorted(data.names.items()))
        raise ValueError(f"no class {columns[0][:40]}; there are {known}")
    width, height = size
    points = len(values) > 5
    if not points:
        _, x, y, w, h = values
        corners: Corners = (
            x * width - w * width / 2,
            y * height - h * height / 2,
            x * width + w * width / 2,
            y * height + h * height / 2,
        )
    else:
        corners = _around(values[1:], size)
    x1, y1, x2, y2 = (0.0 if abs(value) < _EDGE_PX else value for value in corners)
    return RawBox((x1, y1, x2, y2), data.names[int(number)], None, where, tuple(values[1:]), points)


def _around(points: list[float], size: tuple[int, int]) -> Corners:
    """Return the box around points (x y x y …, fractions); ValueError for one that lies outside."""
    shown = ", ".join(f"{value:g}" for value in points[:6]) + (", …" if len(points) > 6 else "")
    if not all(map(isfinite, points)):
        raise ValueError(f"its points ({shown}) hold numbers that are not finite")
    width, height = size
    corners = hull((x * width, y * height) for x, y in zip(points[::2], points[1::2], strict=True))
    if overshoot(corners, size) > OVERSHOOT_PX:
        raise ValueError(f"its points ({shown}) lie outside the image; they are fractions, 0 to 1")
    return corners

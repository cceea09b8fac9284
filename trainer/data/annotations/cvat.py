"""CVAT XML 1.1, "for images" and "for video": https://docs.cvat.ai/docs/manual/advanced/xml_format

Boxes are `xtl ytl xbr ybr` in pixels from 0. A rotated box, polygon, ellipse or mask becomes the
upright box around it; polylines, points and the like are no boxes, and `data check` counts them.
An attribute `animal_id` or `animal` of a box names its animal. `session`, an attribute that other
readers ignore, may stand at an `<image>`.

A video's tracks are boxes by frame. CVAT lists every frame of a track; where a file lists key
frames only, those between are interpolated as CVAT does, on a straight line, from each frame that
is not `outside` to the next listed one. Nothing is guessed after the last. Images of a video's
frames are named `frame_000012` as CVAT exports them, or `<session>_000012`; the session is the
video's name. Frames without an image are left out as long as some have one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from math import cos, radians, sin
from pathlib import Path
from xml.etree.ElementTree import Element

from edge.errors import DataError
from trainer.data.annotations.markup import parse, text_of
from trainer.data.annotations.raw import (
    Corners,
    Problem,
    RawBox,
    RawFrame,
    RawFrames,
    animal_of,
    declared_size,
    hull,
)
from trainer.data.annotations.video import VideoImages

_NO_BOXES = ("polyline", "points", "cuboid", "skeleton")
_SIDES = ("xtl", "ytl", "xbr", "ybr")
# A day of video at 25 frames a second. What says more would fill the memory with nothing.
_MOST_FRAMES = 2_200_000
_MOST_BETWEEN = 20_000_000


@dataclass(frozen=True, slots=True)
class _Shape:
    """One shape of a track. outside: the animal is not to be seen; hull: as in RawBox."""

    frame: int
    corners: Corners
    outside: bool
    hull: bool
    animal: str | None
    where: str


def read(source: Path, images: Path | None = None, every: int | None = None) -> RawFrames:
    """Return what a CVAT file says; DataError for one that is none.

    images: folder that image names are relative to, None for `images` beside the file or, without
    that, the file's own. every: a video's frames are still to be taken, every so many.
    """
    root = parse(source, "a CVAT file", "annotations")
    beside = source.parent / "images"
    folder = images or (beside if beside.is_dir() else source.parent)
    problems: list[Problem] = []
    frames = [_image(source, entry, folder, problems) for entry in root.iterfind("image")]
    tracks = root.findall("track")
    if tracks:
        if len(root.findall("meta//task")) > 1:
            raise DataError(f"{source}: holds several videos; export each task by itself")
        video = text_of(root, "meta//source")
        session = Path(video.replace("\\", "/")).stem or source.stem
        place = VideoImages(source, folder, session, every)
        filmed = _filmed(source, root, tracks, place, problems)
        if not filmed and not video and root.find("meta") is not None:
            # Such a task numbers its images in an order that the file does not tell.
            raise DataError(
                f"{source}: has tracks and names no video: a task of images, exported as one of a "
                'video; export it as "CVAT for images 1.1"'
            )
        if not filmed:
            raise DataError(f"{source}: {place.missing()}")
        frames += filmed
    if not frames:
        raise DataError(f"{source}: lists no images and no tracks")
    used = {box.class_name.strip() for frame in frames for box in frame.boxes}
    labels = [text_of(label, "name") for label in root.iterfind("meta//labels/label")]
    # A file without its meta part has the classes that it uses; a project lists labels by task.
    names = tuple(dict.fromkeys(labels)) or tuple(sorted(used))
    return RawFrames(source, folder, names, tuple(frames), tuple(problems))


def _image(source: Path, entry: Element, folder: Path, problems: list[Problem]) -> RawFrame:
    name = entry.get("name", "")
    where = f"{source}: image {name!r}"
    boxes = []
    for row, shape in enumerate(entry, 1):
        place = f"{where}: shape {row}"
        label = shape.get("label", "")
        if (found := _corners(shape, place, problems)) is not None:
            boxes.append(RawBox(found[0], label, _animal(shape), place, hull=found[1]))
    try:
        size = declared_size(*(int(entry.get(side, "0")) for side in ("width", "height")))
    except ValueError:
        problems.append(Problem("broken file", where, "its width and height are no whole numbers"))
        size = None
    if not name:
        problems.append(Problem("broken file", where, "has no name"))
    path = folder / name.replace("\\", "/")
    return RawFrame(name, path, size, entry.get("session") or None, tuple(boxes), where)


def _corners(shape: Element, where: str, problems: list[Problem]) -> tuple[Corners, bool] | None:
    """Return a shape's box and whether it is a hull, or None for what is none."""
    try:
        match shape.tag:
            case "box":
                x1, y1, x2, y2 = (_number(shape, side) for side in _SIDES)
                angle = _number(shape, "rotation", "0")
                if angle % 360 == 0:
                    return (x1, y1, x2, y2), False
                return _turned((x1, y1, x2, y2), angle), True
            case "polygon":
                return hull(_points(shape)), True
            case "ellipse":
                return _ellipse(shape), True
            case "mask":
                x, y = _number(shape, "left"), _number(shape, "top")
                return (x, y, x + _number(shape, "width"), y + _number(shape, "height")), True
            case tag if tag in _NO_BOXES:
                message = f"a {tag} is no box and is passed over"
                problems.append(Problem("shape passed over", where, message, "warning"))
    except ValueError as error:
        problems.append(Problem("broken file", where, f"<{shape.tag}>: {error}"))
    return None


def _number(element: Element, name: str, default: str | None = None) -> float:
    text = element.get(name, default)
    if text is None:
        raise ValueError(f"has no {name!r}")
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"its {name} is {text[:40]!r}, not a number") from None


def _whole(element: Element, name: str) -> int:
    text = element.get(name, "")
    if not (text.isascii() and text.isdecimal()) or len(text) > 9 or int(text) > _MOST_FRAMES:
        raise ValueError(f"its {name} is {text[:40]!r}, not a frame's number")
    return int(text)


def _points(shape: Element) -> Iterator[tuple[float, float]]:
    text = shape.get("points", "")
    for pair in text.split(";"):
        x, _, y = pair.partition(",")
        try:
            yield float(x), float(y)
        except ValueError:
            raise ValueError(f"its points hold {pair[:40]!r}; expected x,y;x,y;…") from None


def _turned(corners: Corners, degrees: float) -> Corners:
    """Return the upright box around a box that is turned about its centre, clockwise."""
    x1, y1, x2, y2 = corners
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    c, s = abs(cos(radians(degrees))), abs(sin(radians(degrees)))
    half_width, half_height = (x2 - x1) / 2, (y2 - y1) / 2
    if half_width <= 0 or half_height <= 0:
        return corners
    across = half_width * c + half_height * s
    down = half_width * s + half_height * c
    return x - across, y - down, x + across, y + down


def _ellipse(shape: Element) -> Corners:
    """Return the upright box around an ellipse."""
    x, y, a, b = (_number(shape, name) for name in ("cx", "cy", "rx", "ry"))
    angle = radians(_number(shape, "rotation", "0"))
    across = ((a * cos(angle)) ** 2 + (b * sin(angle)) ** 2) ** 0.5
    down = ((a * sin(angle)) ** 2 + (b * cos(angle)) ** 2) ** 0.5
    return x - across, y - down, x + across, y + down


def _animal(shape: Element) -> str | None:
    return animal_of(
        {entry.get("name", ""): (entry.text or "") for entry in shape.iterfind("attribute")}
    )


def _filmed(
    source: Path,
    root: Element,
    tracks: list[Element],
    place: VideoImages,
    problems: list[Problem],
) -> list[RawFrame]:
    """Return the frames of a video's tracks."""
    first, last, step = _range(source, root)
    shapes = [(track.get("label", ""), _shapes(source, track, problems)) for track in tracks]
    gaps = [
        _between(shape, after, first, step)
        for _, own in shapes
        for shape, after in pairwise(own)
        if not shape.outside
    ]
    if sum(map(len, gaps)) > _MOST_BETWEEN:
        raise DataError(f"{source}: more than {_MOST_BETWEEN} boxes lie between its key frames")
    listed = {shape.frame for _, own in shapes for shape in own}
    listed.update(*gaps)
    # What the task lists is labelled as well where it shows nothing.
    listed.update(range(first, 0 if last is None else last + 1, step))
    wanted = place.wanted(sorted(listed))
    boxes: dict[int, list[RawBox]] = {number: [] for number in wanted}
    for label, own in shapes:
        for shape in _interpolated(own, first, step):
            if not shape.outside and shape.frame in boxes:
                box = RawBox(shape.corners, label, shape.animal, shape.where, hull=shape.hull)
                boxes[shape.frame].append(box)
    size = _video_size(source, root, problems)
    return [place.frame(number, size, boxes[number]) for number in wanted]


def _shapes(source: Path, track: Element, problems: list[Problem]) -> list[_Shape]:
    shapes: dict[int, _Shape] = {}
    for row, entry in enumerate(track, 1):
        where = f"{source}: track {track.get('id', '?')}: shape {row}"
        if (found := _corners(entry, where, problems)) is None:
            continue
        corners, hulled = found
        try:
            frame = _whole(entry, "frame")
        except ValueError as error:
            problems.append(Problem("broken file", where, str(error)))
            continue
        where = f"{source}: track {track.get('id', '?')}: frame {frame}"
        outside = entry.get("outside") == "1"
        # A track is on a frame once. CVAT lists a shape that ends on the frame of another first.
        if frame not in shapes or shapes[frame].outside:
            shapes[frame] = _Shape(frame, corners, outside, hulled, _animal(entry), where)
        elif not outside:
            problems.append(Problem("broken file", where, "the track is on this frame twice"))
    return [shapes[frame] for frame in sorted(shapes)]


def _between(shape: _Shape, after: _Shape, first: int, step: int) -> range:
    """Return the frames of a task between two shapes: every `step`th, counted from `first`."""
    start = shape.frame + 1
    return range(start + (first - start) % step, after.frame, step)


def _interpolated(shapes: list[_Shape], first: int, step: int) -> Iterator[_Shape]:
    """Yield a track's shapes and those between them."""
    for shape, after in zip_longest(shapes, shapes[1:]):
        yield shape
        if shape.outside or after is None:
            continue
        for frame in _between(shape, after, first, step):
            t = (frame - shape.frame) / (after.frame - shape.frame)
            x1, y1, x2, y2 = (
                a + (b - a) * t for a, b in zip(shape.corners, after.corners, strict=True)
            )
            where = f"{shape.where}: interpolated to frame {frame}"
            yield _Shape(frame, (x1, y1, x2, y2), False, shape.hull, shape.animal, where)


def _range(source: Path, root: Element) -> tuple[int, int | None, int]:
    """Return the task's first and last frame (None when it does not say) and its step."""
    texts = [text_of(root, f"meta//{name}") for name in ("start_frame", "stop_frame")]
    rule = text_of(root, "meta//frame_filter").replace(" ", "").removeprefix("step=")
    for name, text in zip(
        ("start_frame", "stop_frame", "frame_filter"), (*texts, rule), strict=True
    ):
        digits = text.isascii() and text.isdecimal() and len(text) <= 9
        if text and not (digits and int(text) <= _MOST_FRAMES):
            raise DataError(f"{source}: its <{name}> is {text[:40]!r}, not a frame's number")
    first, last = (int(text) if text else None for text in texts)
    return first or 0, last, max(1, int(rule or "1"))


def _video_size(source: Path, root: Element, problems: list[Problem]) -> tuple[int, int] | None:
    texts = [text_of(root, f"meta//original_size/{side}") for side in ("width", "height")]
    if not any(texts):
        return None
    try:
        width, height = (int(text) for text in texts)
    except ValueError:
        message = "its <original_size> is not two whole numbers"
        problems.append(Problem("broken file", str(source), message))
        return None
    return declared_size(width, height)

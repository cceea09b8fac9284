"""Identity crops out of annotated frames whose boxes say which animal they show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.errors import DataError, UsageError
from edge.messaging.topics import check_animals
from edge.vision.geometry import box_areas, clip_boxes, crop_pixels
from edge.vision.quality import CropGates, covered_fractions
from edge.vision.types import Floats, Image
from trainer.data.annotations.raw import RawFrames
from trainer.data.annotations.sessions import frame_of
from trainer.data.annotations.validate import strict
from trainer.data.crops import by_time, load_image
from trainer.data.frames import FrameSet
from trainer.labelling.files import crop_name, encode
from trainer.labelling.jitter import MOST_JITTER, USUAL_JITTER, jittered
from trainer.progress import Report, silent

_GATES = CropGates()
NO_ID, TWICE = "without an id", "of an animal that is twice in its frame"
SMALL, CUT_OFF, CROWDED = "too small", "cut off by the frame's edge", "crowded"


@dataclass(frozen=True, slots=True)
class CutOptions:
    """What is cut, and how.

    jitter: see `jittered`. copies: crops of each box, each with another jitter. margin: share of
    its sides by which a box grows on each of them first. every: of each session, the first, the
    (1 + every)th … annotated frame. least_px: shorter side of the box in pixels of the frame.
    least_visible: share of the box that lies in the frame, where the annotations tell: of shapes
    that became boxes; a drawn box ends at the edge. most_covered: share of the box that another
    one covers; more is `crowded` to a device as well. prefix: in front of every animal's id.
    """

    jitter: float = USUAL_JITTER
    copies: int = 1
    margin: float = 0.0
    every: int = 1
    least_px: float = _GATES.min_side_px
    least_visible: float = 0.6
    most_covered: float = _GATES.max_covered
    seed: int = 0
    prefix: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.jitter <= MOST_JITTER:
            raise UsageError(f"jitter must be 0 to {MOST_JITTER}, not {self.jitter}")
        if not 0 <= self.margin <= 1:
            raise UsageError(f"margin must be 0 to 1, not {self.margin}")
        if self.seed < 0:
            raise UsageError(f"seed must be 0 or more, not {self.seed}")
        if self.copies < 1 or self.every < 1:
            raise UsageError("copies and every must be 1 or more")
        if self.copies > 1 and not self.jitter:
            raise UsageError("copies without jitter would all be the same crop")


@dataclass(frozen=True, slots=True, eq=False)
class Visible:
    """Annotated frames, and how much of each box's shape lies in its frame: (n,) float32 each."""

    frames: FrameSet
    shares: tuple[Floats, ...]


def read_visible(raw: RawFrames) -> Visible:
    """Return checked frames with what their annotations say of the frame's edge.

    Raises DataError, one line, for the first thing that is wrong with them.
    """
    frames = strict(raw)
    shares = []
    for boxes, frame in zip(frames.boxes, raw.frames, strict=True):
        whole = np.array([box.corners for box in frame.boxes], np.float64).reshape(-1, 4)
        areas = np.prod(whole[:, 2:] - whole[:, :2], axis=1)
        shares.append(np.asarray(np.minimum(box_areas(boxes) / areas, 1), np.float32))
    return Visible(frames, tuple(shares))


def cut_crops(
    visible: Visible, folder: Path, options: CutOptions, report: Report = silent
) -> Counter[str]:
    """Write `<animal>/<session>_<frame>.jpg` into an empty folder; return why boxes were left out.

    The pixels are those that a device would cut from the (jittered) box. The same options and
    frames give the same files. Raises UsageError for an id that cannot be an animal's, DataError
    when no box has an id or none is good, and for an image that cannot be read.
    """
    frames = visible.frames
    _check_ids(frames, options.prefix)
    rng = np.random.default_rng(options.seed)
    skipped: Counter[str] = Counter()
    taken: set[str] = set()
    rows = _chosen(frames, options.every)
    for done, row in enumerate(rows, 1):
        reasons = _reasons(frames.boxes[row], frames.animals[row], visible.shares[row], options)
        skipped.update(reason for reason in reasons if reason is not None)
        good = [number for number, reason in enumerate(reasons) if reason is None]
        if good:
            image = _image(frames, row)
            session, frame = frames.sessions[row], frame_of(frames.paths[row], frames.sessions[row])
            for number, copy, crop in _crops(image, frames.boxes[row], good, options, rng):
                animal = f"{options.prefix}{frames.animals[row][number]}"
                path = _free(folder / animal, session, frame, copy, taken)
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(encode(crop))
        report(done, len(rows))
    if not taken:
        told = ", ".join(f"{count} {reason}" for reason, count in skipped.most_common())
        raise DataError(f"no crop could be cut: {told or 'there are no boxes'}")
    return skipped


def _check_ids(frames: FrameSet, prefix: str) -> None:
    names = {name for animals in frames.animals for name in animals if name is not None}
    if not names:
        raise DataError(
            "no box says which animal it shows; see docs/annotations.md for where ids stand, or "
            "let `crops propose` find tracklets to name"
        )
    try:
        check_animals(f"{prefix}{name}" for name in sorted(names))
    except UsageError as error:
        raise UsageError(
            f"{error}; rename it in the annotations, or put something in front of all (--prefix)"
        ) from error


def _chosen(frames: FrameSet, every: int) -> list[int]:
    """Return every so many frames of each session, in the order of time."""
    sessions: dict[str, list[int]] = {}
    for row in sorted(range(len(frames)), key=lambda row: by_time(frames.paths[row])):
        sessions.setdefault(frames.sessions[row], []).append(row)
    return [row for own in sessions.values() for row in own[::every]]


def _reasons(
    boxes: Floats, animals: tuple[str | None, ...], shares: Floats, options: CutOptions
) -> list[str | None]:
    """Return why each box is left out, None for a good one."""
    covered = covered_fractions(boxes)
    count = Counter(animals)
    reasons: list[str | None] = []
    for number, animal in enumerate(animals):
        side = float((boxes[number, 2:] - boxes[number, :2]).min())
        if animal is None:
            reasons.append(NO_ID)
        elif count[animal] > 1:
            # One of them is another animal, and nobody knows which.
            reasons.append(TWICE)
        elif side < options.least_px:
            reasons.append(SMALL)
        elif shares[number] < options.least_visible:
            reasons.append(CUT_OFF)
        elif covered[number] > options.most_covered:
            reasons.append(CROWDED)
        else:
            reasons.append(None)
    return reasons


def _crops(
    image: Image, boxes: Floats, good: list[int], options: CutOptions, rng: np.random.Generator
) -> Iterator[tuple[int, int, Image]]:
    """Yield the box's number, the copy's (from 1) and its pixels."""
    height, width = image.shape[:2]
    grown = boxes[good] + np.tile(boxes[good, 2:] - boxes[good, :2], 2) * (
        np.array([-1, -1, 1, 1], np.float32) * np.float32(options.margin)
    )
    for copy in range(1, options.copies + 1):
        cut = clip_boxes(jittered(grown, options.jitter, rng), width, height)
        for number, box in zip(good, cut, strict=True):
            yield number, copy, crop_pixels(image, box)


def _image(frames: FrameSet, row: int) -> Image:
    path, boxes = frames.paths[row], frames.boxes[row]
    image = load_image(path)
    height, width = image.shape[:2]
    if boxes[:, 2].max() > width or boxes[:, 3].max() > height:
        raise DataError(
            f"{path}: has {width}x{height} pixels and boxes outside of them; "
            "was it annotated at another size?"
        )
    return image


def _free(folder: Path, session: str, frame: str, copy: int, taken: set[str]) -> Path:
    """Return a path that no other crop has: sessions may differ in what no file's name can hold."""
    path = folder / crop_name(session, frame, copy)
    # Case counts on some systems only.
    while str(path).lower() in taken:
        copy += 1
        path = folder / crop_name(session, frame, copy)
    taken.add(str(path).lower())
    return path

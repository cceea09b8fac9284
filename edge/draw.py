"""Frames with boxes and names on them, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from edge.errors import EarmarkError
from edge.identity.types import Track
from edge.vision.types import Image

_GREY = (150, 150, 150)
_INK = (15, 15, 15)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_QUALITIES = (85, 70, 55, 40)
_NARROWEST = 120

_Rectangle = tuple[int, int, int, int]


def annotate(image: Image, tracks: Sequence[Track]) -> Image:
    """Return a copy of a frame (H, W, 3) RGB with every track's box, name and confidence.

    An animal's colour is always the same. Who is not named has a grey box with the reason; who is
    missing for the moment has a thin one.
    """
    canvas = image.copy()
    scale = max(0.4, image.shape[1] / 2200)
    # Who has a name and is seen is drawn last, on top of the others.
    ordered = sorted(tracks, key=lambda track: (track.animal is not None, track.seen))
    for track in ordered:
        x1, y1, x2, y2 = _corners(track)
        thickness = 2 if track.seen else 1
        cv2.rectangle(canvas, (x1, y1), (x2, y2), _colour(track), thickness, cv2.LINE_AA)
    plates: list[_Rectangle] = []
    spots = {}
    for track in reversed(ordered):
        (width, height), baseline = cv2.getTextSize(label(track), _FONT, scale, 1)
        spots[track.id] = _spot(_corners(track), (width + 4, height + baseline + 2), plates, canvas)
        plates.append(spots[track.id])
    for track in ordered:
        _write(canvas, label(track), spots[track.id], _colour(track), scale)
    return canvas


@dataclass(frozen=True, slots=True)
class Still:
    """A JPEG file and its size in pixels."""

    data: bytes
    width: int
    height: int


def jpeg_still(image: Image, tracks: Sequence[Track], width: int, limit_bytes: int) -> Still:
    """Return a frame (H, W, 3) RGB with names drawn as a JPEG of at most `limit_bytes`.

    It is `width` pixels wide, or as the frame when that is narrower; quality gives way first, then
    the width. EarmarkError when nothing legible fits.
    """
    while True:
        scale = min(1.0, width / image.shape[1])
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        small: Image = image
        if scale < 1:
            small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        boxed = [replace(track, box=track.box * scale) for track in tracks]
        picture = cv2.cvtColor(annotate(small, boxed), cv2.COLOR_RGB2BGR)
        for quality in _QUALITIES:
            done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
            if done and len(data) <= limit_bytes:
                return Still(data.tobytes(), *size)
        width = size[0] // 2
        if width < _NARROWEST:
            raise EarmarkError(f"no picture of this frame fits into {limit_bytes} bytes")


def label(track: Track) -> str:
    """Return what is written at a box: name and confidence, or why there is no name."""
    if track.animal is not None:
        return f"{track.animal} {100 * track.confidence:.0f}%"
    return f"{track.reason or 'unknown'}" if track.settled else "..."


def animal_colour(animal: str) -> tuple[int, int, int]:
    """Return an animal's RGB colour: bright, and spread over the hues by a hash of its id."""
    number = 0
    for character in animal:
        number = (number * 31 + ord(character)) % 65_521
    # The golden angle keeps neighbours in a herd's numbering apart.
    hsv = np.array([[[int(number * 0.618_034 * 180) % 180, 190, 255]]], np.uint8)
    red, green, blue = (int(value) for value in cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0])
    return red, green, blue


def _colour(track: Track) -> tuple[int, int, int]:
    return _GREY if track.animal is None else animal_colour(track.animal)


def _corners(track: Track) -> _Rectangle:
    x1, y1, x2, y2 = (round(float(value)) for value in track.box)
    return x1, y1, x2, y2


def _spot(
    box: _Rectangle, size: tuple[int, int], taken: Sequence[_Rectangle], canvas: Image
) -> _Rectangle:
    """Return where a label of `size` (width, height) hides least of those that are `taken`.

    Above the box, below it, or inside at its top or bottom; always within the frame.
    """
    width, height = size
    x1, y1, _, y2 = box
    x = min(max(x1, 0), max(0, canvas.shape[1] - width))
    spots = []
    for y in (y1 - height, y2, y1, y2 - height):
        top = min(max(y, 0), max(0, canvas.shape[0] - height))
        spots.append((x, top, x + width, top + height))
    return min(spots, key=lambda spot: sum(_shared(spot, other) for other in taken))


def _shared(a: _Rectangle, b: _Rectangle) -> int:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0)


def _write(
    canvas: Image, text: str, plate: _Rectangle, colour: tuple[int, int, int], scale: float
) -> None:
    """Write `text` on a plate of `colour`."""
    x1, y1, x2, y2 = plate
    (_, height), _ = cv2.getTextSize(text, _FONT, scale, 1)
    cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, cv2.FILLED)
    cv2.putText(canvas, text, (x1 + 2, y1 + height + 1), _FONT, scale, _INK, 1, cv2.LINE_AA)

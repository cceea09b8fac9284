"""Frames with boxes and names on them, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from edge.identity.types import Track
from edge.vision.types import Image

_GREY = (150, 150, 150)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def annotate(image: Image, tracks: Sequence[Track]) -> Image:
    """Return a copy of a frame (H, W, 3) RGB with every track's box, name and confidence.

    An animal's colour is always the same. Who is not named has a grey box with the reason; who is
    missing for the moment has a thin one.
    """
    canvas = image.copy()
    scale = max(0.4, image.shape[1] / 2200)
    for track in sorted(tracks, key=lambda track: track.seen):
        colour = _GREY if track.animal is None else animal_colour(track.animal)
        x1, y1, x2, y2 = (round(float(value)) for value in track.box)
        cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, 2 if track.seen else 1, cv2.LINE_AA)
        _label(canvas, label(track), (x1, y1), colour, scale)
    return canvas


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


def _label(
    canvas: Image, text: str, corner: tuple[int, int], colour: tuple[int, int, int], scale: float
) -> None:
    """Write `text` on a plate of `colour` above a box, or inside it at the frame's top."""
    (width, height), baseline = cv2.getTextSize(text, _FONT, scale, 1)
    tall = height + baseline + 2
    x = min(max(corner[0], 0), max(0, canvas.shape[1] - width - 4))
    y = corner[1] - tall if corner[1] >= tall else corner[1]
    y = min(max(y, 0), canvas.shape[0] - tall)
    cv2.rectangle(canvas, (x, y), (x + width + 4, y + tall), colour, cv2.FILLED)
    cv2.putText(canvas, text, (x + 2, y + height + 1), _FONT, scale, (15, 15, 15), 1, cv2.LINE_AA)

"""Cost against number of animals, drawn with OpenCV only: devices have no plotting library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from edge.bench.measure import Measurement, slope_and_base
from edge.vision.types import Image

_SIZE = (540, 860)
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 30, 56, 64
_INK, _GRID = (40, 40, 40), (222, 222, 222)
_COLOURS = ((31, 119, 180), (214, 90, 20))
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def cost_picture(series: Mapping[str, Sequence[Measurement]]) -> Image:
    """Return a chart, uint8 (540, 860, 3) RGB, of median frame time against animals.

    series: measurements by what they are called. The bars reach to the 95th percentile; the line is
    the straight one that fits best.
    """
    height, width = _SIZE
    canvas = np.full((height, width, 3), 255, np.uint8)
    every = [one for rows in series.values() for one in rows]
    most_x = max(one.animals for one in every) * 1.05
    # One disturbance shall not squeeze everything else: bars may leave the picture.
    most_y = _round_up(min(max(o.p95_ms for o in every), 2 * max(o.median_ms for o in every)))

    def place(animals: float, ms: float) -> tuple[int, int]:
        x = _LEFT + animals / most_x * (width - _LEFT - _RIGHT)
        y = height - _BOTTOM - ms / most_y * (height - _TOP - _BOTTOM)
        return round(x), round(y)

    for part in range(6):
        ms = most_y * part / 5
        cv2.line(canvas, place(0, ms), place(most_x, ms), _GRID, 1)
        x, y = place(0, ms)
        _text(canvas, f"{ms:g}", (x - 10, y + 5), right=True)
    for animals in sorted({one.animals for one in every}):
        x, y = place(animals, 0)
        _text(canvas, str(animals), (x, y + 22), middle=True)
    cv2.line(canvas, place(0, 0), place(most_x, 0), _INK, 1)
    _text(canvas, "animals in the frame", (width // 2, height - 14), middle=True)
    _text(canvas, "ms a frame: median, bars to the 95th percentile", (_LEFT - 50, 26))
    for number, (name, rows) in enumerate(series.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        label = name
        if (line := slope_and_base(rows)) is not None:
            slope, base, fit = line
            ends = [place(x, max(0.0, slope * x + base)) for x in (0, most_x)]
            cv2.line(canvas, ends[0], ends[1], colour, 1, cv2.LINE_AA)
            label = f"{name}: {base:.1f} ms + {slope:.2f} ms an animal, R2 {fit:.3f}"
        for one in rows:
            late = min(one.p95_ms, most_y)
            cv2.line(canvas, place(one.animals, one.median_ms), place(one.animals, late), colour, 2)
            cv2.circle(canvas, place(one.animals, one.median_ms), 5, colour, -1, cv2.LINE_AA)
        cv2.circle(canvas, (_LEFT + 20, _TOP + 14 + 24 * number), 5, colour, -1, cv2.LINE_AA)
        _text(canvas, label, (_LEFT + 34, _TOP + 19 + 24 * number))
    return canvas


def _round_up(value: float) -> float:
    """Return the next of 1, 2, 2.5, 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(max(value, 1e-6)))
    return float(next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value))


def _text(
    canvas: Image, text: str, at: tuple[int, int], *, right: bool = False, middle: bool = False
) -> None:
    (wide, _), _ = cv2.getTextSize(text, _FONT, 0.48, 1)
    x = at[0] - (wide if right else wide // 2 if middle else 0)
    cv2.putText(canvas, text, (x, at[1]), _FONT, 0.48, _INK, 1, cv2.LINE_AA)

"""The shape of an animal from above, on a canvas whose columns run along the spine.

Canvas coordinates are body lengths: `along` is 0 at the snout and 1 at the tip of the tail,
`across` is 0 on the spine and grows towards the animal's left: the canvas is a true view from
above, no mirror image. A canvas is (ROWS, COLUMNS) pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.vision.types import Floats
from trainer.data.herd.noise import smoothstep

COLUMNS = 320
ROWS = 192
HALF_WIDTH = ROWS / COLUMNS / 2
# Half the width of a trunk of stoutness 1, body lengths.
TRUNK_HALF = 0.16
# Half width at places along the spine: blunt snout, cheeks, neck, shoulders, belly, hams, rump.
_PROFILE = (
    (0.0, 0.0),
    (0.006, 0.030),
    (0.03, 0.041),
    (0.06, 0.044),
    (0.10, 0.062),
    (0.15, 0.090),
    (0.19, 0.103),
    (0.23, 0.101),
    (0.265, 0.106),
    (0.31, 0.128),
    (0.38, 0.153),
    (0.48, 0.155),
    (0.60, 0.163),
    (0.72, 0.160),
    (0.82, 0.151),
    (0.89, 0.127),
    (0.925, 0.090),
    (0.945, 0.045),
    (0.955, 0.0),
)


@dataclass(frozen=True, slots=True)
class Build:
    """One animal's measures.

    length_px: snout to tip of the tail, in world pixels (those of a 1280 px wide view).
    stoutness, head: factors on the width of trunk and head. ear_length: body lengths. ear_angle:
    radians from the spine. tail_curl: -1..1, to which side the tail hangs.
    """

    length_px: float
    stoutness: float
    head: float
    ear_length: float
    ear_angle: float
    tail_curl: float

    @property
    def radius_px(self) -> float:
        """Half the width of the trunk, in world pixels."""
        return TRUNK_HALF * self.stoutness * self.length_px


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """A body on its canvas: alpha (R, C) 0..1; the normals' parts along, across and up (R, C)."""

    alpha: Floats
    along: Floats
    across: Floats
    up: Floats
    ears: Floats


def random_build(rng: np.random.Generator, scale: float) -> Build:
    """Draw the measures of one animal; `scale` shrinks all of a very large herd."""
    return Build(
        length_px=float(rng.uniform(126, 164)) * scale,
        stoutness=float(rng.uniform(0.92, 1.1)),
        head=float(rng.uniform(0.93, 1.08)),
        ear_length=float(rng.uniform(0.09, 0.125)),
        ear_angle=float(rng.uniform(0.55, 1.25)),
        tail_curl=float(rng.uniform(-1, 1)),
    )


def canvas_coordinates() -> tuple[Floats, Floats]:
    """Return (along, across) of every canvas pixel, each (ROWS, COLUMNS)."""
    along = (np.arange(COLUMNS, dtype=np.float32) + 0.5) / COLUMNS
    across = (np.arange(ROWS, dtype=np.float32) + 0.5 - ROWS / 2) / COLUMNS
    grid = np.meshgrid(along, across)
    return grid[0], grid[1]


def half_width(build: Build, along: Floats) -> Floats:
    """Return the half width (body lengths) of trunk and head at places `along`."""
    stations, halves = np.array(_PROFILE, np.float32).T
    trunk = smoothstep(stations, 0.2, 0.4)
    halves = halves * (build.head + (build.stoutness - build.head) * trunk)
    dense = np.linspace(0, 1, 641, dtype=np.float32)
    # Squares keep the round ends round while the polyline between is smoothed.
    squares = np.interp(dense, stations, halves**2, right=0.0)
    squares = cv2.GaussianBlur(squares.astype(np.float32)[None], (0, 0), 6)[0]
    squares[(dense > 0.96) | (dense < 0.004)] = 0
    return np.sqrt(np.interp(along, dense, squares)).astype(np.float32)


def body_shape(build: Build, legs: int = 0) -> Shape:
    """Return the shape of an animal that stands (`legs` 0) or lies with its legs to one side.

    legs: -1 or 1 stretches the legs out to the animal's right or left.
    """
    along, across = canvas_coordinates()
    half = half_width(build, along) * (1.06 if legs else 1.0)
    trunk = np.clip((half - np.abs(across)) * COLUMNS + 0.5, 0, 1)
    inside = np.clip(1 - (across / np.maximum(half, 1e-4)) ** 2, 0, 1)
    height = half * np.sqrt(inside)

    ears = np.zeros((ROWS, COLUMNS), np.float32)
    for side in (-1, 1):
        ears = np.maximum(ears, _ear(build, side))
    limbs = _tail(build)
    if legs:
        limbs = np.maximum(limbs, _legs(build, legs))
    # Ears lie upon the head, tail and legs below it.
    height = np.maximum(height, 0.02 * limbs) + 0.022 * ears
    return shape_of(np.maximum(np.maximum(trunk, ears), limbs), height, ears)


def shape_of(alpha: Floats, height: Floats, ears: Floats | None = None) -> Shape:
    """Return the shape of a body with this outline and this height (body lengths), both (R, C)."""
    height = cv2.GaussianBlur(height, (0, 0), 2.2)
    slope_along = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3) * (COLUMNS / 8)
    slope_across = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3) * (COLUMNS / 8)
    norm = 1 / np.sqrt(1 + slope_along**2 + slope_across**2)
    return Shape(
        alpha.astype(np.float32),
        np.asarray(-slope_along * norm, np.float32),
        np.asarray(-slope_across * norm, np.float32),
        np.asarray(norm, np.float32),
        np.zeros_like(height) if ears is None else ears,
    )


def _canvas_points(points: NDArray[np.float64], zoom: int) -> NDArray[np.int32]:
    """Turn (along, across) points (N, 2) into pixels of a canvas enlarged `zoom` times."""
    pixels = (points + np.array([0, HALF_WIDTH])) * COLUMNS * zoom
    return np.round(pixels).astype(np.int32)


def _ear(build: Build, side: int) -> Floats:
    root = np.array([0.185, side * 0.062 * build.head])
    direction = np.array([np.cos(build.ear_angle), side * np.sin(build.ear_angle)])
    normal = np.array([-direction[1], direction[0]])
    length = build.ear_length
    steps = np.linspace(0, 1, 12)[:, None]
    width = 0.40 * length * np.sqrt(np.clip(1 - steps, 0, 1)) * (0.75 + 0.6 * steps)
    middle = root + steps * length * direction
    outline = np.concatenate([middle + width * normal, (middle - width * normal)[::-1]])
    canvas = np.zeros((ROWS * 2, COLUMNS * 2), np.uint8)
    cv2.fillPoly(canvas, [_canvas_points(outline, 2)], 255, cv2.LINE_AA)
    return _shrunk(canvas)


def _tail(build: Build) -> Floats:
    steps = np.linspace(0, 1, 14)
    sway = build.tail_curl * 0.05 * np.sin(steps * 2.6)
    points = np.stack([0.93 + 0.066 * steps, sway], axis=1)
    canvas = np.zeros((ROWS * 2, COLUMNS * 2), np.uint8)
    cv2.polylines(canvas, [_canvas_points(points, 2)], False, 255, 7, cv2.LINE_AA)
    return _shrunk(canvas)


def _legs(build: Build, side: int) -> Floats:
    canvas = np.zeros((ROWS * 2, COLUMNS * 2), np.uint8)
    half = 0.13 * build.stoutness
    for hip, knee, hoof, thick in (
        (0.36, 0.325, 0.285, 19),
        (0.42, 0.41, 0.375, 19),
        (0.75, 0.69, 0.715, 25),
        (0.81, 0.79, 0.83, 25),
    ):
        points = np.array(
            [[hip, side * 0.7 * half], [knee, side * (half + 0.04)], [hoof, side * (half + 0.095)]]
        )
        pixels = _canvas_points(points, 2).tolist()
        cv2.line(canvas, pixels[0], pixels[1], 255, thick, cv2.LINE_AA)
        cv2.line(canvas, pixels[1], pixels[2], 255, 15, cv2.LINE_AA)
    return _shrunk(canvas)


def _shrunk(canvas: NDArray[np.uint8]) -> Floats:
    small = cv2.resize(canvas, (COLUMNS, ROWS), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32) / 255

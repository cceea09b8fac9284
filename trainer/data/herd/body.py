"""The shape of an animal from above, on a canvas whose columns run along the spine.

Canvas coordinates are body lengths: `along` is 0 at the snout and 1 at the tip of the tail, `across`
is 0 on the spine and grows towards the animal's right. A canvas is (ROWS, COLUMNS) pixels.
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
_PROFILE_ALONG = (0.0, 0.012, 0.04, 0.09, 0.15, 0.20, 0.25, 0.31, 0.39, 0.50, 0.62, 0.75)
_PROFILE_HALF = (0.0, 0.028, 0.038, 0.056, 0.078, 0.088, 0.094, 0.118, 0.142, 0.145, 0.154, 0.152)
_RUMP_ALONG = (0.84, 0.89, 0.925, 0.945, 0.955)
_RUMP_HALF = (0.140, 0.118, 0.083, 0.045, 0.0)


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
        return 0.15 * self.stoutness * self.length_px


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
        ear_length=float(rng.uniform(0.075, 0.105)),
        ear_angle=float(rng.uniform(0.6, 1.35)),
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
    stations = np.array(_PROFILE_ALONG + _RUMP_ALONG, np.float32)
    halves = np.array(_PROFILE_HALF + _RUMP_HALF, np.float32)
    trunk = smoothstep(stations, 0.2, 0.4)
    halves = halves * (build.head + (build.stoutness - build.head) * trunk)
    dense = np.linspace(0, 1, 641, dtype=np.float32)
    # Squares keep the round ends round while the polyline between is smoothed.
    squares = np.interp(dense, stations, halves**2, right=0.0)
    squares = cv2.GaussianBlur(squares.astype(np.float32)[None], (0, 0), 9)[0]
    squares[(dense > 0.96) | (dense < 0.004)] = 0
    return np.sqrt(np.interp(along, dense, squares)).astype(np.float32)


def body_shape(build: Build, legs: int = 0) -> Shape:
    """Return the shape of an animal that stands (`legs` 0) or lies with its legs to one side.

    legs: -1 or 1 stretches the legs out to the animal's left or right.
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
    height = cv2.GaussianBlur(height, (0, 0), 2.2)
    slope_along = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3) * (COLUMNS / 8)
    slope_across = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3) * (COLUMNS / 8)
    norm = 1 / np.sqrt(1 + slope_along**2 + slope_across**2)
    alpha = np.maximum(np.maximum(trunk, ears), limbs)
    return Shape(
        alpha.astype(np.float32),
        np.asarray(-slope_along * norm, np.float32),
        np.asarray(-slope_across * norm, np.float32),
        np.asarray(norm, np.float32),
        ears,
    )


def _canvas_points(points: NDArray[np.float64], zoom: int) -> NDArray[np.int32]:
    """Turn (along, across) points (N, 2) into pixels of a canvas enlarged `zoom` times."""
    pixels = (points + (0, HALF_WIDTH)) * COLUMNS * zoom
    return np.round(pixels).astype(np.int32)


def _ear(build: Build, side: int) -> Floats:
    root = np.array([0.195, side * 0.06 * build.head])
    direction = np.array([np.cos(build.ear_angle), side * np.sin(build.ear_angle)])
    normal = np.array([-direction[1], direction[0]])
    length = build.ear_length
    steps = np.linspace(0, 1, 12)[:, None]
    width = 0.36 * length * np.sqrt(np.clip(1 - steps, 0, 1)) * (0.75 + 0.6 * steps)
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
    for start, knee, hoof in (
        (0.37, 0.335, 0.30),
        (0.42, 0.415, 0.375),
        (0.76, 0.715, 0.735),
        (0.81, 0.80, 0.825),
    ):
        points = np.array(
            [[start, side * 0.7 * half], [knee, side * (half + 0.05)], [hoof, side * (half + 0.11)]]
        )
        pixels = _canvas_points(points, 2)
        cv2.line(canvas, pixels[0].tolist(), pixels[1].tolist(), 255, 22, cv2.LINE_AA)
        cv2.line(canvas, pixels[1].tolist(), pixels[2].tolist(), 255, 14, cv2.LINE_AA)
    return _shrunk(canvas)


def _shrunk(canvas: NDArray[np.uint8]) -> Floats:
    small = cv2.resize(canvas, (COLUMNS, ROWS), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32) / 255

"""Where a camera hangs and what its lens does. World pixels are those of a flat 1280x720 view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.vision.types import Floats

WORLD_WIDTH = 1280
WORLD_HEIGHT = 720
_CENTRE = np.array([WORLD_WIDTH / 2, WORLD_HEIGHT / 2])


@dataclass(frozen=True, slots=True)
class Camera:
    """A view: rotation (radians), zoom, shift of the aim (world pixels), barrel distortion, tint.

    barrel: share by which the lens draws a point at half the diagonal towards the centre. tint:
    factors on red, green and blue. blur: sigma in pixels of a 1280 px wide frame.
    """

    width: int
    height: int
    rotation: float
    zoom: float
    shift_x: float
    shift_y: float
    barrel: float
    tint: tuple[float, float, float]
    blur: float
    noise: float

    @property
    def scale(self) -> float:
        """Frame pixels per world pixel at the centre."""
        return self.zoom * min(self.width / WORLD_WIDTH, self.height / WORLD_HEIGHT)

    def project(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the frame pixels (N, 2) of world points (N, 2)."""
        sine, cosine = np.sin(self.rotation), np.cos(self.rotation)
        turned = (points - _CENTRE - (self.shift_x, self.shift_y)) @ np.array(
            [[cosine, sine], [-sine, cosine]]
        )
        flat = turned * self.scale / self._reach()
        squares = (flat**2).sum(axis=1, keepdims=True)
        return flat * (1 - self.barrel * squares) * self._reach() + self._middle()

    def world_map(self) -> tuple[Floats, Floats]:
        """Return the world point (x, y) that each frame pixel's middle shows, each (H, W)."""
        x, y = np.meshgrid(
            (np.arange(self.width) + 0.5 - self.width / 2) / self._reach(),
            (np.arange(self.height) + 0.5 - self.height / 2) / self._reach(),
        )
        bent = np.hypot(x, y)
        flat = bent.copy()
        for _ in range(8):
            flat = bent / (1 - self.barrel * flat**2)
        ratio = flat / np.maximum(bent, 1e-9) * self._reach() / self.scale
        x, y = x * ratio, y * ratio
        sine, cosine = np.sin(self.rotation), np.cos(self.rotation)
        world_x = cosine * x + sine * y + _CENTRE[0] + self.shift_x
        world_y = -sine * x + cosine * y + _CENTRE[1] + self.shift_y
        return world_x.astype(np.float32), world_y.astype(np.float32)

    def _reach(self) -> float:
        return float(np.hypot(self.width, self.height)) / 2

    def _middle(self) -> NDArray[np.float64]:
        return np.array([self.width / 2, self.height / 2])


def open_camera(number: int, width: int, height: int) -> Camera:
    """Return camera `number`'s view: 1 and 2 are fixed, others are drawn from their number."""
    if number == 1:
        return Camera(width, height, -0.025, 1.0, 2.0, -3.0, 0.035, (1.03, 1.0, 0.95), 0.45, 3.0)
    if number == 2:
        return Camera(width, height, 0.07, 0.95, -12.0, 8.0, 0.065, (0.95, 1.0, 1.06), 0.65, 4.2)
    rng = np.random.default_rng([9, number])
    tint = 1 + rng.uniform(-0.06, 0.06, 3)
    return Camera(
        width,
        height,
        float(rng.uniform(-0.09, 0.09)),
        float(rng.uniform(0.93, 1.01)),
        float(rng.uniform(-12, 12)),
        float(rng.uniform(-8, 8)),
        float(rng.uniform(0.02, 0.07)),
        (float(tint[0]), float(tint[1]), float(tint[2])),
        float(rng.uniform(0.4, 0.8)),
        float(rng.uniform(3, 5)),
    )

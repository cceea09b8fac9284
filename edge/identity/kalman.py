"""Kalman filters for many boxes at once: constant velocity of centre and size.

As in SORT (Bewley et al. 2016) the state is centre, width, height and their velocities, with noise
in proportion to the box's size as in DeepSORT (Wojke et al. 2017). Process noise is that of a
white-noise acceleration over the time that really passed, so that the frame rate may vary. With
diagonal noise the four coordinates never mix: each is a filter of two numbers, and all of them are
a few array operations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.vision.types import Floats

_Array = NDArray[np.float64]
# After a gap in the stream nobody walks straight on for longer than this.
_LONGEST_STEP_S = 1.0


@dataclass(frozen=True, slots=True)
class MotionOptions:
    """How animals move. The unit of length is the box's size, sqrt(width * height).

    measurement: standard deviation of a detected coordinate. speed: of a new track's velocity, a
    second. acceleration: change of the centre's velocity, per square root of a second; growth:
    the same for width and height. fade_s: time in which an unseen track's velocity falls to 37 %;
    animals that are hidden seldom walk straight on.
    """

    measurement: float = 0.08
    speed: float = 1.0
    acceleration: float = 1.2
    growth: float = 0.4
    fade_s: float = 0.5


class BoxFilters:
    """T Kalman filters in parallel; rows are added at the end and removed by a mask."""

    def __init__(self, options: MotionOptions) -> None:
        self._options = options
        # Coordinates (T, 4): centre x, centre y, width, height. Covariances of each coordinate
        # with its velocity: place-place, place-velocity, velocity-velocity, all (T, 4).
        self._place = np.zeros((0, 4))
        self._velocity = np.zeros((0, 4))
        self._pp = np.zeros((0, 4))
        self._pv = np.zeros((0, 4))
        self._vv = np.zeros((0, 4))

    def __len__(self) -> int:
        return len(self._place)

    @property
    def boxes(self) -> Floats:
        """The boxes (T, 4) as the filters see them now, x1 y1 x2 y2 in pixels."""
        half = self._place[:, 2:] / 2
        centre = self._place[:, :2]
        return np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)

    def add(self, boxes: Floats) -> None:
        """Start a filter at rest for each of the boxes (N, 4)."""
        place = _coordinates(boxes)
        size = _sizes(place)
        speed = self._options.speed * size * np.array([1, 1, 0.2, 0.2])
        self._place = np.concatenate([self._place, place])
        self._velocity = np.concatenate([self._velocity, np.zeros_like(place)])
        self._pp = np.concatenate([self._pp, self._noise(size)])
        self._pv = np.concatenate([self._pv, np.zeros_like(place)])
        self._vv = np.concatenate([self._vv, speed**2])

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Drop the filters whose entry in `mask` (T,) is false."""
        self._place, self._velocity = self._place[mask], self._velocity[mask]
        self._pp, self._pv, self._vv = self._pp[mask], self._pv[mask], self._vv[mask]

    def copy_row(self, source: int, target: int) -> None:
        """Let filter `target` go on as filter `source` stands."""
        for array in (self._place, self._velocity, self._pp, self._pv, self._vv):
            array[target] = array[source]

    def predict(self, dt_s: float, unseen: NDArray[np.bool_]) -> None:
        """Advance all filters by `dt_s` seconds; `unseen` (T,): had no detection last time."""
        options = self._options
        dt_s = min(dt_s, _LONGEST_STEP_S)
        size = _sizes(self._place)
        change = np.array([options.acceleration] * 2 + [options.growth] * 2)
        power = (change * size) ** 2
        fade = np.where(unseen, np.exp(-dt_s / options.fade_s), 1.0)[:, None]
        self._velocity = self._velocity * fade
        self._pv = self._pv * fade
        self._vv = self._vv * fade**2
        self._place = self._place + dt_s * self._velocity
        self._place[:, 2:] = np.maximum(self._place[:, 2:], 1)
        self._pp = self._pp + dt_s * (2 * self._pv + dt_s * self._vv) + power * dt_s**3 / 3
        self._pv = self._pv + dt_s * self._vv + power * dt_s**2 / 2
        self._vv = self._vv + power * dt_s

    def squared_distances(self, boxes: Floats) -> Floats:
        """Return squared Mahalanobis distances (T, N), of 4 degrees of freedom, to boxes (N, 4)."""
        spread = self._pp + self._noise(_sizes(self._place))
        gap = _coordinates(boxes)[None] - self._place[:, None]
        return np.asarray((gap**2 / spread[:, None]).sum(axis=2), np.float32)

    def update(self, rows: NDArray[np.int64], boxes: Floats) -> None:
        """Correct the filters `rows` (M,), each once, by the boxes (M, 4) found for them."""
        measured = _coordinates(boxes)
        pp, pv = self._pp[rows], self._pv[rows]
        spread = pp + self._noise(_sizes(self._place[rows]))
        gap = measured - self._place[rows]
        gain, velocity_gain = pp / spread, pv / spread
        self._place[rows] += gain * gap
        self._place[rows, 2:] = np.maximum(self._place[rows, 2:], 1)
        self._velocity[rows] += velocity_gain * gap
        self._pp[rows] = (1 - gain) * pp
        self._pv[rows] = (1 - gain) * pv
        self._vv[rows] -= velocity_gain * pv

    def restart(self, rows: NDArray[np.int64], boxes: Floats) -> None:
        """Put the filters `rows` (M,) at rest at the boxes (M, 4): found again somewhere else."""
        fresh = BoxFilters(self._options)
        fresh.add(boxes)
        self._place[rows], self._velocity[rows] = fresh._place, fresh._velocity
        self._pp[rows], self._pv[rows], self._vv[rows] = fresh._pp, fresh._pv, fresh._vv

    def _noise(self, size: _Array) -> _Array:
        """Return the variance (T, 4) of a detected coordinate of boxes of `size` (T, 1)."""
        return np.repeat((self._options.measurement * size) ** 2, 4, axis=1)


def _coordinates(boxes: Floats) -> _Array:
    corners = boxes.astype(np.float64)
    sides = np.maximum(corners[:, 2:] - corners[:, :2], 1)
    return np.concatenate([(corners[:, :2] + corners[:, 2:]) / 2, sides], axis=1)


def _sizes(place: _Array) -> _Array:
    return np.sqrt(place[:, 2:3] * place[:, 3:4])

"""From a bent spine in the frame to where each pixel lies on the animal's canvas."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.vision.types import Floats
from trainer.data.herd.body import HALF_WIDTH
from trainer.data.herd.camera import Camera

_Array = NDArray[np.float64]
# Stations along the spine, a little beyond snout and tail so that pixels there still project.
_ALONG = np.linspace(-0.12, 1.12, 32)
_MIDDLE = int(np.abs(_ALONG - 0.5).argmin())
_COARSE = slice(0, None, 3)
_STRIDE = 6
_FRONT = np.clip((0.52 - _ALONG) / 0.3, 0, 1) ** 1.3
_REAR = np.clip((_ALONG - 0.48) / 0.4, 0, 1) ** 1.3
_HEAD = np.clip((0.32 - _ALONG) / 0.16, 0, 1)


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """A rectangle of the frame, perhaps partly outside, with its canvas map.

    left, top: its corner in frame pixels. map_x, map_y: float32 (h, w), columns and rows of a
    canvas, for cv2.remap.
    """

    left: int
    top: int
    map_x: Floats
    map_y: Floats


def spine(
    place: _Array, heading: float, front: float, rear: float, head: float, length: float
) -> _Array:
    """Return the spine's stations as world points (32, 2), snout first."""
    angles = heading + front * _FRONT - rear * _REAR + head * _HEAD
    steps = -length * (_ALONG[1] - _ALONG[0]) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    middles = (steps[1:] + steps[:-1]) / 2
    points = np.concatenate([np.zeros((1, 2)), np.cumsum(middles, axis=0)])
    return np.asarray(points - points[_MIDDLE] + place)


def canvas_patch(points: _Array, width_factor: float, columns: int, camera: Camera) -> Patch:
    """Return the patch of frame that an animal with this spine (world points) may cover.

    columns: width in pixels of the canvas that the map shall lead to.
    """
    curve = camera.project(points)
    tangents = np.gradient(curve, _ALONG, axis=0)
    speeds = np.linalg.norm(tangents, axis=1)
    scale = float(speeds.mean())
    reach = scale * HALF_WIDTH * 0.92
    inner = curve[3:-3]
    left, top = np.floor(inner.min(axis=0) - reach).astype(int)
    right, bottom = np.ceil(inner.max(axis=0) + reach).astype(int)
    across_count = -(-(right - left) // _STRIDE)
    rows = -(-(bottom - top) // _STRIDE)

    # The map is smooth: a coarse grid of it is solved and then enlarged.
    x = left + (np.arange(across_count) + 0.5) * _STRIDE
    y = top + (np.arange(rows) + 0.5) * _STRIDE
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    squares = ((grid[:, None] - curve[None, _COARSE]) ** 2).sum(axis=2)
    along = _ALONG[_COARSE][squares.argmin(axis=1)]
    for _ in range(3):
        at = _interpolated(along, curve, tangents, speeds)
        offset = grid - at[:, :2]
        along = along + (offset * at[:, 2:4]).sum(axis=1) / at[:, 4] ** 2 * 0.9
        along = np.clip(along, _ALONG[0], _ALONG[-1])
    at = _interpolated(along, curve, tangents, speeds)
    offset = grid - at[:, :2]
    # The tangent points to the tail, the cross product grows to the animal's left: as the canvas.
    cross = at[:, 2] * offset[:, 1] - at[:, 3] * offset[:, 0]
    across = cross / at[:, 4] ** 2 / width_factor
    size = (across_count * _STRIDE, rows * _STRIDE)
    map_x = (along * columns - 0.5).reshape(rows, across_count).astype(np.float32)
    map_y = ((across + HALF_WIDTH) * columns - 0.5).reshape(rows, across_count).astype(np.float32)
    return Patch(
        int(left),
        int(top),
        np.asarray(cv2.resize(map_x, size, interpolation=cv2.INTER_LINEAR), np.float32),
        np.asarray(cv2.resize(map_y, size, interpolation=cv2.INTER_LINEAR), np.float32),
    )


def _interpolated(along: _Array, curve: _Array, tangents: _Array, speeds: _Array) -> _Array:
    """Return x, y, tangent x, tangent y and speed (N, 5) at places `along` (N,) of the spine."""
    table = np.concatenate([curve, tangents, speeds[:, None]], axis=1)
    position = (along - _ALONG[0]) / (_ALONG[1] - _ALONG[0])
    index = np.clip(position.astype(np.int64), 0, len(_ALONG) - 2)
    share = (position - index)[:, None]
    return table[index] * (1 - share) + table[index + 1] * share

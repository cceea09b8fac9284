"""Smooth random fields: what makes concrete, dirt and hair look grown rather than drawn."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from edge.vision.types import Floats


def smooth_noise(
    rng: np.random.Generator, height: int, width: int, cell_x: float, cell_y: float | None = None
) -> Floats:
    """Return a field (H, W), mean 0 and deviation about 1, that varies over `cell` pixels."""
    rows = max(2, round(height / (cell_y or cell_x)) + 1)
    columns = max(2, round(width / cell_x) + 1)
    grid = rng.standard_normal((rows, columns)).astype(np.float32)
    if (rows, columns) == (height, width):
        return grid
    return np.asarray(
        cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * 1.15, np.float32
    )


def fractal_noise(
    rng: np.random.Generator, height: int, width: int, cells: Sequence[float]
) -> Floats:
    """Return the mean of smooth fields of several cell sizes, coarse ones first and stronger."""
    total = np.zeros((height, width), np.float32)
    weights = [0.6**octave for octave in range(len(cells))]
    for cell, weight in zip(cells, weights, strict=True):
        total += weight * smooth_noise(rng, height, width, cell)
    return total / np.float32(np.sqrt(np.square(weights).sum()))


def smoothstep(values: Floats, low: float, high: float) -> Floats:
    """Return 0 below `low`, 1 above `high`, a smooth rise between; `high` may be the lower one."""
    share = np.clip((values - low) / (high - low), 0, 1)
    return np.asarray(share * share * (3 - 2 * share), np.float32)

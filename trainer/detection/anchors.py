"""Anchor boxes: shapes learned from the training boxes, laid over the feature maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.errors import UsageError
from edge.vision.types import Floats

STRIDES = (8, 16, 32, 64, 128)
# A level owns boxes whose side (square root of the area) is less than so many of its strides.
_SIDE_IN_STRIDES = 4.0
_LEAST_SHARE = 0.05
_MOST_ROUNDS = 100


@dataclass(frozen=True, slots=True, eq=False)
class AnchorShapes:
    """Which feature levels the detector has, and the anchors of every cell of each.

    strides: pixels of the input per cell, rising. shapes: float32 (A, 2) for each level, height
    and width in pixels of the input, by area.
    """

    strides: tuple[int, ...]
    shapes: tuple[Floats, ...]


def owning_levels(sides: Floats, strides: Sequence[int]) -> NDArray[np.int64]:
    """Return for each box side (n,), the square root of its area, the level (n,) it belongs to."""
    limits = _SIDE_IN_STRIDES * np.array(strides[:-1], np.float32)
    return np.searchsorted(limits, sides, side="right")


def choose_strides(sizes: Floats) -> tuple[int, ...]:
    """Return the strides whose levels own at least 5 % of the boxes (n, 2); n > 0."""
    levels = owning_levels(np.sqrt(sizes.prod(axis=1)), STRIDES)
    shares = np.bincount(levels, minlength=len(STRIDES)) / len(levels)
    return tuple(np.array(STRIDES)[shares >= _LEAST_SHARE].tolist())


def fit_anchors(
    sizes: Floats, per_cell: int, seed: int, strides: Sequence[int] | None = None
) -> AnchorShapes:
    """Return `per_cell` anchor shapes for each level by k-means on the boxes it owns.

    sizes: heights and widths (n, 2) of the training boxes in pixels of the input, n > 0. strides:
    the levels to have, None for those that own any boxes worth the name. A level that owns none
    takes the shapes of all boxes, brought to its size.
    """
    chosen = tuple(strides) if strides is not None else choose_strides(sizes)
    if not chosen or list(chosen) != sorted(set(chosen)) or not set(chosen) <= set(STRIDES):
        raise UsageError(f"strides must be some of {STRIDES}, rising, not {chosen}")
    if per_cell < 1:
        raise UsageError(f"anchors_per_cell must be 1 or more, not {per_cell}")
    sides = np.sqrt(sizes.prod(axis=1))
    levels = owning_levels(sides, chosen)
    # Augmentation scales boxes up and down; so do the shapes they are clustered from.
    scales = np.array([0.8, 0.9, 1.0, 1.1, 1.25], np.float32)
    shapes = []
    for level, stride in enumerate(chosen):
        own = sizes[levels == level]
        if not len(own):
            own = sizes * (0.75 * _SIDE_IN_STRIDES * stride / sides)[:, None]
        pool = (own[None] * scales[:, None, None]).reshape(-1, 2)
        shapes.append(cluster_shapes(pool, per_cell, seed))
    return AnchorShapes(chosen, tuple(shapes))


def cluster_shapes(sizes: Floats, count: int, seed: int) -> Floats:
    """Return `count` shapes (count, 2) around which boxes (n, 2) cluster, by area.

    k-means with 1 - IoU of boxes on one centre as the distance (Redmon & Farhadi, "YOLO9000",
    2017), the centre of a cluster being its median. With fewer than `count` different boxes some
    shapes come twice.
    """
    rng = np.random.default_rng(seed)
    centres = sizes[rng.integers(len(sizes))][None]
    while len(centres) < count:
        # k-means++: far boxes are likelier to start a cluster.
        distances = (1 - shape_iou(sizes, centres).max(axis=1)).astype(np.float64) ** 2
        total = distances.sum()
        weights = distances / total if total > 1e-9 else None
        centres = np.concatenate([centres, sizes[rng.choice(len(sizes), p=weights)][None]])
    nearest = np.full(len(sizes), -1)
    for _ in range(_MOST_ROUNDS):
        now = shape_iou(sizes, centres).argmax(axis=1)
        if np.array_equal(now, nearest):
            break
        nearest = now
        for number in range(count):
            if (nearest == number).any():
                centres[number] = np.median(sizes[nearest == number], axis=0)
    return np.asarray(centres[np.argsort(centres.prod(axis=1), kind="stable")], np.float32)


def shape_iou(a: Floats, b: Floats) -> Floats:
    """Return IoU (N, M) of boxes (N, 2) and (M, 2), height and width, laid on one centre."""
    shared = np.minimum(a[:, None], b[None]).prod(axis=2)
    union = a.prod(axis=1)[:, None] + b.prod(axis=1)[None] - shared
    return np.asarray(shared / union, np.float32)


def lay_anchors(
    shapes: AnchorShapes, cells: Sequence[tuple[int, int]], size: tuple[int, int]
) -> Floats:
    """Return all anchors (N, 4) cy cx h w in pixels of the input `size` (height, width).

    cells: rows and columns of each level's feature map. The order is that of the network's
    outputs: level, row, column, shape.
    """
    parts = []
    for (rows, columns), level in zip(cells, shapes.shapes, strict=True):
        cy = (np.arange(rows, dtype=np.float32) + 0.5) * (size[0] / rows)
        cx = (np.arange(columns, dtype=np.float32) + 0.5) * (size[1] / columns)
        anchors = np.empty((rows, columns, len(level), 4), np.float32)
        anchors[..., 0] = cy[:, None, None]
        anchors[..., 1] = cx[None, :, None]
        anchors[..., 2:] = level
        parts.append(anchors.reshape(-1, 4))
    return np.concatenate(parts)

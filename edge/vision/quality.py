"""Crop gates: which crops may speak for an animal's identity."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from edge.vision.geometry import box_areas, intersection_matrix
from edge.vision.types import CropQuality, Floats, Image


@dataclass(frozen=True, slots=True)
class CropGates:
    """Limits beyond which a crop gives no evidence (it still moves its track).

    min_side_px: shorter side of the box in pixels of the frame.
    min_sharpness: variance of the Laplacian at the embedder's input size.
    max_covered: fraction of the box covered by other boxes; more is `crowded`.
    edge_px: a box nearer than this to the frame's edge counts as clipped.
    """

    min_side_px: float = 16.0
    min_sharpness: float = 15.0
    max_covered: float = 0.45
    edge_px: float = 1.0

    def refusal(self, quality: CropQuality) -> str | None:
        """Return why this crop is no evidence (`crowded` or `poor`), or None for a good crop."""
        if quality.covered > self.max_covered:
            return "crowded"
        if quality.clipped or quality.side_px < self.min_side_px:
            return "poor"
        return "poor" if quality.sharpness < self.min_sharpness else None

    def refusals(
        self, boxes: Floats, covered: Floats, bounds: tuple[int, int, int, int]
    ) -> list[str | None]:
        """Return why the crop of each box (N, 4) can be no evidence, however sharp it may be.

        covered: (N,), see `covered_fractions`. bounds: x1 y1 x2 y2 of the part of the frame that
        was looked at: what reaches its edge may go on beyond it.
        """
        first, last = np.array(bounds, np.float32).reshape(2, 2)
        low, high = first + np.float32(self.edge_px), last - np.float32(self.edge_px)
        clipped = (boxes[:, :2] <= low).any(axis=1) | (boxes[:, 2:] >= high).any(axis=1)
        small = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf) < self.min_side_px
        return [
            "crowded" if hidden else "poor" if poor else None
            for hidden, poor in zip(covered > self.max_covered, clipped | small, strict=True)
        ]


def covered_fractions(boxes: Floats) -> Floats:
    """Return, for boxes (N, 4), the fraction (N,) of each that its most covering neighbour hides.

    The largest single neighbour, not the sum: in a row of animals each upright box overlaps a
    little with both neighbours and still shows one animal.
    """
    if len(boxes) < 2:
        return np.zeros(len(boxes), np.float32)
    shared = intersection_matrix(boxes, boxes)
    np.fill_diagonal(shared, 0)
    return np.asarray(shared.max(axis=1) / np.maximum(box_areas(boxes), 1e-6), np.float32)


def sharpness(crop: Image) -> float:
    """Return the Laplacian variance of a crop (S, S, 3) that already has its fixed size."""
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    _, deviation = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_32F))
    return float(deviation[0, 0] ** 2)


def assess(
    crop: Image | None, box: Floats, covered: float, width: int, height: int, edge_px: float
) -> CropQuality:
    """Measure a crop (S, S, 3) of `box` (4,) in a frame of `width` by `height` pixels.

    Without a crop only the box is judged, and the crop counts as infinitely sharp.
    """
    x1, y1, x2, y2 = (float(v) for v in box)
    clipped = x1 <= edge_px or y1 <= edge_px or x2 >= width - edge_px or y2 >= height - edge_px
    sharp = float("inf") if crop is None else sharpness(crop)
    return CropQuality(sharp, clipped, covered, min(x2 - x1, y2 - y1))

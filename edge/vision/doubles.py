"""Two boxes for one animal: what non-maximum suppression in the model lets through in a huddle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edge.vision.geometry import box_areas, intersection_matrix, iou_matrix
from edge.vision.types import Detections


def without_doubles(found: Detections, most_iou: float, most_covered: float) -> Detections:
    """Return the detections (N,), best first, without those that a better one claims.

    Claimed is a box whose IoU with a better one is more than `most_iou`, or where one of the two
    lies under the other by more than `most_covered` of its own area: parts of an animal, and boxes
    around two animals that lie against each other. The model's own suppression looks at IoU only.
    """
    if len(found) < 2:
        return found
    areas, shared = box_areas(found.boxes), intersection_matrix(found.boxes, found.boxes)
    smaller = np.minimum(areas[:, None], areas[None])
    union = areas[:, None] + areas[None] - shared
    clash = (shared > most_iou * union) | (shared > most_covered * np.maximum(smaller, 1e-6))
    kept: list[int] = []
    for row in range(len(found)):
        if not clash[row, kept].any():
            kept.append(row)
    if len(kept) == len(found):
        return found
    return replace(
        found, boxes=found.boxes[kept], scores=found.scores[kept], classes=found.classes[kept]
    )


def soften(found: Detections, sigma: float) -> Detections:
    """Return the detections (N,) with lower scores the more better ones overlap them; best first.

    Gaussian Soft-NMS (Bodla et al. 2017): the best box stays as it is, the others' scores are
    multiplied by exp(-IoU^2 / sigma), the best of them stays as it is now, and so on. Of two boxes
    around one animal the second falls below the threshold; of two animals that lie against each
    other both are sure enough to stay.
    """
    overlaps = iou_matrix(found.boxes, found.boxes).astype(np.float64)
    scores = found.scores.astype(np.float64)
    order: list[int] = []
    left = np.ones(len(found), bool)
    for _ in range(len(found)):
        best = int(np.argmax(np.where(left, scores, -1.0)))
        left[best] = False
        order.append(best)
        scores[left] *= np.exp(-(overlaps[best, left] ** 2) / sigma)
    rows = np.array(order, np.int64)
    return replace(
        found,
        boxes=found.boxes[rows],
        scores=scores[rows].astype(np.float32),
        classes=found.classes[rows],
    )

"""Two boxes for one animal: what non-maximum suppression in the model lets through in a huddle."""

from __future__ import annotations

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
    smaller = np.minimum(box_areas(found.boxes)[:, None], box_areas(found.boxes)[None])
    covered = intersection_matrix(found.boxes, found.boxes) / np.maximum(smaller, 1e-6)
    clash = (iou_matrix(found.boxes, found.boxes) > most_iou) | (covered > most_covered)
    kept: list[int] = []
    for row in range(len(found)):
        if not clash[row, kept].any():
            kept.append(row)
    return Detections(found.boxes[kept], found.scores[kept], found.classes[kept])

"""Which detection found which animal, and how animals lie: apart, touching, or in a pile."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge.vision.geometry import box_areas, intersection_matrix, iou_matrix
from edge.vision.types import Detections, Floats

# Average precision asks for all that a detector holds possible, not only for what it is sure of.
LOW_SCORE = 0.01
MATCH_IOU = 0.5
# Share of a box that lies under another: less is "none", more is "piled".
_TOUCHING_FROM, _PILED_FROM = 0.02, 0.35
OVERLAPS = ("none", "touching", "piled")


def at_least(detections: Detections, score: float) -> Detections:
    """Return the detections that a detector with this score threshold would have given."""
    keep = detections.scores >= score
    return Detections(detections.boxes[keep], detections.scores[keep], detections.classes[keep])


def match_detections(
    detections: Detections, boxes: Floats, classes: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Return which true box (n,) each detection (N,) found, or -1: the best score chooses first.

    A detection finds the box of its class that it overlaps most, of those that none before it
    found, if the IoU is 0.5 or more.
    """
    matches = np.full(len(detections), -1, np.int64)
    if not len(boxes):
        return matches
    overlaps = iou_matrix(detections.boxes, boxes)
    overlaps[detections.classes[:, None] != classes[None]] = 0
    for row in np.argsort(-detections.scores, kind="stable"):
        best = int(overlaps[row].argmax())
        if overlaps[row, best] >= MATCH_IOU:
            matches[row] = best
            overlaps[:, best] = 0
    return matches


def overlap_groups(boxes: Floats) -> NDArray[np.int64]:
    """Return the place in OVERLAPS (n,) of each true box (n, 4), by how much others cover it.

    "none": up to 2 % of the box lies under any other one; "piled": from 35 % on.
    """
    shared = intersection_matrix(boxes, boxes)
    np.fill_diagonal(shared, 0)
    covered = shared.max(axis=1, initial=0) / np.maximum(box_areas(boxes), 1e-6)
    return np.asarray(np.digitize(covered, [_TOUCHING_FROM, _PILED_FROM]), np.int64)


def best_threshold(
    found: Sequence[Detections],
    boxes: Sequence[Floats],
    classes: Sequence[NDArray[np.int32]],
) -> float | None:
    """Return the score threshold with the best F1 at IoU 0.5, or None without a right detection.

    found: detections of each frame. boxes, classes: float32 (n, 4) and int32 (n,) of each. It lies
    half-way between the last score it lets pass and the next lower one.
    """
    scores = np.concatenate([np.zeros(0, np.float32), *(frame.scores for frame in found)])
    right = [match_detections(*frame) >= 0 for frame in zip(found, boxes, classes, strict=True)]
    if not any(hits.any() for hits in right):
        return None
    order = np.argsort(-scores, kind="stable")
    sorted_scores = scores[order]
    hits = np.cumsum(np.concatenate(right)[order])
    total = sum(len(rows) for rows in boxes)
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + total)
    # Equal scores pass together: only the last of them is a place to cut.
    f1[:-1][sorted_scores[:-1] == sorted_scores[1:]] = -1
    best = int(f1.argmax())
    below = sorted_scores[best + 1] if best + 1 < len(sorted_scores) else 0.0
    return float((sorted_scores[best] + below) / 2)

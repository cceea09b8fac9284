"""Which anchor answers for which box, and boxes as numbers relative to anchors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.vision.geometry import iou_matrix
from edge.vision.types import Floats

# Scales of the box coder (Faster R-CNN's; `TFLite_Detection_PostProcess` undoes them).
CODER_SCALES = (10.0, 10.0, 5.0, 5.0)
_SMALLEST_PX = 1e-3
_LARGEST_EXPONENT = 8.0


class Targets(NamedTuple):
    """What the network should say for one frame, or for a batch with a further axis in front.

    classes: int32 (N,), class of the anchor's box, -1 for background. encodings: float32 (N, 4),
    zero for background.
    """

    classes: NDArray[np.int32]
    encodings: Floats


def corners(anchors: Floats) -> Floats:
    """Return anchors (N, 4) cy cx h w as boxes (N, 4) x1 y1 x2 y2."""
    centres, halves = anchors[:, :2], anchors[:, 2:] / 2
    low, high = centres - halves, centres + halves
    return np.stack([low[:, 1], low[:, 0], high[:, 1], high[:, 0]], axis=1).astype(np.float32)


def encode(boxes: Floats, anchors: Floats) -> Floats:
    """Return encodings (N, 4) ty tx th tw of boxes (N, 4) x1 y1 x2 y2, each by its own anchor."""
    sides = np.maximum(boxes[:, [3, 2]] - boxes[:, [1, 0]], _SMALLEST_PX)
    centres = (boxes[:, [1, 0]] + boxes[:, [3, 2]]) / 2
    offsets = (centres - anchors[:, :2]) / anchors[:, 2:]
    raw = np.concatenate([offsets, np.log(sides / anchors[:, 2:])], axis=1)
    return np.asarray(raw * np.array(CODER_SCALES), np.float32)


def decode(encodings: Floats, anchors: Floats) -> Floats:
    """Return boxes (N, 4) x1 y1 x2 y2 of encodings (N, 4); undoes `encode`."""
    raw = encodings / np.array(CODER_SCALES, np.float32)
    centres = raw[:, :2] * anchors[:, 2:] + anchors[:, :2]
    sides = np.exp(np.minimum(raw[:, 2:], _LARGEST_EXPONENT)) * anchors[:, 2:]
    return corners(np.concatenate([centres, sides], axis=1))


def match_anchors(anchors: Floats, boxes: Floats, threshold: float = 0.5) -> NDArray[np.int64]:
    """Return for each anchor (N,) the box it answers for, or -1.

    anchors: (N, 4) x1 y1 x2 y2, N at least the number of boxes. boxes: (n, 4). An anchor takes the
    box it overlaps most, if the IoU is at least `threshold`; and every box that any anchor
    overlaps, the best pair first, takes one anchor of its own, so that none is left out.
    """
    matches = np.full(len(anchors), -1, np.int64)
    if not len(boxes):
        return matches
    overlaps = iou_matrix(anchors, boxes)
    best = overlaps.argmax(axis=1)
    strong = overlaps[np.arange(len(anchors)), best] >= threshold
    matches[strong] = best[strong]
    left = overlaps
    for _ in range(len(boxes)):
        anchor, box = np.unravel_index(int(left.argmax()), left.shape)
        if left[anchor, box] <= 0:
            break
        matches[anchor] = box
        left[anchor] = -1
        left[:, box] = -1
    return matches


def assign_targets(
    anchors: Floats, boxes: Floats, classes: NDArray[np.int32], threshold: float = 0.5
) -> Targets:
    """Return what the network should say for a frame's boxes (n, 4) and their classes (n,).

    anchors: (N, 4) cy cx h w.
    """
    matches = match_anchors(corners(anchors), boxes, threshold)
    matched = matches >= 0
    labels = np.full(len(anchors), -1, np.int32)
    labels[matched] = classes[matches[matched]]
    encodings = np.zeros((len(anchors), 4), np.float32)
    encodings[matched] = encode(boxes[matches[matched]], anchors[matched])
    return Targets(labels, encodings)

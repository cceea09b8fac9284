"""From the network's numbers to boxes, as the post-process in the exported model does it."""

from __future__ import annotations

import keras
import numpy as np
from numpy.typing import NDArray

from edge.vision.doubles import soften
from edge.vision.geometry import iou_matrix
from edge.vision.types import Detections, Floats
from trainer.detection.assign import decode
from trainer.embedding.backbones import Backbone

_MOST_CANDIDATES = 400
_BATCH = 16


def predict_float(
    model: keras.Model, backbone: Backbone, images: NDArray[np.uint8]
) -> tuple[Floats, Floats]:
    """Return encodings (B, N, 4) and scores (B, N, C) of frames (B, H, W, 3) by the float model."""
    encodings, scores = [], []
    for start in range(0, len(images), _BATCH):
        pixels = images[start : start + _BATCH].astype(np.float32)
        outputs = model.predict_on_batch(pixels * backbone.pixel_scale + backbone.pixel_offset)
        encodings.append(np.asarray(outputs[0], np.float32))
        scores.append(1 / (1 + np.exp(-np.asarray(outputs[1], np.float32))))
    return np.concatenate(encodings), np.concatenate(scores)


def select_detections(
    encodings: Floats,
    scores: Floats,
    anchors: Floats,
    *,
    score_threshold: float,
    nms_iou: float,
    top_k: int,
    soft_nms: float | None = None,
) -> Detections:
    """Return the detections of one frame, best first, boxes in pixels of the letterboxed frame.

    encodings: (N, 4). scores: (N, C). anchors: (N, 4) cy cx h w. Each anchor stands for its best
    class; a box that overlaps a better one by more than `nms_iou` goes, whatever its class.
    soft_nms: sigma of what devices do then, see `edge.vision.doubles.soften`.
    """
    best = scores.max(axis=1)
    rows = np.flatnonzero(best >= score_threshold)
    rows = rows[np.argsort(-best[rows], kind="stable")][:_MOST_CANDIDATES]
    boxes = decode(encodings[rows], anchors[rows])
    chosen = suppress(boxes, nms_iou, top_k)
    kept = rows[chosen]
    found = Detections(
        boxes[chosen],
        best[kept].astype(np.float32),
        scores[kept].argmax(axis=1).astype(np.int32),
    )
    if soft_nms is None:
        return found
    found = soften(found, soft_nms)
    sure = found.scores >= score_threshold
    return Detections(found.boxes[sure], found.scores[sure], found.classes[sure])


def suppress(boxes: Floats, nms_iou: float, top_k: int) -> NDArray[np.int64]:
    """Return indices of at most `top_k` boxes (N, 4), best first, that no better one overlaps."""
    overlaps = iou_matrix(boxes, boxes)
    alive = np.ones(len(boxes), bool)
    kept: list[int] = []
    for row in range(len(boxes)):
        if alive[row] and len(kept) < top_k:
            kept.append(row)
            alive &= overlaps[row] <= nms_iou
    return np.array(kept, np.int64)

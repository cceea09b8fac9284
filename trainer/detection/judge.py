"""How well a network in training finds the animals of the validation frames."""

from __future__ import annotations

import keras
import numpy as np

from edge.vision.types import Detections, Floats
from trainer.data.frames import FrameSet, load_frames_and_boxes
from trainer.detection.decode import predict_float, select_detections
from trainer.detection.options import DetectorOptions
from trainer.evaluate.detection import LOW_SCORE, best_threshold, coco_figures

_MOST_FRAMES = 200
_FALLBACK_THRESHOLD = 0.4


class Judge:
    """Finds the animals of the validation frames, kept in memory as the network sees them.

    anchors: (N, 4) cy cx h w. Of many frames 200 are taken, evenly.
    """

    def __init__(self, validation: FrameSet, anchors: Floats, options: DetectorOptions) -> None:
        count = min(len(validation), _MOST_FRAMES)
        rows = np.linspace(0, max(0, len(validation) - 1), count).astype(int)
        frames = validation.select(rows)
        self._images, self._boxes = load_frames_and_boxes(
            frames, options.input_size, options.letterbox_colour
        )
        self._classes = frames.classes
        self._anchors, self._options = anchors, options

    def __call__(self, model: keras.Model) -> dict[str, float] | None:
        """Return COCO's figures, None without a box to judge by."""
        if not any(len(boxes) for boxes in self._boxes):
            return None
        return coco_figures(self._detect(model), self._boxes, self._classes)

    def threshold(self, model: keras.Model) -> float:
        """Return the score threshold with the best F1."""
        if not any(len(boxes) for boxes in self._boxes):
            return _FALLBACK_THRESHOLD
        best = best_threshold(self._detect(model), self._boxes, self._classes)
        return _FALLBACK_THRESHOLD if best is None else round(best, 3)

    def _detect(self, model: keras.Model) -> list[Detections]:
        backbone = self._options.found_backbone.features
        encodings, scores = predict_float(model, backbone, self._images)
        return [
            select_detections(
                *frame,
                self._anchors,
                score_threshold=LOW_SCORE,
                nms_iou=self._options.nms_iou,
                top_k=self._options.top_k,
                soft_nms=self._options.soft_nms,
            )
            for frame in zip(encodings, scores, strict=True)
        ]

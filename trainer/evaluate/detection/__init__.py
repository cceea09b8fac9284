"""How well animals are found, and what of it goes into a report.

`find` asks a detector, `findings` judges what it found, `detection_figures` makes the figures.
"""

from __future__ import annotations

from trainer.evaluate.detection.coco import coco_figures
from trainer.evaluate.detection.figures import (
    Detect,
    Findings,
    detection_figures,
    find,
    findings,
)
from trainer.evaluate.detection.matching import (
    LOW_SCORE,
    OVERLAPS,
    at_least,
    best_threshold,
    match_detections,
)

__all__ = [
    "LOW_SCORE",
    "OVERLAPS",
    "Detect",
    "Findings",
    "at_least",
    "best_threshold",
    "coco_figures",
    "detection_figures",
    "find",
    "findings",
    "match_detections",
]

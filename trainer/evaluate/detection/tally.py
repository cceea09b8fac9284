"""What was there, what was found and what of it was right, frame by frame: farmers count."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.vision.types import Detections, Floats
from trainer.evaluate.detection.matching import OVERLAPS, match_detections, overlap_groups

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """Counts of F frames at one score threshold, right at IoU 0.5 or more.

    true, found, hits: int64 (F,). counted: int64 (F,), what a device would count.
    overlap_true, overlap_hits: int64 (F, 3), the same by OVERLAPS.
    """

    true: NDArray[np.int64]
    found: NDArray[np.int64]
    hits: NDArray[np.int64]
    counted: NDArray[np.int64]
    overlap_true: NDArray[np.int64]
    overlap_hits: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.true)

    def f1(self) -> Numbers:
        """Return F1 of each frame (F,); 1 for a frame with nothing in it and nothing found."""
        total = self.true + self.found
        return np.where(total > 0, 2 * self.hits / np.maximum(total, 1), 1.0)


def tally(
    found: Sequence[Detections],
    boxes: Sequence[Floats],
    classes: Sequence[NDArray[np.int32]],
    counted: Sequence[Detections] | None = None,
) -> Tally:
    """Count. found: detections of each frame, at the threshold that is asked.

    boxes, classes: float32 (n, 4) and int32 (n,) of each frame. counted: those of each frame that
    a device takes for animals, None for the same.
    """
    kinds = len(OVERLAPS)
    counts = np.zeros((len(boxes), 3), np.int64)
    overlaps = np.zeros((2, len(boxes), kinds), np.int64)
    for row, (detections, truth, labels) in enumerate(zip(found, boxes, classes, strict=True)):
        matches = match_detections(detections, truth, labels)
        hit = np.isin(np.arange(len(truth)), matches)
        groups = overlap_groups(truth)
        counts[row] = len(truth), len(detections), hit.sum()
        overlaps[0, row] = np.bincount(groups, minlength=kinds)
        overlaps[1, row] = np.bincount(groups[hit], minlength=kinds)
    on_device = [len(detections) for detections in (found if counted is None else counted)]
    true, given, hits = counts.T
    return Tally(true, given, hits, np.array(on_device, np.int64), overlaps[0], overlaps[1])


def tally_figures(counts: Tally, weights: Numbers | None = None) -> dict[str, float]:
    """Return the figures when frame f counts `weights[f]` times (F,), None for once each.

    precision, recall, f1: of all frames together. count_error, count_bias: mean absolute and mean
    signed difference between animals found and there, in animals a frame; above 0 is too many.
    count_right: share of the frames with the right count. count_error_device, count_bias_device:
    the same of what a device counts. false_positives_per_frame, missed_per_frame.
    recall_none, recall_touching, recall_piled. NaN where there is nothing to divide by.
    """
    weight = np.ones(len(counts)) if weights is None else weights
    frames, hits = weight.sum(), weight @ counts.hits
    true, found = weight @ counts.true, weight @ counts.found
    difference = counts.found - counts.true
    on_device = counts.counted - counts.true
    by_overlap = zip(
        OVERLAPS, weight @ counts.overlap_hits, weight @ counts.overlap_true, strict=True
    )
    return {
        "precision": _ratio(hits, found),
        "recall": _ratio(hits, true),
        "f1": _ratio(2 * hits, found + true),
        "count_error": _ratio(weight @ np.abs(difference), frames),
        "count_bias": _ratio(weight @ difference, frames),
        "count_right": _ratio(weight @ (difference == 0), frames),
        "count_error_device": _ratio(weight @ np.abs(on_device), frames),
        "count_bias_device": _ratio(weight @ on_device, frames),
        "false_positives_per_frame": _ratio(found - hits, frames),
        "missed_per_frame": _ratio(true - hits, frames),
        **{f"recall_{name}": _ratio(part, whole) for name, part, whole in by_overlap},
    }


def _ratio(part: Any, whole: Any) -> float:
    return float(part / whole) if whole > 0 else math.nan

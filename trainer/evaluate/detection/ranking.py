"""Detections by their scores: precision against recall, and average precision of weighted frames.

pycocotools matches and gives the figures; it knows no weights, which intervals over sessions and
figures of one session need. What is here agrees with it when every frame counts once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.vision.types import Floats

Numbers = NDArray[np.float64]
# IoU 0.5, 0.55 … 0.95, and the recalls at which COCO reads precision.
IOUS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0, 1, 101)
_AT_50, _AT_75 = 0, 5


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """N detections in F frames, best score first, and which are right.

    scores: float32 (N,). classes, frames: int64 (N,), the class and the frame of each. hits: bool
    (10, N), right at each IoU of IOUS. positives: int64 (F, C), true boxes by frame and class.
    """

    scores: Floats
    classes: NDArray[np.int64]
    frames: NDArray[np.int64]
    hits: NDArray[np.bool_]
    positives: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Precision and recall (K,) of all classes together at each threshold `scores` (K,), falling.

    Detections of equal score pass together. F1 is 2PR/(P+R), 0 where nothing is right.
    """

    scores: Floats
    precision: Numbers
    recall: Numbers

    @property
    def f1(self) -> Numbers:
        """F1 (K,) at each threshold."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / np.where(total > 0, total, 1)

    def at(self, threshold: float) -> tuple[float, float] | None:
        """Return (precision, recall) of what scores `threshold` or more, None of nothing."""
        passing = int(np.sum(self.scores >= threshold))
        if not passing:
            return None
        return float(self.precision[passing - 1]), float(self.recall[passing - 1])


def precision_recall(ranking: Ranking, iou: float = 0.5) -> Curve:
    """Return the curve at one of the IOUS."""
    place = int(np.argmin(np.abs(IOUS - iou)))
    if not math.isclose(IOUS[place], iou):
        raise ValueError(f"IoU {iou} is none of {IOUS.round(2).tolist()}")
    right = np.cumsum(ranking.hits[place])
    # Only the last of equal scores is a place to cut.
    last = np.flatnonzero(np.append(ranking.scores[:-1] != ranking.scores[1:], True))
    if not len(ranking.scores):
        last = np.zeros(0, np.int64)
    total = max(1, int(ranking.positives.sum()))
    return Curve(ranking.scores[last], right[last] / (last + 1), right[last] / total)


def weighted_figures(ranking: Ranking, weights: Numbers | None = None) -> dict[str, float]:
    """Return ap, ap50, ap75 and ar when frame f counts `weights[f]` times (F,), None for once each.

    The mean over the classes that have true boxes, NaN without any.
    """
    by_class = [_of_class(ranking, number, weights) for number in range(ranking.positives.shape[1])]
    return _mean([figures for figures in by_class if figures is not None])


def figures_by_class(ranking: Ranking) -> list[dict[str, float]]:
    """Return the figures of each class (C,), NaN for one without true boxes."""
    return [
        _mean([] if figures is None else [figures])
        for figures in (
            _of_class(ranking, number, None) for number in range(ranking.positives.shape[1])
        )
    ]


def _of_class(
    ranking: Ranking, number: int, weights: Numbers | None
) -> tuple[Numbers, Numbers] | None:
    """Return average precision and recall (10,) at each IoU, None without true boxes."""
    frame_weights = np.ones(len(ranking.positives)) if weights is None else weights
    total = float(frame_weights @ ranking.positives[:, number])
    if total <= 0:
        return None
    own = ranking.classes == number
    each = frame_weights[ranking.frames[own]]
    right = np.cumsum(ranking.hits[:, own] * each, axis=1)
    if not right.shape[1]:
        return np.zeros(len(IOUS)), np.zeros(len(IOUS))
    passed = np.cumsum(each)
    precision = right / np.where(passed > 0, passed, 1)
    # At each recall the best precision that can be had with at least as much.
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = right / total
    averages = np.empty(len(IOUS))
    for place in range(len(IOUS)):
        at = np.searchsorted(recall[place], _RECALLS, side="left")
        reached = at < recall.shape[1]
        averages[place] = precision[place][at[reached]].sum() / len(_RECALLS)
    return averages, recall[:, -1]


def _mean(classes: list[tuple[Numbers, Numbers]]) -> dict[str, float]:
    if not classes:
        return dict.fromkeys(("ap", "ap50", "ap75", "ar"), math.nan)
    precision, recall = np.mean(classes, axis=0)
    return {
        "ap": float(precision.mean()),
        "ap50": float(precision[_AT_50]),
        "ap75": float(precision[_AT_75]),
        "ar": float(recall.mean()),
    }

"""COCO's figures by pycocotools, and the matches behind them for what it cannot do itself."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from edge.vision.types import Detections, Floats
from trainer.evaluate.detection.ranking import IOUS, Ranking

# Side of a box in pixels of the frame: below 32 is small, from 96 on large.
SIZES = ("small", "medium", "large")
_SIZE_LIMITS_PX = (32, 96)
# Places in COCOeval.stats.
_FIGURES = {"ap": 0, "ap50": 1, "ap75": 2, "ar": 8}
_AR_BY_SIZE = {"small": 9, "medium": 10, "large": 11}


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """figures: ap, ap50, ap75, ar. ar_by_size: by SIZES; NaN where there is no such box.

    The size is that of the box, in COCO's own data that of the outline. ranking: what was matched.
    """

    figures: dict[str, float]
    ar_by_size: dict[str, float]
    ranking: Ranking


def coco_figures(
    found: Sequence[Detections],
    boxes: Sequence[Floats],
    classes: Sequence[NDArray[np.int32]],
) -> dict[str, float]:
    """Return ap, ap50, ap75 and ar by pycocotools; NaN without a single true box.

    found: detections of each frame. boxes, classes: float32 (n, 4) and int32 (n,) of each frame.
    """
    return _picked(_judged(found, boxes, classes), _FIGURES)


def boxes_by_size(boxes: Sequence[Floats]) -> dict[str, int]:
    """Return how many true boxes are small, medium and large."""
    every = np.concatenate([*boxes, np.zeros((0, 4), np.float32)]).astype(np.float64)
    areas = np.prod(every[:, 2:] - every[:, :2], axis=1)
    group = np.digitize(areas, [side**2 for side in _SIZE_LIMITS_PX])
    return {name: int(np.sum(group == number)) for number, name in enumerate(SIZES)}


def judge(
    found: Sequence[Detections],
    boxes: Sequence[Floats],
    classes: Sequence[NDArray[np.int32]],
    class_count: int,
) -> Judgement:
    """Return all that pycocotools says of detections.

    Arguments as of `coco_figures`. A detection of a class beyond `class_count` is never right.
    """
    done = _judged(found, boxes, classes)
    positives = np.zeros((len(boxes), class_count), np.int64)
    for row, labels in enumerate(classes):
        positives[row] = np.bincount(labels, minlength=class_count)
    return Judgement(
        _picked(done, _FIGURES), _picked(done, _AR_BY_SIZE), _ranked(done, len(boxes), positives)
    )


def _ranked(judge: Any, frame_count: int, positives: NDArray[np.int64]) -> Ranking:
    scores: list[Floats] = []
    classes: list[NDArray[np.int64]] = []
    frames: list[NDArray[np.int64]] = []
    hits: list[NDArray[np.bool_]] = []
    # evalImgs is classes x areas x frames, and the first area is that of all boxes.
    areas = 0 if judge is None else len(judge.params.areaRng)
    for place, number in enumerate([] if judge is None else judge.params.catIds):
        start = place * areas * frame_count
        for frame, entry in enumerate(judge.evalImgs[start : start + frame_count]):
            count = 0 if entry is None else len(entry["dtScores"])
            if count:
                scores.append(np.array(entry["dtScores"], np.float32))
                classes.append(np.full(count, number, np.int64))
                frames.append(np.full(count, frame, np.int64))
                hits.append(np.asarray(entry["dtMatches"]) > 0)
    if not scores:
        nothing, missed = np.zeros(0, np.int64), np.zeros((len(IOUS), 0), bool)
        return Ranking(np.zeros(0, np.float32), nothing, nothing, missed, positives)
    every = np.concatenate(scores)
    # Equal scores stay in COCO's order, which is that of the frames.
    order = np.argsort(-every, kind="stable")
    return Ranking(
        every[order],
        np.concatenate(classes)[order],
        np.concatenate(frames)[order],
        np.concatenate(hits, axis=1)[:, order],
        positives,
    )


def _picked(judge: Any, places: dict[str, int]) -> dict[str, float]:
    if judge is None:
        return dict.fromkeys(places, math.nan)
    # COCO writes -1 where there is nothing to judge.
    values = {name: float(judge.stats[place]) for name, place in places.items()}
    return {name: value if value >= 0 else math.nan for name, value in values.items()}


def _judged(
    found: Sequence[Detections],
    boxes: Sequence[Floats],
    classes: Sequence[NDArray[np.int32]],
) -> Any:
    """Return a COCOeval that has done its work, None without a single true box."""
    if not sum(len(rows) for rows in boxes):
        return None
    truth = COCO()
    truth.dataset = {
        "images": [{"id": number + 1} for number in range(len(boxes))],
        "categories": [{"id": number} for number in _classes_of(classes, found)],
        "annotations": _numbered(_rows(boxes, classes, None), iscrowd=0),
    }
    answer = COCO()
    answer.dataset = {
        **truth.dataset,
        "annotations": _numbered(
            _rows([f.boxes for f in found], [f.classes for f in found], [f.scores for f in found])
        ),
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        answer.createIndex()
        judge = COCOeval(truth, answer, "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge


def _classes_of(classes: Sequence[NDArray[np.int32]], found: Sequence[Detections]) -> list[int]:
    rows = [*classes, *(detections.classes for detections in found)]
    return [int(number) for number in np.unique(np.concatenate(rows))]


def _rows(
    boxes: Sequence[Floats],
    classes: Sequence[NDArray[np.int32]],
    scores: Sequence[Floats] | None,
) -> list[dict[str, Any]]:
    rows = []
    for number, (frame, labels) in enumerate(zip(boxes, classes, strict=True)):
        for row, (box, label) in enumerate(zip(frame, labels, strict=True)):
            x1, y1, x2, y2 = (float(value) for value in box)
            entry: dict[str, Any] = {
                "image_id": number + 1,
                "category_id": int(label),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
            }
            if scores is not None:
                entry["score"] = float(scores[number][row])
            rows.append(entry)
    return rows


def _numbered(rows: list[dict[str, Any]], **extra: Any) -> list[dict[str, Any]]:
    # Ids from 1: COCOeval takes id 0 for "no match".
    return [{"id": number, **row, **extra} for number, row in enumerate(rows, 1)]

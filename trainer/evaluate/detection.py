"""How well animals are found: COCO's figures, counting, and recall where animals lie close."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from edge.vision.geometry import box_areas, intersection_matrix, iou_matrix
from edge.vision.types import Detections, Floats, Image
from trainer.data.crops import load_image
from trainer.data.frames import FrameSet
from trainer.progress import Report, silent

# Average precision asks for all that a detector holds possible, not only for what it is sure of.
LOW_SCORE = 0.01
_MATCH_IOU = 0.5
# Share of a box that lies under another: less is "none", more is "piled".
_TOUCHING_FROM, _PILED_FROM = 0.02, 0.35
OVERLAPS = ("none", "touching", "piled")
_REPORT_EVERY = 4


class Detect(Protocol):
    """A detector, such as `edge.vision.detector.Detector.detect`."""

    def __call__(self, image: Image, score_threshold: float | None = None) -> Detections:
        """Return the animals of a frame; `score_threshold` replaces the detector's own."""


def evaluate_detection(detect: Detect, frames: FrameSet, report: Report = silent) -> dict[str, Any]:
    """Return how well `detect` finds the animals of `frames`.

    ap, ap50, ap75, ar: COCO's average precision over IoU 0.5..0.95, at 0.5 and at 0.75, and
    average recall of at most 100 a frame. count_error: mean absolute difference between how many
    animals are found and are there, at the detector's own threshold. recall_by_overlap: share of
    the animals found at IoU 0.5 and the detector's own threshold, by how much of their box other
    boxes cover ("none", "touching", "piled"). Figures without a single box to judge are NaN.
    """
    every: list[Detections] = []
    sure: list[Detections] = []
    for row, path in enumerate(frames.paths):
        image = load_image(path)
        every.append(detect(image, score_threshold=LOW_SCORE))
        sure.append(detect(image))
        if row % _REPORT_EVERY == 0 or row + 1 == len(frames):
            report(row + 1, len(frames))
    errors = [abs(len(f) - len(boxes)) for f, boxes in zip(sure, frames.boxes, strict=True)]
    return {
        **coco_figures(every, frames.boxes, frames.classes),
        "count_error": float(np.mean(errors)) if errors else math.nan,
        "recall_by_overlap": recall_by_overlap(sure, frames.boxes, frames.classes),
    }


def coco_figures(
    found: Sequence[Detections],
    boxes: Sequence[Floats],
    classes: Sequence[NDArray[np.int32]],
) -> dict[str, float]:
    """Return ap, ap50, ap75 and ar by pycocotools; NaN without a single true box.

    found: detections of each frame. boxes, classes: float32 (n, 4) and int32 (n,) of each frame.
    """
    if not sum(len(rows) for rows in boxes):
        return dict.fromkeys(("ap", "ap50", "ap75", "ar"), math.nan)
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
    names = {"ap": 0, "ap50": 1, "ap75": 2, "ar": 8}
    return {name: float(judge.stats[number]) for name, number in names.items()}


def recall_by_overlap(
    found: Sequence[Detections],
    boxes: Sequence[Floats],
    classes: Sequence[NDArray[np.int32]],
) -> dict[str, float]:
    """Return the share of true boxes found at IoU 0.5, by how much others cover them.

    found, boxes, classes: as in `coco_figures`. "none": up to 2 % of the box lies under any other
    one; "piled": from 35 % on. NaN where there is no such box.
    """
    groups: list[NDArray[np.int64]] = []
    hits: list[NDArray[np.bool_]] = []
    for detections, truth, labels in zip(found, boxes, classes, strict=True):
        shared = intersection_matrix(truth, truth)
        np.fill_diagonal(shared, 0)
        covered = shared.max(axis=1, initial=0) / np.maximum(box_areas(truth), 1e-6)
        groups.append(np.digitize(covered, [_TOUCHING_FROM, _PILED_FROM]))
        hits.append(np.isin(np.arange(len(truth)), match_detections(detections, truth, labels)))
    group = np.concatenate(groups) if groups else np.zeros(0, np.int64)
    hit = np.concatenate(hits) if hits else np.zeros(0, bool)
    return {
        name: float(hit[group == number].mean()) if (group == number).any() else math.nan
        for number, name in enumerate(OVERLAPS)
    }


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
        if overlaps[row, best] >= _MATCH_IOU:
            matches[row] = best
            overlaps[:, best] = 0
    return matches


def best_threshold(
    found: Sequence[Detections],
    boxes: Sequence[Floats],
    classes: Sequence[NDArray[np.int32]],
) -> float | None:
    """Return the score threshold with the best F1 at IoU 0.5, or None without a right detection.

    It lies half-way between the last score it lets pass and the next lower one.
    """
    scores = np.concatenate([detections.scores for detections in found] or [np.zeros(0)])
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

"""How well animals are found: COCO's figures, counting, and recall where animals lie close."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from edge.errors import DataError
from edge.pipeline import PipelineOptions, sift
from edge.vision.types import Detections, Image
from trainer.data.crops import load_image
from trainer.data.frames import FrameSet
from trainer.evaluate.detection.coco import Judgement, boxes_by_size, judge
from trainer.evaluate.detection.matching import (
    LOW_SCORE,
    OVERLAPS,
    at_least,
    best_threshold,
)
from trainer.evaluate.detection.ranking import (
    Numbers,
    figures_by_class,
    precision_recall,
    weighted_figures,
)
from trainer.evaluate.detection.tally import Tally, tally, tally_figures
from trainer.evaluate.intervals import DRAWS, by_session, percentile_intervals
from trainer.progress import Report, silent

_REPORT_EVERY = 4
_OF_CLASS = ("precision", "recall", "f1", "count_error", "count_error_device")
_OF_SESSION = (
    "precision",
    "recall",
    "f1",
    "count_error",
    "count_bias",
    "count_error_device",
    "false_positives_per_frame",
)


class Detect(Protocol):
    """A detector, such as `edge.vision.detector.Detector.detect`."""

    def __call__(self, image: Image, score_threshold: float | None = None) -> Detections:
        """Return the animals of a frame; `score_threshold` replaces the detector's own."""


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """What a detector found in F frames, and what it is worth.

    found: every detection from LOW_SCORE on, by frame. sure: those from `score_threshold` on.
    counted: those that the device's pipeline takes for animals. judgement: COCO's, of `found`.
    tally: counts of `sure` and of `counted`.
    """

    found: tuple[Detections, ...]
    sure: tuple[Detections, ...]
    counted: tuple[Detections, ...]
    score_threshold: float
    judgement: Judgement
    tally: Tally


def find(detect: Detect, frames: FrameSet, report: Report = silent) -> tuple[Detections, ...]:
    """Return every detection from LOW_SCORE on, by frame; each frame is asked once.

    Raises DataError for an image that cannot be read or is smaller than its boxes say.
    """
    return tuple(detect(image, score_threshold=LOW_SCORE) for image in _images(frames, report))


def findings(found: Sequence[Detections], frames: FrameSet, score_threshold: float) -> Findings:
    """Judge what was found in `frames`, with `found` as `find` gives it."""
    sure = tuple(at_least(detections, score_threshold) for detections in found)
    counted = tuple(_counted(detections, score_threshold) for detections in found)
    return Findings(
        tuple(found),
        sure,
        counted,
        score_threshold,
        judge(found, frames.boxes, frames.classes, len(frames.class_names)),
        tally(sure, frames.boxes, frames.classes, counted),
    )


def _counted(found: Detections, score_threshold: float) -> Detections:
    """Return what a device takes for animals: its pipeline's strong boxes, by the usual options."""
    options = PipelineOptions()
    weak_score, strong_score = options.scores(score_threshold)
    left, strong = sift(at_least(found, weak_score), strong_score, options)
    return Detections(left.boxes[strong], left.scores[strong], left.classes[strong])


def detection_figures(
    int8: Findings,
    frames: FrameSet,
    *,
    twin: Findings | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the figures of `metrics.json`: docs/detection.md says what each is.

    twin: what the float model found in the same frames. draws, seed: of the bootstrap over
    sessions. What is undefined is NaN.
    """
    curve = precision_recall(int8.judgement.ranking)
    flat = _flat(int8)
    return {
        **{name: value for name, value in flat.items() if not name.startswith("recall_")},
        "recall_by_overlap": {name: flat[f"recall_{name}"] for name in OVERLAPS},
        "boxes_by_overlap": dict(
            zip(OVERLAPS, int8.tally.overlap_true.sum(axis=0).tolist(), strict=True)
        ),
        "ar_by_size": int8.judgement.ar_by_size,
        "boxes_by_size": boxes_by_size(frames.boxes),
        "frames": len(frames),
        "animals": int(int8.tally.true.sum()),
        "score_threshold": int8.score_threshold,
        "best_threshold": best_threshold(int8.found, frames.boxes, frames.classes),
        "best_f1": float(curve.f1.max()) if len(curve.f1) else 0.0,
        "per_class": _per_class(int8, frames),
        "per_session": _per_session(int8, frames),
        "int8_ap_drop": None if twin is None else _flat(twin)["ap"] - flat["ap"],
        "float": None if twin is None else _flat(twin),
        "intervals": _intervals(int8, twin, frames, draws, seed),
    }


def _flat(findings_: Findings) -> dict[str, float]:
    """Return the figures that are one number."""
    return {**findings_.judgement.figures, **tally_figures(findings_.tally)}


def _weighted(findings_: Findings, weights: Numbers) -> dict[str, float]:
    """Return the same figures when frames count differently."""
    return {
        **weighted_figures(findings_.judgement.ranking, weights),
        **tally_figures(findings_.tally, weights),
    }


def _per_class(int8: Findings, frames: FrameSet) -> dict[str, dict[str, float]]:
    table: dict[str, dict[str, float]] = {}
    averages = figures_by_class(int8.judgement.ranking)
    for number, (name, figures) in enumerate(zip(frames.class_names, averages, strict=True)):
        own = [labels == number for labels in frames.classes]
        counts = tally_figures(
            tally(
                [_of_class(detections, number) for detections in int8.sure],
                [boxes[rows] for boxes, rows in zip(frames.boxes, own, strict=True)],
                [labels[rows] for labels, rows in zip(frames.classes, own, strict=True)],
                [_of_class(detections, number) for detections in int8.counted],
            )
        )
        kept = {measure: counts[measure] for measure in _OF_CLASS}
        table[name] = {**figures, **kept, "animals": int(sum(rows.sum() for rows in own))}
    return table


def _of_class(detections: Detections, number: int) -> Detections:
    rows = detections.classes == number
    return Detections(detections.boxes[rows], detections.scores[rows], detections.classes[rows])


def _per_session(int8: Findings, frames: FrameSet) -> dict[str, dict[str, float]]:
    sessions = np.array(frames.sessions, dtype=np.str_)
    table: dict[str, dict[str, float]] = {}
    for name in np.unique(sessions):
        rows = sessions == name
        figures = _weighted(int8, rows.astype(np.float64))
        table[str(name)] = {
            "frames": int(rows.sum()),
            "animals": int(int8.tally.true[rows].sum()),
            **{measure: figures[measure] for measure in ("ap", "ap50", *_OF_SESSION)},
        }
    return table


def _intervals(
    int8: Findings, twin: Findings | None, frames: FrameSet, draws: int, seed: int
) -> dict[str, list[float]]:
    # All frames are one group: what is drawn are its sessions.
    sessions = by_session(np.zeros(len(frames), np.int64), frames.sessions, 1)
    if not sessions.random:
        return {}
    rng = np.random.default_rng(seed)

    def replicates() -> Iterator[dict[str, float]]:
        for _ in range(draws):
            weights = sessions.draw(rng).rows
            figures = _weighted(int8, weights)
            if twin is not None:
                reference = weighted_figures(twin.judgement.ranking, weights)
                figures["int8_ap_drop"] = reference["ap"] - figures["ap"]
            yield figures

    return percentile_intervals(replicates())


def _images(frames: FrameSet, report: Report) -> Iterator[Image]:
    for row, (path, boxes) in enumerate(zip(frames.paths, frames.boxes, strict=True)):
        image = load_image(path)
        height, width = image.shape[:2]
        if len(boxes) and (boxes[:, 2].max() > width or boxes[:, 3].max() > height):
            raise DataError(
                f"{path}: has {width}x{height} pixels and boxes outside of them; "
                "was it annotated at another size?"
            )
        yield image
        if row % _REPORT_EVERY == 0 or row + 1 == len(frames):
            report(row + 1, len(frames))

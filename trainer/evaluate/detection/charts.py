"""Charts of how well animals are found, as PNG bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from trainer.evaluate.charts import png
from trainer.evaluate.detection.figures import Findings
from trainer.evaluate.detection.matching import OVERLAPS
from trainer.evaluate.detection.ranking import precision_recall

_INT8, _FLOAT = "#0072B2", "#D55E00"
_PRECISION, _RECALL, _F1 = "#009E73", "#CC79A7", "#0072B2"
_RIGHT, _TOO_MANY, _TOO_FEW = "#009E73", "#E69F00", "#CC79A7"
_STYLES = {0.5: "-", 0.75: "--"}
# Of the square of counts: how long its sides are about, in points, and its dots' areas.
_COUNT_SIDE_PT = 270
_LEAST_DOT, _MOST_DOT = 8, 420
# Over how many animals numbers in dots can be read.
_NUMBERS_UP_TO = 22


def precision_recall_chart(int8: Findings, twin: Findings | None = None) -> bytes:
    """Return precision over recall at IoU 0.5 and 0.75, all classes together.

    A dot marks the score threshold that is asked, on each curve.
    """
    figure, axis = plt.subplots(figsize=(5.6, 4.4))
    models = _models(int8, twin)
    for name, colour, model in reversed(models):
        for iou, style in _STYLES.items():
            curve = precision_recall(model.judgement.ranking, iou)
            average = model.judgement.figures["ap50" if iou == 0.5 else "ap75"]
            axis.plot(
                curve.recall,
                curve.precision,
                color=colour,
                ls=style,
                lw=1.3 if name == "int8" else 3,
                alpha=1 if name == "int8" else 0.5,
                label=f"{name}, IoU {iou:g}: AP {average:.3f}",
            )
            place = curve.at(model.score_threshold)
            if place is not None:
                axis.plot(place[1], place[0], "o", color=colour, ms=6, mec="white", zorder=3)
    axis.plot([], [], "o", color="0.4", label=f"at score {int8.score_threshold:.3g}")
    axis.set_xlabel("recall: share of the animals there that are found", fontsize=8)
    axis.set_ylabel("precision: share of the finds that are right", fontsize=8)
    axis.set_xlim(0, 1.02)
    axis.set_ylim(0, 1.02)
    _tidy(axis)
    axis.legend(fontsize=7, loc="best")
    return png(figure)


def threshold_chart(int8: Findings, twin: Findings | None = None) -> bytes:
    """Return precision, recall and F1 at IoU 0.5 over the score threshold."""
    figure, axis = plt.subplots(figsize=(5.6, 3.6))
    curve = precision_recall(int8.judgement.ranking)
    if twin is not None:
        other = precision_recall(twin.judgement.ranking)
        axis.step(
            other.scores, other.f1, color=_FLOAT, lw=3, alpha=0.5, where="pre", label="F1, float"
        )
    for name, colour, values in (
        ("precision", _PRECISION, curve.precision),
        ("recall", _RECALL, curve.recall),
        ("F1", _F1, curve.f1),
    ):
        axis.step(curve.scores, values, color=colour, where="pre", label=name)
    threshold = int8.score_threshold
    axis.axvline(threshold, color="0.3", lw=1, label=f"threshold asked: {threshold:.3g}")
    if len(curve.f1):
        best = int(curve.f1.argmax())
        axis.plot(
            curve.scores[best],
            curve.f1[best],
            "v",
            color=_F1,
            ms=7,
            mec="white",
            label=f"best F1 here: {curve.f1[best]:.3f}",
        )
    axis.set_xlabel("score threshold", fontsize=8)
    axis.set_ylabel("share", fontsize=8)
    axis.set_xlim(0, 1.01)
    axis.set_ylim(0, 1.02)
    _tidy(axis)
    axis.legend(fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False)
    return png(figure)


def count_chart(int8: Findings) -> bytes:
    """Return how many animals were found over how many were there: a dot's area is its frames."""
    pairs = np.stack([int8.tally.true, int8.tally.found], axis=1)
    places, frames = np.unique(pairs, axis=0, return_counts=True)
    low, high = int(pairs.min()), int(pairs.max())
    figure, axis = plt.subplots(figsize=(4.8, 4.8))
    axis.plot([low - 1, high + 1], [low - 1, high + 1], color="0.6", lw=1, zorder=1)
    # The largest dot fills the step of one animal, so that dots stay apart.
    largest = (0.9 * _COUNT_SIDE_PT / (high - low + 1.6)) ** 2
    difference = places[:, 1] - places[:, 0]
    for name, colour, rows in (
        ("too many", _TOO_MANY, difference > 0),
        ("right", _RIGHT, difference == 0),
        ("too few", _TOO_FEW, difference < 0),
    ):
        total = int(frames[rows].sum())
        axis.scatter(
            places[rows, 0],
            places[rows, 1],
            s=np.clip(largest * frames[rows] / frames.max(), _LEAST_DOT, _MOST_DOT),
            color=colour,
            alpha=0.75,
            lw=0,
            zorder=2,
        )
        label = f"{name}: {total} frame{'' if total == 1 else 's'}"
        axis.plot([], [], "o", color=colour, alpha=0.75, mec="none", label=label)
    if high - low <= _NUMBERS_UP_TO:
        for (true, found), count in zip(places, frames, strict=True):
            axis.text(true, found, str(count), fontsize=6, ha="center", va="center", zorder=3)
    for limits in (axis.set_xlim, axis.set_ylim):
        limits(low - 0.8, high + 0.8)
    for ticks in (axis.xaxis, axis.yaxis):
        ticks.set_major_locator(MaxNLocator(integer=True))
    axis.set_aspect("equal")
    axis.set_xlabel("animals there", fontsize=8)
    axis.set_ylabel("animals found", fontsize=8)
    _tidy(axis)
    axis.legend(fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False)
    return png(figure)


def overlap_chart(
    int8: Findings,
    twin: Findings | None = None,
    intervals: Mapping[str, Sequence[float]] | None = None,
) -> bytes:
    """Return bars of recall at IoU 0.5 by how much of an animal's box lies under others.

    intervals: [low, high] of `recall_none` and so on, drawn for the int8 model.
    """
    figure, axis = plt.subplots(figsize=(5.2, 3.2))
    counts = int8.tally.overlap_true.sum(axis=0)
    models = _models(int8, twin)
    width = 0.7 / len(models)
    for number, (name, colour, model) in enumerate(models):
        places = np.arange(len(OVERLAPS)) + (number - (len(models) - 1) / 2) * width
        shares = model.tally.overlap_hits.sum(axis=0) / np.maximum(counts, 1)
        axis.bar(places, np.where(counts > 0, shares, 0), 0.94 * width, color=colour, label=name)
        for row, (place, share) in enumerate(zip(places, shares, strict=True)):
            if not counts[row]:
                continue
            low = share < 0.15
            axis.text(
                place,
                share + 0.03 if low else 0.03,
                f"{share:.3f}",
                fontsize=8,
                ha="center",
                color="black" if low else "white",
            )
            bounds = (intervals or {}).get(f"recall_{OVERLAPS[row]}")
            if name == "int8" and bounds is not None:
                beside = place + 0.35 * width
                axis.plot([beside, beside], bounds, color="black", lw=1.2, marker="_", ms=7)
    labels = [f"{name}\n{count} animals" for name, count in zip(OVERLAPS, counts, strict=True)]
    axis.set_xticks(range(len(OVERLAPS)), labels)
    axis.set_ylabel("recall", fontsize=8)
    axis.set_ylim(0, 1.05)
    _tidy(axis)
    axis.grid(visible=False, axis="x")
    if twin is not None:
        axis.legend(fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False)
    return png(figure)


def _models(int8: Findings, twin: Findings | None) -> list[tuple[str, str, Findings]]:
    """Return name, colour and findings of each model."""
    return [("int8", _INT8, int8)] + ([("float", _FLOAT, twin)] if twin is not None else [])


def _tidy(axis: Any) -> None:
    axis.tick_params(labelsize=7)
    axis.grid(alpha=0.3)
    axis.set_axisbelow(True)

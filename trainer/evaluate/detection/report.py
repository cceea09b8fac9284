"""The report of `evaluate detection`: one HTML file that needs nothing beside it."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping
from typing import Any

from trainer.evaluate import page
from trainer.evaluate.detection.coco import SIZES
from trainer.evaluate.detection.matching import OVERLAPS

MEASURES = (
    ("ap", "AP, over IoU 0.5 to 0.95"),
    ("ap50", "AP50, IoU 0.5"),
    ("ap75", "AP75, IoU 0.75"),
    ("ar", "AR, average recall"),
    ("precision", "precision at the threshold"),
    ("recall", "recall at the threshold"),
    ("f1", "F1 at the threshold"),
    ("count_error", "count error, animals a frame"),
    ("count_bias", "count bias (above 0: too many)"),
    ("count_right", "frames with the right count"),
    ("count_error_device", "count error of the device's strong boxes"),
    ("count_bias_device", "count bias of the device's strong boxes"),
    ("false_positives_per_frame", "false finds a frame"),
    ("missed_per_frame", "missed animals a frame"),
    ("int8_ap_drop", "AP lost by int8"),
)
_MOST_SESSIONS = 40
_TITLES = {
    "precision_recall.png": "Precision against recall",
    "threshold.png": "What another score threshold would bring",
    "counts.png": "Animals counted, frame by frame (in dots: how many frames)",
    "overlap.png": "Recall by how much of an animal's box lies under another's",
    "worst.jpg": "The worst frames: lowest F1 first, then the most missed",
    "missed.jpg": "Missed animals, the largest of them",
}
_NOTES = {
    "threshold.png": (
        "The best threshold of these frames is a little too good for others: choose thresholds on "
        "frames that are not asked."
    ),
    "overlap.png": (
        "none: up to 2 % of the box is covered; piled: from 35 % on. Black strokes: 95 % intervals."
    ),
    "missed.jpg": (
        "Size in pixels of the frame; seen at: the best score of a find there that lies below the "
        "threshold."
    ),
}


def measures_table(figures: Mapping[str, Any]) -> str:
    """Return the figures that are one number, with intervals and beside those of the float twin."""
    intervals, twin = figures["intervals"], figures["float"]
    rows = [
        (
            text,
            page.figure(defined(figures[name])),
            page.interval(intervals.get(name)),
            *(() if twin is None else (page.figure(defined(twin.get(name))),)),
        )
        for name, text in MEASURES
        if figures[name] is not None
    ]
    head = ("measure", "int8", "interval", *(() if twin is None else ("float",)))
    note = "<p class=note>At the threshold: right are finds with IoU 0.5 or more.</p>"
    if intervals:
        note += (
            "<p class=note>Intervals: 95 %, bootstrap over sessions. One of no width means that no "
            "session here spoke against the figure, not that none will.</p>"
        )
    return page.table(head, rows) + note


def overlap_table(figures: Mapping[str, Any]) -> str:
    """Return recall by how animals lie."""
    return page.table(
        ("recall at IoU 0.5", *OVERLAPS),
        [
            ("share found", *(defined(figures["recall_by_overlap"][name]) for name in OVERLAPS)),
            ("animals", *(figures["boxes_by_overlap"][name] for name in OVERLAPS)),
        ],
    )


def detection_page(title: str, figures: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """Return the page as HTML.

    figures: of `trainer.evaluate.detection.protocol.evaluate`, with `threshold_of`. pictures: PNGs
    and JPEGs by file name; those that are missing are left out.
    """
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p class=note>{html.escape(_setting(figures))}</p>",
        page.warnings(figures["warnings"]),
        page.cards(
            [
                ("AP", figures["ap"]),
                ("AP50", figures["ap50"]),
                ("recall", figures["recall"]),
                ("precision", defined(figures["precision"])),
                ("count error", figures["count_error"]),
            ]
        ),
        "<h2>Figures</h2>",
        measures_table(figures),
        "<h3>By how animals lie</h3>",
        overlap_table(figures),
        "<h3>By size of the box (limits: sides of 32 and 96 pixels)</h3>",
        page.table(
            ("average recall", *SIZES),
            [
                ("AR", *(defined(figures["ar_by_size"][name]) for name in SIZES)),
                ("animals", *(figures["boxes_by_size"][name] for name in SIZES)),
            ],
        ),
        *_classes(figures["per_class"]),
        *_drawn(pictures),
        *_sessions(figures["per_session"]),
    ]
    return page.page(f"earmark: {title}", parts)


def defined(value: float | None) -> float | None:
    """Return None, which a page writes as a dash, for what is not a number."""
    return None if value is None or math.isnan(value) else value


def _setting(figures: Mapping[str, Any]) -> str:
    sessions = len(figures["per_session"])
    return (
        f"int8 model through the device's own code; {figures['animals']} animals in "
        f"{figures['frames']} frames of {sessions} session{'' if sessions == 1 else 's'}. Score "
        f"threshold {figures['score_threshold']:.3g} ({figures['threshold_of']}); the best F1 on "
        f"these frames is {figures['best_f1']:.3f}"
        + (f", at {figures['best_threshold']:.3g}." if figures["best_threshold"] else ".")
    )


def _classes(table: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    if len(table) < 2:
        return
    names = (
        *("ap", "ap50", "ap75", "ar", "precision", "recall", "f1"),
        *("count_error", "count_error_device"),
    )
    yield "<h3>By class</h3>"
    yield page.table(
        (
            "class",
            "AP",
            "AP50",
            "AP75",
            "AR",
            "precision",
            "recall",
            "F1",
            "count error",
            "on a device",
            "animals",
        ),
        [
            (name, *(defined(row[measure]) for measure in names), row["animals"])
            for name, row in table.items()
        ],
    )


def _sessions(table: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    if len(table) < 2:
        return
    names = ("ap", "precision", "recall", "f1", "count_error", "count_bias", "count_error_device")
    # A session without animals has no F1; it comes last.
    worst = sorted(table.items(), key=lambda row: (math.isnan(row[1]["f1"]), row[1]["f1"]))
    yield "<h2>By session, the worst first</h2>"
    if len(worst) > _MOST_SESSIONS:
        yield f"<p class=note>{_MOST_SESSIONS} of {len(worst)}; metrics.json has all.</p>"
    yield page.table(
        (
            *("session", "AP", "precision", "recall", "F1", "count error", "bias", "on a device"),
            *("animals", "frames"),
        ),
        [
            (name, *(defined(row[measure]) for measure in names), row["animals"], row["frames"])
            for name, row in worst[:_MOST_SESSIONS]
        ],
    )


def _drawn(pictures: Mapping[str, bytes]) -> Iterable[str]:
    for name, title in _TITLES.items():
        if name in pictures:
            yield f"<h2>{title}</h2>"
            yield page.image(pictures[name], title)
            if name in _NOTES:
                yield f"<p class=note>{_NOTES[name]}</p>"

"""The report of `evaluate tracking`: one HTML file that needs nothing beside it."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from trainer.evaluate import page

MEASURES = (
    ("idf1", "IDF1"),
    ("hota", "HOTA"),
    ("deta", "DetA: how well animals are found"),
    ("assa", "AssA: how well tracks stay with them"),
    ("mota", "MOTA"),
    ("id_switches", "ID switches"),
    ("track_f1", "identification F1, tracks"),
    ("frame_f1", "identification F1, frames"),
    ("wrong_names_per_min", "wrong names a minute"),
    ("path_full_px", "name's path, full: pixels off"),
    ("path_full_lengths", "name's path, full: body lengths off"),
    ("path_partial_px", "name's path, partial: pixels off"),
    ("path_partial_lengths", "name's path, partial: body lengths off"),
    ("path_partial_share", "share of frames in the partial path"),
    ("precision", "precision of the boxes"),
    ("recall", "recall of the boxes"),
    ("tracks", "tracks"),
)
_KEY = ("idf1", "hota", "track_f1", "frame_f1", "wrong_names_per_min")
_CLIP_KEY = ("idf1", "hota", "mota", "id_switches", *_KEY[2:], "path_full_lengths")
_NOTE = (
    "IDF1, HOTA and MOTA look at track ids, at IoU 0.5 (HOTA: 0.05 to 0.95); the others at the "
    "names that tracks carry. Clips are pooled by their counts. Full: over all frames, with the "
    "last known place held (before a name is first seen: the middle of the pen); partial: over "
    "the frames in which both the animal and its name have a place."
)
_PICTURE_NOTE = (
    "White: where the animal went. Green: its name, within a body length of it; orange: its name, "
    "farther off. A ring: where a path begins; a dot: where it ends."
)


def tracking_page(title: str, metrics: Mapping[str, Any], sheets: Mapping[str, bytes]) -> str:
    """Return the page as HTML. metrics: as `evaluate` makes them; sheets: JPEGs by clip."""
    trackers = metrics["trackers"]
    names = dict(MEASURES)
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p class=note>{html.escape(_setting(metrics))}</p>",
        page.warnings(metrics["warnings"]),
        page.cards([(names[name], metrics[name]) for name in _KEY]),
        f"<h2>{'All trackers' if len(trackers) > 1 else 'Figures'}</h2>",
        page.table(
            ("measure", *trackers),
            [(text, *(own[name] for own in trackers.values())) for name, text in MEASURES],
        ),
        f"<p class=note>{_NOTE}</p>",
    ]
    if len(metrics["clips"]) > 1:
        parts += ["<h2>Each clip</h2>", _clips(metrics)]
    for clip, sheet in sheets.items():
        parts += [
            f"<h2>Paths: {html.escape(clip)}</h2>",
            f"<p class=note>{_PICTURE_NOTE}</p>",
            page.image(sheet, f"paths of {clip}"),
        ]
    return page.page(f"earmark: {title}", parts)


def _setting(metrics: Mapping[str, Any]) -> str:
    clips = len(metrics["clips"])
    return (
        f"{metrics['animals']} animals, {metrics['boxes']} true boxes in {metrics['frames']} "
        f"frames of {clips} clip{'' if clips == 1 else 's'}, {metrics['minutes']:.2f} minutes. "
        f"Above all: {metrics['tracker']}. Every tracker has the same detector, embedder and class "
        "means, through the device's own code."
    )


def _clips(metrics: Mapping[str, Any]) -> str:
    names = dict(MEASURES)
    return page.table(
        ("clip, tracker", *(names[name] for name in _CLIP_KEY)),
        [
            (f"{clip}, {tracker}", *(own["per_clip"][clip][name] for name in _CLIP_KEY))
            for clip in metrics["clips"]
            for tracker, own in metrics["trackers"].items()
        ],
    )

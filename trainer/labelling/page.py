"""The page on which a person gives tracklets their names; it needs nothing beside it."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from edge.messaging.topics import RESERVED_ANIMALS
from edge.vision.geometry import Colour, letterbox
from edge.vision.types import Image
from trainer import pictures
from trainer.data.crops import load_image
from trainer.labelling.names import MARKS, NAMES_NAME, NOT_AN_ANIMAL, TWO_ANIMALS
from trainer.labelling.page_style import SCRIPT, STYLE
from trainer.labelling.summary import counted
from trainer.labelling.tracklets import Proposal, ProposedCrop, Tracklet

PAGE_NAME = "index.html"
# As edge.messaging.topics.ID_PATTERN, for a browser, where `$` is the end and nothing else.
_ID_PATTERN = "^[a-z0-9][a-z0-9-]{1,47}$"
_THUMBNAIL = 96
_MOST_THUMBNAILS = 8
_QUALITY = 78
_GREY: Colour = (235, 235, 235)


def write_page(proposal: Proposal, root: Path) -> str:
    """Return the page of a proposal whose crops lie below `root`.

    A field for each tracklet: names typed so far are offered, as is the name of another part of the
    same track, of a tracklet that looks like it, or of the nearest class mean; nothing is taken
    over by itself. What is typed stays in the browser until `names.csv` is downloaded.
    """
    cards = "".join(
        _card(tracklet, before, root)
        for before, tracklet in zip((None, *proposal.tracklets), proposal.tracklets, strict=False)
    )
    sessions = len({tracklet.session for tracklet in proposal.tracklets})
    body = (
        f"<h1>{counted(len(proposal.tracklets), 'tracklet')} of {counted(sessions, 'session')}: "
        "who is it?</h1><p>Type a name, <kbd>Enter</kbd> goes on, <kbd>Shift Enter</kbd> back, "
        "<kbd>→</kbd> in an empty field takes what is offered beside it, <kbd>Esc</kbd> empties "
        "it; <kbd>!n</kbd> is not an animal, <kbd>!t</kbd> two animals. What stays empty is left "
        f"out. Then download <code>{NAMES_NAME}</code> and run <code>earmark-trainer crops name"
        f"</code>.</p>{_TOOLS}<datalist id='animals'></datalist><div id='cards'>{cards}</div>"
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>earmark: tracklets'
        f"</title><style>{STYLE}</style></head><body>{body}"
        f'<script type="application/json" id="data">{_data(proposal)}</script>'
        f"<script>{SCRIPT}</script></body></html>\n"
    )


_TOOLS = (
    '<div id="tools"><span id="state"></span>'
    '<label>show <select id="which"><option value="all">all</option>'
    '<option value="open">without a name</option><option value="bad">to correct</option></select>'
    '</label><label>by <select id="by"><option value="time">track and time</option>'
    '<option value="frames">length</option><option value="name">name</option></select></label>'
    '<label>go on with <input type="file" id="load" accept=".csv,text/csv"></label>'
    f'<button id="download">download {NAMES_NAME}</button></div>'
)


def _data(proposal: Proposal) -> str:
    """Return what the script needs, as JSON that may stand in HTML."""
    content = {
        "id": proposal.id,
        "pattern": _ID_PATTERN,
        "reserved": sorted(RESERVED_ANIMALS),
        "marks": list(MARKS),
        "tracklets": [
            {
                "name": tracklet.name,
                "session": tracklet.session,
                "track": tracklet.track,
                "together": tracklet.together,
                "alike": tracklet.alike,
                "suggestion": tracklet.suggestion,
            }
            for tracklet in proposal.tracklets
        ],
    }
    return msgspec.json.encode(content).decode().replace("<", "\\u003c")


def _card(tracklet: Tracklet, before: Tracklet | None, root: Path) -> str:
    goes_on = before is not None and (before.session, before.track) == (
        tracklet.session,
        tracklet.track,
    )
    name = html.escape(tracklet.name)
    where = f"{tracklet.camera}, {_clock(tracklet)}"
    thumbnails = "".join(
        f'<img alt="" title="frame {crop.frame}" '
        f'src="{_data_url(tracklet.folder(root) / crop.file)}">'
        for crop in _spread(tracklet.crops)
    )
    return (
        f'<div class="card{" goes-on" if goes_on else ""}" data-name="{name}" '
        f'data-frames="{tracklet.frames}" data-goes-on="{int(goes_on)}"><div><b>{name}</b>'
        f"<small>{html.escape(where)}<br>{counted(tracklet.frames, 'frame')}, "
        f"track {tracklet.track}{', goes on' if goes_on else ''}</small>{_map(tracklet)}</div><div>"
        f'<div class="thumbs">{thumbnails}</div><div class="name"><input list="animals" '
        f'autocomplete="off" spellcheck="false" aria-label="animal of {name}">'
        f'<button class="hint" tabindex="-1"></button>'
        f'<button data-mark="{NOT_AN_ANIMAL}" tabindex="-1">not an animal</button>'
        f'<button data-mark="{TWO_ANIMALS}" tabindex="-1">two animals</button>'
        '<span class="why"></span></div></div></div>'
    )


def _spread(crops: Sequence[ProposedCrop]) -> list[ProposedCrop]:
    """Return as many crops as are shown, evenly."""
    rows = np.linspace(0, len(crops) - 1, min(len(crops), _MOST_THUMBNAILS)).round().astype(int)
    return [crops[row] for row in rows]


def _map(tracklet: Tracklet) -> str:
    """Return where in the frame the animal went: its way, where it began, and its last box."""
    points = [((x1 + x2) / 2, (y1 + y2) / 2) for _, x1, y1, x2, y2 in tracklet.path]
    if not points:
        return ""
    way = " ".join(f"{x:.0f},{y:.0f}" for x, y in points)
    _, x1, y1, x2, y2 = tracklet.path[-1]
    width, height = tracklet.width, tracklet.height
    stroke = f'fill="none" stroke-width="{max(1, width // 120)}"'
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="its way through the frame">'
        f'<rect x="{x1:.0f}" y="{y1:.0f}" width="{x2 - x1:.0f}" height="{y2 - y1:.0f}" '
        f'stroke="#2d7d46" {stroke}/><polyline points="{way}" stroke="#999" {stroke}/>'
        f'<circle cx="{points[0][0]:.0f}" cy="{points[0][1]:.0f}" r="{max(2, width // 60)}" '
        'fill="#999"/></svg>'
    )


def _clock(tracklet: Tracklet) -> str:
    """Return when it was seen: by the clock of a live camera, or by the video's own time."""
    if tracklet.first_time is not None and tracklet.last_time is not None:
        return f"{tracklet.first_time[11:19]} to {tracklet.last_time[11:19]} UTC"
    first, last = (
        f"{int(at_s) // 3600}:{int(at_s) // 60 % 60:02d}:{at_s % 60:04.1f}"
        for at_s in (tracklet.first_s, tracklet.last_s)
    )
    return f"{first} to {last}"


def _data_url(path: Path) -> str:
    side = (_THUMBNAIL, _THUMBNAIL)
    tile: Image = np.ascontiguousarray(letterbox(load_image(path), side, _GREY)[0])
    return f"data:image/jpeg;base64,{base64.b64encode(pictures.jpeg(tile, _QUALITY)).decode()}"

"""What a person acts on after an inspection: list, contact sheet, page, and a script to review."""

from __future__ import annotations

import base64
import html
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge.vision.geometry import Colour, letterbox
from edge.vision.types import Image
from trainer import pictures
from trainer.data.crops import CropSet, load_image
from trainer.means.doubtful import Doubt, Inspection

JSON_NAME = "doubtful.json"
SHEET_NAME = "doubtful.jpg"
PAGE_NAME = "index.html"
SCRIPT_NAME = "doubtful.sh"
NAMES = frozenset({JSON_NAME, SHEET_NAME, PAGE_NAME, SCRIPT_NAME})
SET_ASIDE = "set-aside"
SCHEMA = 1

_SHEET_TILE, _SHEET_COLUMNS, _SHEET_MOST = 120, 8, 200
_THUMBNAIL, _SMALL = 132, 64
_BACKGROUND: Colour = (235, 235, 235)
_COLOURS: dict[str, Colour] = {
    "duplicate": (190, 40, 190),
    "nearer": (214, 48, 38),
    "far": (235, 150, 20),
}
_WORDS = {
    "duplicate": "the same picture is filed under both animals",
    "nearer": "nearer to another animal than to its own",
    "far": "far from its own animal: another one, two in one crop, or none at all",
}
_JUDGED = {
    "other_sessions": "its animal's other sessions",
    "other_images": "the other images of its only session",
    "means": "the class means",
}


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """An inspection and the crops it is about; `listed` of its doubts are shown, worst first."""

    crops: CropSet
    inspection: Inspection
    bundle_id: str
    listed: int

    @property
    def doubts(self) -> tuple[Doubt, ...]:
        """The doubts that are shown."""
        return self.inspection.doubts[: self.listed]


def write_findings(findings: Findings, folder: Path) -> None:
    """Write the four files into an empty folder; without doubts there is no contact sheet."""
    tiles = [_tile(findings.crops.paths[doubt.row]) for doubt in findings.doubts]
    (folder / JSON_NAME).write_bytes(
        msgspec.json.format(msgspec.json.encode(as_record(findings)), indent=1) + b"\n"
    )
    if tiles:
        (folder / SHEET_NAME).write_bytes(draw_sheet(findings, tiles))
    (folder / PAGE_NAME).write_text(write_page(findings, tiles), encoding="utf-8")
    (folder / SCRIPT_NAME).write_bytes(os.fsencode(write_script(findings)))


def as_record(findings: Findings) -> dict[str, Any]:
    """Return what `doubtful.json` holds, as plain values."""
    inspection, crops = findings.inspection, findings.crops
    reasons: list[str] = [doubt.reason for doubt in inspection.doubts]
    return {
        "schema": SCHEMA,
        "bundle": findings.bundle_id,
        "crops": len(crops),
        "doubtful": len(inspection.doubts),
        "by_reason": {reason: reasons.count(reason) for reason in _COLOURS},
        "listed": len(findings.doubts),
        "images": [
            {
                "path": _shown(crops.paths[doubt.row]),
                "animal": doubt.animal,
                "session": crops.sessions[doubt.row],
                "reason": doubt.reason,
                "distance": doubt.own,
                "threshold": doubt.threshold,
                "other": doubt.other,
                "other_distance": doubt.other_distance,
                "judged_by": doubt.judged_by,
                "twin": None if doubt.twin is None else _shown(doubt.twin),
            }
            for doubt in findings.doubts
        ],
        "animals": [
            {
                "animal": row.animal,
                "crops": row.crops,
                "sessions": row.sessions,
                "doubtful": row.doubtful,
                "spread": row.spread,
                "threshold": row.threshold,
                "nearest": row.nearest,
                "nearest_distance": row.nearest_distance,
                "from_means": row.from_means,
            }
            for row in inspection.animals
        ],
        "most_alike": [
            {"animals": [one, other], "distance": distance}
            for one, other, distance in inspection.most_alike
        ],
    }


def draw_sheet(findings: Findings, tiles: Sequence[Image]) -> bytes:
    """Return the contact sheet as JPEG: `own > other` and both distances, framed by reason."""
    doubts = findings.doubts[:_SHEET_MOST]
    captions = [
        f"{_plain(doubt.animal)} > {_plain(doubt.other or '-')}\n"
        f"{doubt.own:.2f} / {_number(doubt.other_distance)} {doubt.reason}"
        for doubt in doubts
    ]
    return pictures.contact_sheet(
        tiles[: len(doubts)],
        captions,
        _SHEET_TILE,
        _SHEET_COLUMNS,
        frames=[_COLOURS[doubt.reason] for doubt in doubts],
    )


def write_script(findings: Findings) -> str:
    """Return a shell script that moves every listed image out of its crops folder.

    Nobody runs it but the user, who first deletes the lines of images that are right. An image
    goes to `set-aside/<crops folder>/<animal>/` beside the crops folder, never over another file.
    """
    lines = [
        "#!/bin/sh",
        "# Doubtful images, worst first. Nothing has been moved yet.",
        "# Look at index.html, delete the lines of images that are right, then: sh doubtful.sh",
        "set -eu",
    ]
    for doubt in findings.doubts:
        path = findings.crops.paths[doubt.row].absolute()
        root = path.parents[1]
        aside = root.parent / SET_ASIDE / root.name / path.parent.name
        other = "" if doubt.other is None else f", {doubt.other} {_number(doubt.other_distance)}"
        told = _plain(f"{doubt.reason}: {doubt.animal} {doubt.own:.2f}{other}")
        source, target = shlex.quote(str(path)), shlex.quote(f"{aside}/")
        lines.append(f"# {told}")
        lines.append(f"mkdir -p -- {target} && mv -n -- {source} {target}")
    return "\n".join(lines) + "\n"


def write_page(findings: Findings, tiles: Sequence[Image]) -> str:
    """Return a page that needs nothing beside it: summary, pairs most alike, a card an image."""
    record = as_record(findings)
    animals = _examples(findings)
    cards = "".join(
        _card(number, doubt, tile, findings.crops.paths[doubt.row], animals)
        for number, (doubt, tile) in enumerate(zip(findings.doubts, tiles, strict=True))
    )
    total, listed = record["doubtful"], record["listed"]
    rest = f", the worst {listed} are shown" if listed < total else ""
    examples = "".join(
        f".two .e{number}{{background-image:url({_data_url(image)})}}"
        for number, image in animals.values()
    )
    buttons = "".join(
        f'<button data-reason="{reason}" style="border-color:rgb{_COLOURS[reason]}">{reason}: '
        f"{count}</button>"
        for reason, count in record["by_reason"].items()
    )
    legend = "".join(
        f"<li><b>{reason}</b>: {html.escape(words)}</li>" for reason, words in _WORDS.items()
    )
    body = (
        f"<h1>{total} doubtful of {record['crops']} crops{rest}</h1>"
        f"<ul>{legend}</ul><p>Distances are cosine distances; an image is judged without its own "
        "session. Beside each image: the most typical crop of its own animal, and of the other "
        f"one. <code>{SCRIPT_NAME}</code> moves listed files to <code>{SET_ASIDE}/</code>; "
        "nothing has been moved.</p>"
        f'<p id="tools"><button data-reason="">all</button>{buttons} sort by <select id="by">'
        '<option value="n">doubt</option><option value="reason">reason</option>'
        '<option value="animal">animal</option><option value="other">other animal</option>'
        '<option value="own">distance to its own</option></select></p>'
        f'<div id="cards">{cards}</div><h2>Most alike</h2>{_pairs(record)}'
        f"<h2>By animal</h2>{_table(record)}"
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>earmark: doubtful '
        f"images</title><style>{_STYLE}{examples}</style></head><body>{body}"
        f"<script>{_SCRIPT}</script></body></html>\n"
    )


_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:76rem;margin:1.5rem auto;
padding:0 1rem}
h1{margin-bottom:0}h2{margin-top:2rem;border-bottom:1px solid #ddd}
table{border-collapse:collapse}td,th{padding:.15rem .7rem;text-align:right;
border-bottom:1px solid #eee}td:first-child,th:first-child{text-align:left}
button,select{font:inherit;padding:.15rem .7rem;border:2px solid #bbb;border-radius:.4rem;
background:#fff;cursor:pointer}button.on{background:#e8efe9}
#tools{position:sticky;top:0;background:#fff;padding:.5rem 0;margin:0}
#cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(21rem,1fr));gap:.7rem}
.card{display:grid;grid-template-columns:auto 1fr;gap:.7rem;border:1px solid #ddd;
border-left:6px solid;border-radius:.4rem;padding:.5rem}
.card img{width:132px;height:132px}.card div{min-width:0}.card p{margin:0}
.two{display:flex;gap:.5rem}.two span{font-size:12px;overflow-wrap:anywhere;width:64px}
.two i{display:block;width:64px;height:64px;background:#ebebeb center/cover}
code{font-size:12px;overflow-wrap:anywhere;user-select:all}.hidden{display:none}
"""

_SCRIPT = """
const cards=[...document.querySelectorAll('.card')],box=document.getElementById('cards');
const by=document.getElementById('by');
by.onchange=()=>{const key=by.value,number=key==='n'||key==='own';cards.sort((a,b)=>{
const x=a.dataset[key],y=b.dataset[key];
const d=number?(key==='own'?y-x:x-y):x.localeCompare(y);return d||a.dataset.n-b.dataset.n});
box.append(...cards)};
document.querySelectorAll('button').forEach(button=>button.onclick=()=>{
document.querySelectorAll('button').forEach(b=>b.classList.toggle('on',b===button));
const reason=button.dataset.reason;
cards.forEach(c=>c.classList.toggle('hidden',reason!==''&&c.dataset.reason!==reason))});
"""


def _card(
    number: int, doubt: Doubt, tile: Image, path: Path, examples: dict[str, tuple[int, Image]]
) -> str:
    twin = ""
    if doubt.twin is not None:
        twin = f"<p>also <code>{html.escape(_shown(doubt.twin))}</code></p>"
    pair = _example(doubt.animal, f"{doubt.own:.2f}", examples)
    if doubt.other is not None:
        pair += _example(doubt.other, _number(doubt.other_distance), examples)
    return (
        f'<div class="card" style="border-left-color:rgb{_COLOURS[doubt.reason]}"'
        f' data-n="{number}" data-reason="{doubt.reason}"'
        f' data-animal="{html.escape(doubt.animal)}" data-other="{html.escape(doubt.other or "")}"'
        f' data-own="{doubt.own:.6f}"><img alt="" src="{_data_url(tile)}"><div>'
        f'<p title="judged by {_JUDGED[doubt.judged_by]}"><b>{html.escape(doubt.animal)}</b> &gt; '
        f"{html.escape(doubt.other or '–')} · {doubt.reason}, threshold {doubt.threshold:.2f}</p>"
        f'<div class="two">{pair}</div><p><code>{html.escape(_shown(path))}</code></p>{twin}'
        "</div></div>"
    )


def _example(animal: str, words: str, examples: dict[str, tuple[int, Image]]) -> str:
    known = f' class="e{examples[animal][0]}"' if animal in examples else ""
    return f"<span><i{known}></i>{html.escape(animal)} {html.escape(words)}</span>"


def _examples(findings: Findings) -> dict[str, tuple[int, Image]]:
    """Return a number and a small picture for each animal that a card shows."""
    shown = dict.fromkeys(
        name for doubt in findings.doubts for name in (doubt.animal, doubt.other) if name
    )
    typical = findings.inspection.typical
    return {
        animal: (number, _tile(findings.crops.paths[typical[animal]], _SMALL))
        for number, animal in enumerate(shown)
        if animal in typical
    }


def _pairs(record: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(' and '.join(pair['animals']))}</td>"
        f"<td>{pair['distance']:.2f}</td></tr>"
        for pair in record["most_alike"]
    )
    return f"<table><tr><th>animals</th><th>distance</th></tr>{rows}</table>"


def _table(record: dict[str, Any]) -> str:
    head = (
        *("animal", "crops", "sessions", "doubtful", "spread", "threshold", "nearest other"),
        *("distance", "from its class mean"),
    )
    rows = "".join(
        "<tr>"
        + "".join(f"<td>{html.escape(_cell(value))}</td>" for value in row.values())
        + "</tr>"
        for row in record["animals"]
    )
    cells = "".join(f"<th>{name}</th>" for name in head)
    return f"<table><tr>{cells}</tr>{rows}</table>"


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _shown(path: Path) -> str:
    """Return a path as text, also where its name is not UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _plain(text: str) -> str:
    """Keep a name on its line whatever an animal's folder is called."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _tile(path: Path, side: int = _THUMBNAIL) -> Image:
    return np.ascontiguousarray(letterbox(load_image(path), (side, side), _BACKGROUND)[0])


def _data_url(image: Image) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(pictures.jpeg(image)).decode()}"

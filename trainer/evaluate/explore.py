"""The interactive map: one HTML file with every crop as a point, its picture on hover.

It works from disk: data, pictures and script are inside, nothing is fetched.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from importlib import resources
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.identity.means import OUTLIERS, ClassMeans
from edge.vision.types import Image
from trainer.evaluate.answers import GALLERY, UNKNOWN, WRONG, AnsweredCrops
from trainer.evaluate.marks import mark
from trainer.evaluate.projection import Projection
from trainer.evaluate.projector import shrunk_tiles, sprite
from trainer.pictures import jpeg

MOST_POINTS = 2500
TILE = 64
_QUALITY = 75
_DIGITS = 4
# Whatever a name might smuggle in, the page fetches nothing.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"

_STYLE = """
*{box-sizing:border-box}body{margin:0;font:14px/1.4 system-ui,sans-serif;color:#222;display:flex;
height:100vh;overflow:hidden}main{position:relative;flex:1;min-width:0}
#map{width:100%;height:100%;display:block;cursor:crosshair;touch-action:none;background:#fff}
#card{position:absolute;pointer-events:none;background:#fff;border:1px solid #999;display:flex;
border-radius:.4rem;box-shadow:0 2px 8px #0003;padding:.5rem;gap:.6rem;font-size:12px;
max-width:24rem}#card[hidden]{display:none}#card b{display:inline-block;width:4.6em;
font-weight:normal;color:#666}#words{overflow-wrap:anywhere}#thumb{width:128px;height:128px;
flex:none;image-rendering:auto;background:#eee}
aside{width:17rem;border-left:1px solid #ddd;padding:.8rem;display:flex;flex-direction:column;
gap:.5rem;background:#fafafa}h1{font-size:1rem;margin:0}p{margin:0;color:#666;font-size:12px}
#switches{display:flex;flex-direction:column}#legend{overflow-y:auto;flex:1;display:flex;
flex-direction:column}#legend button{display:flex;align-items:center;gap:.5rem;border:0;
background:none;font:inherit;padding:.15rem .3rem;text-align:left;cursor:pointer;
border-radius:.3rem}#legend button[hidden]{display:none}#legend button:hover{background:#eee}
#legend button[aria-pressed=true]{background:#dde8f5}#legend span{flex:1;overflow:hidden;
text-overflow:ellipsis;white-space:nowrap}#legend small{color:#777}#legend canvas{width:16px;
height:16px;flex:none}#search{font:inherit;padding:.3rem .5rem}nav{display:flex;gap:.3rem}
nav button{font:inherit;padding:.1rem .6rem}
"""
_BODY = """<main><canvas id="map"></canvas><div id="card" hidden>
<canvas id="thumb" width="128" height="128"></canvas><div id="words"></div></div></main>
<aside><h1>{title}</h1><p>{note}</p>
<p>Cross: a class mean. Red ring: another animal was named. Dashed ring: a known animal was refused.
Hollow grey: a stranger. Wheel zooms, dragging moves, a click picks an animal, Esc lets go.</p>
<nav><button id="closer" title="closer">+</button><button id="farther" title="farther">−</button>
<button id="whole">whole map</button></nav>
<div id="switches"></div><p id="tally"></p>
<input id="search" type="search" placeholder="find an animal" aria-label="find an animal">
<div id="legend"></div></aside>
"""


def map_page(
    title: str,
    crops: AnsweredCrops,
    projection: Projection,
    tiles: NDArray[np.uint8],
    means: ClassMeans,
    total: int,
) -> str:
    """Return the page as HTML.

    crops: N of them, at most MOST_POINTS for a page of a few megabytes. projection: of the crops
    and of all prototypes of `means`. tiles: uint8 (N, S, S, 3), a picture of each. total: how many
    crops these were drawn from.
    """
    pictures = shrunk_tiles(tiles, TILE)
    sheet = sprite(pictures)
    method = "UMAP" if projection.method == "umap" else "the two principal axes (PCA)"
    drawn = "" if len(crops) == total else f" {len(crops)} of {total} crops, drawn at random."
    note = f"Embeddings by the int8 model on a plane, by {method}.{drawn}"
    data = _data(crops, projection, means, sheet)
    script = resources.files("trainer.evaluate").joinpath("explore.js").read_text("utf-8")
    body = _BODY.replace("{title}", html.escape(title)).replace("{note}", html.escape(note))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{html.escape(title)}: map</title><style>{_STYLE}</style></head><body>{body}"
        f"<script>const MAP = {script_json(data)};</script>\n<script>{script}</script>"
        "</body></html>\n"
    )


def script_json(data: Any) -> str:
    """Return JSON that may stand inside a <script>: no name in it can end the element."""
    text = msgspec.json.encode(data).decode()
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _data(
    crops: AnsweredCrops, projection: Projection, means: ClassMeans, sheet: Image
) -> dict[str, Any]:
    names = _names(crops, means)
    place = {name: index for index, name in enumerate(names)}
    return {
        "animals": [
            _animal(index, name, name not in means.animals, crops)
            for index, name in enumerate(names)
        ],
        "splits": sorted(set(crops.splits), key=crops.splits.index),
        "points": {
            "x": _numbers(projection.points[:, 0]),
            "y": _numbers(projection.points[:, 1]),
            "animal": [place[name] for name in crops.animals],
            "session": crops.sessions,
            "frame": [path.stem.rpartition("_")[2] for path in crops.paths],
            "split": crops.splits,
            "answer": crops.answers,
            "nearest": crops.nearest,
            "verdict": crops.verdicts,
            "distance": _numbers(crops.distances),
            "margin": _numbers(crops.margins),
        },
        "prototypes": [
            {
                "x": round(float(x), _DIGITS),
                "y": round(float(y), _DIGITS),
                "animal": None if owner == OUTLIERS else place[means.animals[owner]],
            }
            for (x, y), owner in zip(projection.prototypes, means.owner, strict=True)
        ],
        "tile": TILE,
        "columns": sheet.shape[1] // TILE,
        "sprite": "data:image/jpeg;base64," + base64.b64encode(jpeg(sheet, _QUALITY)).decode(),
    }


def _names(crops: AnsweredCrops, means: ClassMeans) -> list[str]:
    """Return the animals of the means in their order, then the strangers."""
    return [*means.animals, *sorted(set(crops.animals) - set(means.animals))]


def _animal(index: int, name: str, stranger: bool, crops: AnsweredCrops) -> dict[str, Any]:
    own = [row for row, animal in enumerate(crops.animals) if animal == name]
    colour, shape = mark(index)
    return {
        "name": name,
        "colour": colour,
        "shape": shape,
        # One that is asked as a newcomer too has a mark of its own.
        "stranger": stranger and all(crops.splits[row] == UNKNOWN for row in own),
        "crops": len(own),
        "wrong": sum(crops.verdicts[row] == WRONG and crops.splits[row] != GALLERY for row in own),
    }


def _numbers(values: NDArray[np.floating[Any]] | Sequence[float]) -> list[float | None]:
    """Return numbers short enough for a page; what is infinite becomes null."""
    return [round(float(value), _DIGITS) if np.isfinite(value) else None for value in values]

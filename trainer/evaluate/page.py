"""What reports are made of: one HTML page with tables and pictures inside, nothing beside it."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:62rem;margin:2rem auto;padding:0 1rem}
h1{margin-bottom:0}h2{margin-top:2.2rem;border-bottom:1px solid #ddd}
table{border-collapse:collapse;margin:.6rem 0}td,th{padding:.15rem .7rem;text-align:right;
border-bottom:1px solid #eee}td{white-space:nowrap}td:first-child,th:first-child{text-align:left;
white-space:normal}
.key{display:flex;flex-wrap:wrap;gap:.8rem}.key div{background:#f2f6f3;border-radius:.5rem;
padding:.5rem .9rem}.key b{display:block;font-size:1.5rem}.note{color:#666}
.warning{background:#fff0e0;border-left:.4rem solid #d55e00;padding:.5rem .9rem}
img{max-width:100%;height:auto}pre{background:#f6f6f6;padding:.7rem;overflow:auto;font-size:12px}
"""


def page(title: str, parts: Iterable[str]) -> str:
    """Return a whole HTML page. title: text; parts: HTML."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}'
        f"</title><style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def cards(figures: Iterable[tuple[str, Any]]) -> str:
    """Return the key figures, name and value, side by side."""
    shown = "".join(
        f"<div><b>{figure(value)}</b>{html.escape(name)}</div>" for name, value in figures
    )
    return f'<div class="key">{shown}</div>'


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table of values as `figure` writes them."""
    cells = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    lines = "".join(
        "<tr>" + "".join(f"<td>{html.escape(figure(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table><tr>{cells}</tr>{lines}</table>"


def figure(value: Any) -> str:
    """Return a value as text: three decimals, a dash for None."""
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float | np.floating) else str(value)


def interval(bounds: Sequence[float] | None) -> str:
    """Return a confidence interval as text, empty for None."""
    return "" if bounds is None else f"{bounds[0]:.3f} – {bounds[1]:.3f}"


def image(data: bytes, alt: str) -> str:
    """Return a PNG or JPEG as an element that holds it."""
    kind = "png" if data[:4] == b"\x89PNG" else "jpeg"
    encoded = base64.b64encode(data).decode()
    return f'<p><img alt="{html.escape(alt)}" src="data:image/{kind};base64,{encoded}"></p>'


def warnings(sentences: Iterable[str]) -> str:
    """Return what a reader must know before the figures."""
    return "".join(f'<p class="warning"><b>Warning:</b> {html.escape(s)}</p>' for s in sentences)

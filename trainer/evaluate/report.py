"""The report of a run: one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edge.files import write_atomically
from edge.identity.matching import distances_to_animals
from edge.identity.means import OUTLIERS
from edge.vision.types import Image
from trainer.data.crops import load_image, load_images
from trainer.evaluate import charts

if TYPE_CHECKING:
    from trainer.recipe import Recipe
    from trainer.run import Detection, Identity

_MOST_TILES = 60
_MAP_CROPS = 1500
_SAMPLE_FRAMES = 3

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:62rem;margin:2rem auto;padding:0 1rem}
h1{margin-bottom:0}h2{margin-top:2.2rem;border-bottom:1px solid #ddd}
table{border-collapse:collapse;margin:.6rem 0}td,th{padding:.15rem .7rem;text-align:right;
border-bottom:1px solid #eee}td:first-child,th:first-child{text-align:left}
.key{display:flex;flex-wrap:wrap;gap:.8rem}.key div{background:#f2f6f3;border-radius:.5rem;
padding:.5rem .9rem}.key b{display:block;font-size:1.5rem}.note{color:#666}
img{max-width:100%;height:auto}pre{background:#f6f6f6;padding:.7rem;overflow:auto;font-size:12px}
"""


@dataclass(frozen=True, slots=True, eq=False)
class ReportInputs:
    """What a report shows. still: an annotated frame of the clip, or None."""

    recipe: Recipe
    created: str
    metrics: dict[str, Any]
    identity: Identity
    detection: Detection | None
    still: Image | None
    data_hash: str


def write_report(path: Path, inputs: ReportInputs) -> None:
    """Write the report by rename."""
    parts = [
        _head(inputs),
        *_identity(inputs),
        *(_detection(inputs) if inputs.detection else []),
        *(_clip(inputs) if inputs.still is not None else []),
        "<h2>Recipe</h2><pre>",
        html.escape(msgspec.yaml.encode(msgspec.to_builtins(inputs.recipe)).decode()),
        f"</pre><p class=note>Data {inputs.data_hash[:16]}, seed {inputs.recipe.seed}.</p>",
    ]
    title = html.escape(inputs.recipe.name)
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>earmark: {title}'
        f"</title><style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )
    write_atomically(path, page.encode())


def _head(inputs: ReportInputs) -> str:
    identification = inputs.metrics["identification"]
    figures = [
        ("macro F1, int8", identification["macro_f1"]),
        ("int8 against float, cosine", identification["parity"]["cosine_mean"]),
        ("newcomers named", identification["newcomer_accuracy"]),
    ]
    if inputs.detection:
        figures.append(("AP50, int8", inputs.metrics["detection"]["ap50"]))
    if inputs.metrics["tracking"]:
        figures.append(("IDF1 on the clip", inputs.metrics["tracking"]["idf1"]))
    cards = "".join(
        f"<div><b>{_figure(value)}</b>{html.escape(name)}</div>" for name, value in figures
    )
    minutes = inputs.metrics["train_s"] / 60
    return (
        f"<h1>{html.escape(inputs.recipe.name)}</h1><p class=note>made {inputs.created} in "
        f"{minutes:.1f} minutes; backbone from {html.escape(identification['weights'])}; "
        f"all figures on the split <b>{identification['split']}</b></p>"
        f'<div class="key">{cards}</div>'
    )


def _identity(inputs: ReportInputs) -> Iterable[str]:
    identity, figures = inputs.identity, inputs.metrics["identification"]
    history = identity.trained.history
    animals = identity.means.animals
    yield f"<h2>Naming: {len(animals)} animals, {figures['crops']} {figures['split']} crops</h2>"
    names = [
        "macro_f1",
        "accuracy",
        "rank1",
        "rank5",
        "auroc",
        "oscr",
        "baks",
        "baus",
        "coverage",
        "named_accuracy",
        "known_refused",
        "unknown_refused",
        "newcomer_accuracy",
        "int8_macro_f1_drop",
    ]
    yield _table(("measure", "value"), [(name, figures[name]) for name in names])
    parity, poor = figures["parity"], figures["baselines"]
    yield (
        "<p>The int8 model stays at cosine "
        f"{parity['cosine_mean']:.4f} (mean; {parity['cosine_p05']:.4f} at the 5th percentile) to "
        "the float one on held-out crops. On the same crops an untrained network reaches macro F1 "
        f"{poor['untrained_macro_f1']:.3f} and colour histograms {poor['colour_macro_f1']:.3f}.</p>"
    )
    yield _image(
        charts.learning_curves(
            [row.step for row in history],
            {"loss": [row.loss for row in history]},
            {
                "validation macro F1": [row.macro_f1 for row in history],
                "active triplets": [row.active for row in history],
                "mean d(a,p)": [row.positive for row in history],
                "mean d(a,n)": [row.negative for row in history],
            },
        ),
        "training of the embedder",
    )
    yield "<h3>Who was taken for whom (open set: refusals are unknown)</h3>"
    yield _image(charts.confusion_matrix(figures["confusion"], animals), "confusion matrix")
    yield "<h3>Embeddings of the crops asked, and the class means (+)</h3>"
    chosen = np.linspace(0, len(identity.query.crops) - 1, _MAP_CROPS).astype(int)
    chosen = np.unique(chosen)
    query_names = identity.query.crops.names()
    solid = identity.means.owner != OUTLIERS
    yield _image(
        charts.embedding_map(
            identity.query.embeddings[chosen],
            [query_names[row] for row in chosen],
            identity.means.prototypes[solid],
            [animals[owner] for owner in identity.means.owner[solid]],
        ),
        "embedding space",
    )
    yield "<h3>The herd: the crop nearest to each animal's mean</h3>"
    yield _herd_sheet(identity)
    yield from _mistakes(identity)
    if "macro_f1_by_frames" in figures:
        rows = list(figures["macro_f1_by_frames"].items())
        yield "<h3>Macro F1 when that many frames of a session are averaged</h3>"
        yield _table(("frames", "macro F1"), rows)
    yield "<h3>By animal</h3>"
    yield _table(
        ("animal", "precision", "recall", "F1", "crops", "prototypes", "threshold"),
        [
            (
                animal,
                row["precision"],
                row["recall"],
                row["f1"],
                row["n"],
                identity.means_report.prototypes.get(animal, 0),
                float(identity.means.threshold[animals.index(animal)]),
            )
            for animal, row in figures["per_animal"].items()
        ],
    )


def _herd_sheet(identity: Identity) -> str:
    distances = distances_to_animals(identity.gallery.embeddings, identity.means)
    rows = []
    for label in range(len(identity.means.animals)):
        own = np.flatnonzero(identity.gallery.crops.labels == label)
        rows.append(own[np.argmin(distances[own, label])])
    crops = identity.gallery.crops.select(np.array(rows))
    tiles = load_images(crops, 96)
    return _image(charts.contact_sheet(list(tiles), list(crops.names())), "the herd")


def _mistakes(identity: Identity) -> Iterable[str]:
    """Show the crops that lie nearest to another animal, worst first."""
    animals = identity.means.animals
    distances = distances_to_animals(identity.query.embeddings, identity.means)
    labels = np.array([animals.index(name) for name in identity.query.crops.names()])
    own = distances[np.arange(len(labels)), labels]
    lead = own - distances.min(axis=1)
    rows = [row for row in np.argsort(-lead)[:_MOST_TILES] if lead[row] > 0]
    yield f"<h3>Crops named wrongly: {int(np.sum(lead > 0))} of {len(labels)}</h3>"
    if rows:
        crops = identity.query.crops.select(np.array(rows))
        taken = [animals[np.argmin(distances[row])] for row in rows]
        captions = [f"{name} > {other}" for name, other in zip(crops.names(), taken, strict=True)]
        sheet = charts.contact_sheet(list(load_images(crops, 96)), captions, 112, 9)
        yield _image(sheet, "truth > answer")


def _detection(inputs: ReportInputs) -> Iterable[str]:
    detection = inputs.detection
    if detection is None:
        return
    figures = detection.metrics
    yield f"<h2>Finding: {figures['frames']} {figures['split']} frames</h2>"
    yield _table(
        ("measure", "int8", "float"),
        [(name, figures[name], figures["float"][name]) for name in ("ap", "ap50", "ap75", "ar")],
    )
    yield _table(
        ("measure", "value"),
        [("count error, animals a frame", figures["count_error"])]
        + [
            (f"recall at IoU 0.5, {name}", share)
            for name, share in figures["recall_by_overlap"].items()
        ],
    )
    history = detection.trained.history
    yield _image(
        charts.learning_curves(
            [row.step for row in history],
            {"loss": [row.loss for row in history]},
            {"validation AP50": [row.ap50 for row in history]},
        ),
        "training of the detector",
    )
    yield "<p class=note>White: truth. Green: found by the int8 model.</p>"
    count = min(_SAMPLE_FRAMES, len(detection.test))
    for index in np.linspace(0, len(detection.test) - 1, count).astype(int):
        frame = load_image(detection.test.paths[index])
        found = detection.detector.detect(frame)
        yield _image(
            charts.boxed(frame, found.boxes, detection.test.boxes[index]), "a frame", "jpeg"
        )


def _clip(inputs: ReportInputs) -> Iterable[str]:
    figures = inputs.metrics["tracking"]
    yield "<h2>The clip, through the device's whole pipeline</h2>"
    yield _table(
        ("measure", "value"),
        [(name, value) for name, value in figures.items() if isinstance(value, int | float)],
    )
    if inputs.still is not None:
        yield _image(charts.jpeg(charts.shrunk(inputs.still, 960)), "a frame of the clip", "jpeg")


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    cells = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    lines = "".join(
        "<tr>" + "".join(f"<td>{html.escape(_figure(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table><tr>{cells}</tr>{lines}</table>"


def _figure(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float | np.floating) else str(value)


def _image(data: bytes, alt: str, kind: str = "") -> str:
    kind = kind or ("png" if data[:4] == b"\x89PNG" else "jpeg")
    encoded = base64.b64encode(data).decode()
    return f'<p><img alt="{html.escape(alt)}" src="data:image/{kind};base64,{encoded}"></p>'

"""The report of a run: one HTML file that needs nothing beside it."""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edge.files import write_atomically
from edge.identity.matching import distances_to_animals
from edge.identity.means import OUTLIERS
from edge.vision.types import Image
from trainer import pictures
from trainer.data.crops import load_image, load_images
from trainer.evaluate import charts, page
from trainer.evaluate.detection.charts import count_chart, precision_recall_chart
from trainer.evaluate.detection.sheets import worst_sheet
from trainer.evaluate.edge_tpu_report import edge_tpu_section
from trainer.evaluate.identification_report import frames_table, measures_table, parity_table
from trainer.evaluate.projection import project

if TYPE_CHECKING:
    from trainer.recipe import Recipe
    from trainer.run_detection import Detection
    from trainer.run_identity import Identity

_MOST_TILES = 60
_MAP_CROPS = 1500
_SAMPLE_FRAMES = 3


@dataclass(frozen=True, slots=True, eq=False)
class ReportInputs:
    """What a report shows. still: an annotated frame of the clip, or None."""

    recipe: Recipe
    created: str
    metrics: dict[str, Any]
    identity: Identity | None
    detection: Detection | None
    still: Image | None
    data_hash: str


def write_report(path: Path, inputs: ReportInputs) -> None:
    """Write the report by rename."""
    parts = [
        _head(inputs),
        *(_identity(inputs) if inputs.identity else []),
        *(_detection(inputs) if inputs.detection else []),
        *(_clip(inputs) if inputs.still is not None else []),
        *edge_tpu_section(inputs.metrics["edge_tpu"]),
        "<h2>Recipe</h2><pre>",
        html.escape(msgspec.yaml.encode(msgspec.to_builtins(inputs.recipe)).decode()),
        f"</pre><p class=note>Data {inputs.data_hash[:16]}, seed {inputs.recipe.seed}.</p>",
    ]
    write_atomically(path, page.page(f"earmark: {inputs.recipe.name}", parts).encode())


def _head(inputs: ReportInputs) -> str:
    identification, detection = (
        inputs.metrics[part] or {} for part in ("identification", "detection")
    )
    figures = []
    if identification:
        figures += [
            ("macro F1, int8", identification["macro_f1"]),
            ("int8 against float, cosine", identification["parity"]["cosine_mean"]),
            ("newcomers named", identification["newcomer_accuracy"]),
        ]
    if detection:
        figures += [("AP50, int8", detection["ap50"])]
        if not identification:
            figures += [("AP, int8", detection["ap"]), ("count error", detection["count_error"])]
    if inputs.metrics["tracking"]:
        figures.append(("IDF1 on the clip", inputs.metrics["tracking"]["idf1"]))
    minutes = inputs.metrics["train_s"] / 60
    first = identification or detection
    return (
        f"<h1>{html.escape(inputs.recipe.name)}</h1><p class=note>made {inputs.created} in "
        f"{minutes:.1f} minutes; backbone from {html.escape(first['weights'])}; "
        f"all figures on the split <b>{first['split']}</b></p>"
        + page.warnings([*identification.get("warnings", ()), *detection.get("warnings", ())])
        + page.cards(figures)
    )


def _identity(inputs: ReportInputs) -> Iterable[str]:
    identity, figures = inputs.identity, inputs.metrics["identification"]
    if identity is None:
        return
    history = identity.learned.first.history
    animals = identity.means.animals
    yield f"<h2>Naming: {len(animals)} animals, {figures['crops']} {figures['split']} crops</h2>"
    yield measures_table(figures)
    yield from parity_table(figures)
    poor = figures["baselines"]
    yield (
        "<p>On the same crops an untrained network reaches macro F1 "
        f"{poor['untrained_macro_f1']:.3f} and colour histograms {poor['colour_macro_f1']:.3f}.</p>"
    )
    if figures["classifier_macro_f1"] is not None:
        yield (
            "<p>The largest logit of the int8 softmax classifier reaches "
            f"{figures['classifier_macro_f1']:.3f}.</p>"
        )
    yield page.image(
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
    strangers = figures["unknown_confusion"]
    yield page.image(
        charts.confusion_matrix(figures["confusion"], animals, strangers), "confusion matrix"
    )
    yield "<h3>What refusing more, or less, would bring</h3>"
    yield page.image(
        charts.coverage_curve(figures["accuracy_against_coverage"], figures["known_refused"]),
        "accuracy against coverage",
    )
    yield "<h3>Embeddings of the crops asked, and the class means (crosses)</h3>"
    chosen = np.linspace(0, len(identity.query.crops) - 1, _MAP_CROPS).astype(int)
    chosen = np.unique(chosen)
    query_names = identity.query.crops.names()
    solid = identity.means.owner != OUTLIERS
    yield page.image(
        charts.embedding_map(
            project(identity.query.embeddings[chosen], identity.means.prototypes[solid], "pca"),
            [query_names[row] for row in chosen],
            [animals[owner] for owner in identity.means.owner[solid]],
        ),
        "embedding space",
    )
    yield "<h3>The herd: the crop nearest to each animal's mean</h3>"
    yield _herd_sheet(identity)
    yield from _mistakes(identity)
    yield frames_table(figures)
    yield "<h3>By animal</h3>"
    yield page.table(
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
    return page.image(pictures.contact_sheet(list(tiles), list(crops.names())), "the herd")


def _mistakes(identity: Identity) -> Iterable[str]:
    """Show the crops that lie nearest to another animal, worst first."""
    animals = identity.means.animals
    distances = distances_to_animals(identity.query.embeddings, identity.judged)
    labels = np.array([animals.index(name) for name in identity.query.crops.names()])
    own = distances[np.arange(len(labels)), labels]
    lead = own - distances.min(axis=1)
    rows = [row for row in np.argsort(-lead)[:_MOST_TILES] if lead[row] > 0]
    yield f"<h3>Crops named wrongly: {int(np.sum(lead > 0))} of {len(labels)}</h3>"
    if rows:
        crops = identity.query.crops.select(np.array(rows))
        taken = [animals[np.argmin(distances[row])] for row in rows]
        captions = [f"{name} > {other}" for name, other in zip(crops.names(), taken, strict=True)]
        sheet = pictures.contact_sheet(list(load_images(crops, 96)), captions, 112, 9)
        yield page.image(sheet, "truth > answer")


def _detection(inputs: ReportInputs) -> Iterable[str]:
    detection = inputs.detection
    if detection is None:
        return
    figures = detection.metrics
    yield f"<h2>Finding: {figures['frames']} {figures['split']} frames</h2>"
    yield page.table(
        ("measure", "int8", "float"),
        [(name, figures[name], figures["float"][name]) for name in ("ap", "ap50", "ap75", "ar")],
    )
    yield page.table(
        ("measure", "value"),
        [
            ("count error, animals a frame", figures["count_error"]),
            ("the same of a device's strong boxes", figures["count_error_device"]),
        ]
        + [
            (f"recall at IoU 0.5, {name}", share)
            for name, share in figures["recall_by_overlap"].items()
        ],
    )
    history = detection.trained.history
    yield page.image(
        charts.learning_curves(
            [row.step for row in history],
            {"loss": [row.loss for row in history]},
            {"validation AP50": [row.ap50 for row in history]},
        ),
        "training of the detector",
    )
    test, found = detection.test, detection.found
    yield page.image(precision_recall_chart(found, detection.twin), "precision against recall")
    yield page.image(count_chart(found), "animals counted")
    worst = worst_sheet(test, found)
    if worst is not None:
        yield "<h3>The worst frames: lowest F1 first, then the most missed</h3>"
        yield page.image(worst, "the worst frames")
    yield "<h3>Some frames</h3><p class=note>White: truth. Green: found by the int8 model.</p>"
    count = min(_SAMPLE_FRAMES, len(test))
    for index in np.linspace(0, len(test) - 1, count).astype(int):
        frame = load_image(test.paths[index])
        yield page.image(
            pictures.boxed(frame, found.sure[index].boxes, test.boxes[index]), "a frame"
        )


def _clip(inputs: ReportInputs) -> Iterable[str]:
    figures = inputs.metrics["tracking"]
    yield "<h2>The clip, through the device's whole pipeline</h2>"
    yield page.table(
        ("measure", "value"),
        [(name, value) for name, value in figures.items() if isinstance(value, int | float)],
    )
    if inputs.still is not None:
        yield page.image(pictures.jpeg(pictures.shrunk(inputs.still, 960)), "a frame of the clip")

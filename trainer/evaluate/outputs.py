"""What `evaluate identification` leaves behind: figures, report, maps, projector files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from edge.files import write_atomically
from edge.identity.means import OUTLIERS, ClassMeans
from trainer.evaluate import folder as folders
from trainer.evaluate.answers import GALLERY, UNKNOWN, WRONG, AnsweredCrops, joined, thinned
from trainer.evaluate.explore import MOST_POINTS, TILE, map_page
from trainer.evaluate.identification_report import identification_page
from trainer.evaluate.projection import Method, Projection, project
from trainer.evaluate.projector import write_projector
from trainer.evaluate.protocol import Evaluation

METRICS_NAME = "metrics.json"
REPORT_NAME = "report.html"
MAP_NAME = "map.html"
PROJECTOR_NAME = "projector"
_PICTURE_NAMES = ("embedding_space.png", "mean_space.png", "confusion.png", "coverage.png")
_OWN = {METRICS_NAME, REPORT_NAME, MAP_NAME, PROJECTOR_NAME, *_PICTURE_NAMES}
_NO_PICTURES = (
    "matplotlib is not installed, so the PNGs and the report's pictures were left out: "
    "pip install 'earmark[trainer]'"
)


def check_out(out: Path, read: Sequence[Path] = ()) -> None:
    """Raise UsageError for a folder that holds something else than an older evaluation.

    read: folders of crops, in which nothing may be written.
    """
    folders.check_out(out, _OWN, (METRICS_NAME, MAP_NAME), read)


def write_evaluation(
    folder: Path, evaluation: Evaluation, *, title: str, method: Method | None, seed: int
) -> None:
    """Write everything into an empty folder. method: of the maps, see `project`.

    Adds `projection` and `seed` to the metrics, and a warning when the pictures had to be left out.
    """
    metrics, means = evaluation.metrics, evaluation.means
    sets = (
        [evaluation.asked] if evaluation.gallery is None else [evaluation.asked, evaluation.gallery]
    )
    everything = joined(sets)
    crops = thinned(everything, MOST_POINTS, seed)
    tiles = crops.pictures(TILE)
    projection = project(crops.embeddings, means.prototypes, method, seed)
    metrics["projection"] = projection.method
    metrics["seed"] = seed
    owners = _owners(means)
    pictures = _pictures(evaluation, crops, projection, owners)
    if not pictures:
        metrics["warnings"].append(_NO_PICTURES)
    for name, data in pictures.items():
        write_atomically(folder / name, data)
    write_projector(folder / PROJECTOR_NAME, crops, tiles, means.prototypes, owners)
    page = map_page(title, crops, projection, tiles, means, len(everything))
    write_atomically(folder / MAP_NAME, page.encode())
    thresholds = dict(zip(means.animals, means.threshold.tolist(), strict=True))
    report = identification_page(title, metrics, evaluation.asked, pictures, thresholds)
    write_atomically(folder / REPORT_NAME, report.encode())
    encoded = msgspec.json.format(msgspec.json.encode(metrics), indent=1)
    write_atomically(folder / METRICS_NAME, encoded + b"\n")


def _owners(means: ClassMeans) -> list[str]:
    """Return whose each prototype is (P,)."""
    return [
        "outliers" if owner == OUTLIERS else means.animals[owner] for owner in means.owner.tolist()
    ]


def _pictures(
    evaluation: Evaluation, crops: AnsweredCrops, projection: Projection, owners: list[str]
) -> dict[str, bytes]:
    """Return PNGs by file name; none without matplotlib, which only the trainer's extra has."""
    try:
        from trainer.evaluate import charts
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        return {}
    metrics, means = evaluation.metrics, evaluation.means
    solid = means.owner != OUTLIERS
    alone = means.prototypes[solid]
    return {
        "embedding_space.png": charts.embedding_map(
            projection,
            crops.animals,
            owners,
            strangers=[split == UNKNOWN for split in crops.splits],
            wrong=[
                verdict == WRONG and split != GALLERY
                for verdict, split in zip(crops.verdicts, crops.splits, strict=True)
            ],
        ),
        # Laid out by themselves: what tells the animals apart, not what moves within them.
        "mean_space.png": charts.mean_space(
            project(alone, alone, "pca"), [owners[row] for row in np.flatnonzero(solid)]
        ),
        "confusion.png": charts.confusion_matrix(
            metrics["confusion"], evaluation.herd, metrics["unknown_confusion"]
        ),
        "coverage.png": charts.coverage_curve(
            metrics["accuracy_against_coverage"], metrics["known_refused"]
        ),
    }

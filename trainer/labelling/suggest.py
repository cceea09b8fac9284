"""Help for whoever names tracklets: the nearest animal of the herd, and tracklets that look alike.

Nothing here names anything: a person does.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from edge.identity.matching import NOBODY, Matcher
from edge.identity.means import ClassMeans
from edge.vision.embedder import Embedder
from edge.vision.geometry import letterbox
from edge.vision.types import Floats
from trainer.data.crops import load_image
from trainer.labelling.tracklets import Suggestion, Tracklet
from trainer.progress import Report, silent

_MOST_ALIKE = 5
# Of pairs that were seen together, and so are two animals, this share may pass for alike. With
# fewer pairs nobody knows what the embedder's distances mean for this herd.
_ALIKE_SHARE = 0.01
_FEWEST_PAIRS = 20


def embed_tracklets(
    tracklets: Sequence[Tracklet], root: Path, embedder: Embedder, report: Report = silent
) -> Floats:
    """Return unit mean embeddings (T, D) float32 of tracklets whose crops lie below `root`.

    Crops are embedded as a device does it, so that distances are those of the means' thresholds.
    """
    size, colour = (embedder.size, embedder.size), embedder.letterbox_colour
    means = np.zeros((len(tracklets), embedder.dimension), np.float32)
    for row, tracklet in enumerate(tracklets):
        folder = tracklet.folder(root)
        images = [letterbox(load_image(folder / c.file), size, colour)[0] for c in tracklet.crops]
        total = embedder.embed(np.stack(images)).sum(axis=0)
        means[row] = total / max(float(np.linalg.norm(total)), 1e-12)
        report(row + 1, len(tracklets))
    return means


def suggest(tracklets: Sequence[Tracklet], embeddings: Floats, means: ClassMeans) -> list[Tracklet]:
    """Return tracklets with the animal that a device would take each for, if any.

    embeddings: (T, D), as `embed_tracklets` gives them.
    """
    matcher = Matcher(means)
    answers = matcher.label(embeddings)
    return [
        msgspec.structs.replace(
            tracklet,
            suggestion=None
            if label == NOBODY
            else Suggestion(animal=matcher.animals[label], distance=round(float(distance), 3)),
        )
        for tracklet, label, distance in zip(
            tracklets, answers.labels, answers.distances, strict=True
        )
    ]


def liken(tracklets: Sequence[Tracklet], embeddings: Floats) -> list[Tracklet]:
    """Return tracklets with those that look like each, nearest first.

    What is near is told by the tracklets themselves: nearer than all but the nearest hundredth of
    the pairs that were seen together. So the embedder may be another herd's; if it tells this
    herd's animals apart badly, hardly anything is alike. Parts of one track need no embedder: they
    are in order, see `Tracklet.track`. embeddings: (T, D), as `embed_tracklets` gives them.
    """
    row_of = {tracklet.name: row for row, tracklet in enumerate(tracklets)}
    apart = [[row_of[name] for name in t.together if name in row_of] for t in tracklets]
    pairs = [(row, other) for row, others in enumerate(apart) for other in others if row < other]
    if len(pairs) < _FEWEST_PAIRS:
        return list(tracklets)
    first, second = np.array(pairs).T
    known = 1 - np.einsum("nd,nd->n", embeddings[first], embeddings[second])
    limit = float(np.quantile(known, _ALIKE_SHARE))
    found = []
    for row, tracklet in enumerate(tracklets):
        distances = 1 - embeddings @ embeddings[row]
        distances[[row, *apart[row]]] = np.inf
        near = np.argsort(distances, kind="stable")[:_MOST_ALIKE]
        alike = [
            (tracklets[other].name, round(float(distances[other]), 3))
            for other in near
            if distances[other] < limit
        ]
        found.append(msgspec.structs.replace(tracklet, alike=alike))
    return found

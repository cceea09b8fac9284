"""Crops to embeddings, exactly as a device would, for galleries and for queries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge.release.manifest import Turns
from edge.vision.embedder import Embedder
from edge.vision.geometry import Colour, letterbox
from edge.vision.types import Floats
from trainer.data.crops import CropSet, load_image
from trainer.progress import Report, silent


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedCrops:
    """Crops and their unit embeddings float32 (N, D), row for row."""

    crops: CropSet
    embeddings: Floats

    def __post_init__(self) -> None:
        if self.embeddings.ndim != 2 or len(self.embeddings) != len(self.crops):
            raise ValueError(
                f"embeddings must be ({len(self.crops)}, D), not {self.embeddings.shape}"
            )

    def of(self, label: int) -> Floats:
        """Return one animal's embeddings."""
        return self.embeddings[self.crops.labels == label]


def embed_crops(
    embedder: Embedder,
    crops: CropSet,
    colour: Colour = (114, 114, 114),
    report: Report = silent,
    *,
    turns: Turns | None = None,
) -> EmbeddedCrops:
    """Read, letterbox and embed crops exactly as the device does, one at a time.

    turns: see `Embedder.embed`.
    """
    embeddings = np.empty((len(crops), embedder.dimension), np.float32)
    size = (embedder.size, embedder.size)
    for row, path in enumerate(crops.paths):
        image = letterbox(load_image(path), size, colour)[0]
        embeddings[row] = embedder.embed(image[None], turns)[0]
        report(row + 1, len(crops))
    return EmbeddedCrops(crops, embeddings)


def embed_gallery(
    embedder: Embedder, crops: CropSet, colour: Colour = (114, 114, 114), report: Report = silent
) -> EmbeddedCrops:
    """Embed the crops that class means are made of, at as many angles as the bundle asks for.

    An animal seen from above lies at any angle, and a gallery is embedded only once. A network that
    was trained without rotation must not be asked so: its means would be those of other poses.
    """
    return embed_crops(embedder, crops, colour, report, turns=embedder.gallery_turns)

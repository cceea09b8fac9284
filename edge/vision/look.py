"""Looking at a frame: only the crops that are asked for are cut, judged and embedded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge.vision.geometry import Colour, cut_crop
from edge.vision.quality import CropGates, covered_fractions, sharpness
from edge.vision.types import Detections, Floats, Image


class CropEmbedder(Protocol):
    """What the pipeline needs of an embedder."""

    @property
    def size(self) -> int:
        """Side of the square crop in pixels."""

    @property
    def dimension(self) -> int:
        """Length of an embedding."""

    @property
    def letterbox_colour(self) -> Colour:
        """RGB around a crop that is not square."""

    def embed(self, crops: NDArray[np.uint8]) -> Floats:
        """Return unit embeddings (N, D) of crops (N, S, S, 3)."""


class Look:
    """The crops of one frame: cut and embedded on demand, within a budget, each at most once.

    strong (N,): the detections that may be evidence. budget: how many crops may be cut.

    embeddings (N, D), valid where embedded (N,) is true. cut (N,): looked at, good or not.
    refusals: why a detection is no evidence, as far as is known; None for a good or unknown one.
    sharpness (N,): of the crops that were cut.
    """

    def __init__(
        self,
        image: Image,
        found: Detections,
        strong: NDArray[np.bool_],
        embedder: CropEmbedder,
        gates: CropGates,
        budget: int,
    ) -> None:
        count = len(found)
        self._image = image
        self._boxes = found.boxes
        self._embedder = embedder
        self._gates = gates
        self._left = budget
        self.embeddings: Floats = np.zeros((count, embedder.dimension), np.float32)
        self.embedded = np.zeros(count, bool)
        self.cut = np.zeros(count, bool)
        self.sharpness = np.zeros(count)
        # Weak boxes are mostly no animals; they neither cover others nor speak for one.
        self._covered = np.zeros(count, np.float32)
        self._covered[strong] = covered_fractions(found.boxes[strong])
        height, width = image.shape[:2]
        bounds = found.bounds or (0, 0, width, height)
        self.refusals: list[str | None] = [
            refusal if good else "poor"
            for refusal, good in zip(
                gates.refusals(found.boxes, self._covered, bounds), strong, strict=True
            )
        ]

    def embed(self, rows: Sequence[int] | NDArray[np.int64], most: int | None = None) -> None:
        """Look at detections in this order: at most `most` of them, and as the budget allows."""
        crops, good = [], []
        left = self._left if most is None else min(most, self._left)
        for row in map(int, rows):
            if left <= 0:
                break
            if self.cut[row] or self.refusals[row] is not None:
                continue
            left, self._left = left - 1, self._left - 1
            crop = cut_crop(
                self._image, self._boxes[row], self._embedder.size, self._embedder.letterbox_colour
            )
            self.cut[row], self.sharpness[row] = True, sharpness(crop)
            if self.sharpness[row] < self._gates.min_sharpness:
                self.refusals[row] = "poor"
            else:
                crops.append(crop)
                good.append(row)
        if good:
            self.embeddings[good] = self._embedder.embed(np.stack(crops))
            self.embedded[good] = True

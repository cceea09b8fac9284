"""The same picture filed under two animals: one of the two is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.vision.types import Image
from trainer.data.crops import load_image
from trainer.means.embed import EmbeddedCrops

# Nearer than this by the embedder (cosine distance) and, shrunk to a few grey pixels, equal up to
# this mean difference in grey levels: the same picture, encoded again at most.
_TWIN_DISTANCE = 0.02
_TWIN_SIDE = 16
_TWIN_LEVELS = 5.0
_BLOCK = 1024


def find_twins(
    embedded: EmbeddedCrops, load: Callable[[Path], Image] = load_image
) -> dict[int, int]:
    """Return for each crop that is the same picture as one of another animal the row of that one.

    The embedder proposes, pixels decide: two animals that look alike are not twins.
    """
    labels, embeddings = embedded.crops.labels, embedded.embeddings
    small: dict[int, NDArray[np.float32]] = {}

    def shrunk(row: int) -> NDArray[np.float32]:
        if row not in small:
            grey = cv2.cvtColor(load(embedded.crops.paths[row]), cv2.COLOR_RGB2GRAY)
            size = (_TWIN_SIDE, _TWIN_SIDE)
            small[row] = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        return small[row]

    twins: dict[int, int] = {}
    for start in range(0, len(labels), _BLOCK):
        block = slice(start, start + _BLOCK)
        near = 1 - embeddings[block] @ embeddings.T < _TWIN_DISTANCE
        near &= labels[block, None] != labels[None]
        for first, second in zip(*np.nonzero(near), strict=True):
            row, twin = start + int(first), int(second)
            if row not in twins and np.abs(shrunk(row) - shrunk(twin)).mean() < _TWIN_LEVELS:
                twins[row] = twin
    return twins

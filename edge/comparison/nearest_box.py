"""The article's first tracker: nearest box, and a name for every crop by itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.comparison.every_crop import CropTrack, EveryCropTracker
from edge.vision.types import Detections, Floats


class NearestBox(EveryCropTracker):
    """A detection goes on from the nearest box before it, by the distance of their centres.

    Nearest pairs are made first; there is no limit to a jump. There are as many tracks as there
    were detections at once: a track without one waits where it was last, for ever. Each crop is
    named by the nearest class mean.
    """

    def _associate(
        self, found: Detections, embeddings: Floats, now_s: float
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        places = _centres(np.array([track.box for track in self._tracks], np.float32))
        gaps = places[:, None] - _centres(found.boxes)[None]
        distances = np.hypot(gaps[..., 0], gaps[..., 1])
        rows, columns = [], []
        for _ in range(min(distances.shape)):
            row, column = np.unravel_index(int(distances.argmin()), distances.shape)
            rows.append(row)
            columns.append(column)
            distances[row], distances[:, column] = np.inf, np.inf
        return np.array(rows, np.int64), np.array(columns, np.int64)

    def _name(self, track: CropTrack, embedding: Floats) -> None:
        track.placed = embedding


def _centres(boxes: Floats) -> Floats:
    boxes = boxes.reshape(-1, 4)
    return np.asarray((boxes[:, :2] + boxes[:, 2:]) / 2, np.float32)

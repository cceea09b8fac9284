"""The article's second tracker: a Kalman filter on the box, appearance in the cost (DeepSORT).

After Wojke et al. 2017, as the article uses it: the position's Mahalanobis distance and the cosine
distance to the nearest of a track's last crops, weighted and assigned by the Hungarian method.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.comparison.every_crop import CropTrack, EveryCropTracker, unit_mean
from edge.identity.association import assign
from edge.identity.kalman import BoxFilters, MotionOptions
from edge.identity.means import ClassMeans
from edge.vision.look import CropEmbedder
from edge.vision.types import Detections, Floats, FrameDetector

# Weight of appearance and crops remembered are the public project's; frames are DeepSORT's. The
# gate is the 95 % quantile of chi-square with 4 degrees of freedom.
APPEARANCE_WEIGHT = 0.8
GATE = 9.4877
REMEMBERED = 10
LOST_FRAMES = 30
# Cost of leaving a track and a detection alone: as many pairs as possible are made.
_ALONE = 1e3


class KalmanAppearance(EveryCropTracker):
    """Constant velocity; a pair must lie within the gate, and the cheapest pairs together are made.

    A detection that no track may take starts one; a track ends after `LOST_FRAMES` frames without.
    It is named by the class mean nearest to the mean of its last `REMEMBERED` crops.
    """

    def __init__(self, detector: FrameDetector, embedder: CropEmbedder, means: ClassMeans) -> None:
        super().__init__(detector, embedder, means)
        self._filters = BoxFilters(MotionOptions())
        self._now_s: float | None = None

    def _associate(
        self, found: Detections, embeddings: Floats, now_s: float
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        before = now_s if self._now_s is None else self._now_s
        self._now_s = max(now_s, before)
        unseen = np.array([track.misses > 0 for track in self._tracks], bool)
        self._filters.predict(self._now_s - before, unseen)
        squared = self._filters.squared_distances(found.boxes)
        looks = np.ones(squared.shape, np.float32)
        for row, track in enumerate(self._tracks):
            looks[row] = np.clip(1 - embeddings @ np.stack(track.embeddings).T, 0, 1).min(axis=1)
        costs = (1 - APPEARANCE_WEIGHT) * squared / GATE + APPEARANCE_WEIGHT * looks
        rows, columns = assign(costs, squared <= GATE, _ALONE)
        self._filters.update(rows, found.boxes[columns])
        self._filters.add(found.boxes[np.setdiff1d(np.arange(len(found)), columns)])
        return rows, columns

    def _name(self, track: CropTrack, embedding: Floats) -> None:
        track.embeddings = [*track.embeddings, embedding][-REMEMBERED:]
        track.placed = unit_mean(track.embeddings)

    def _over(self, track: CropTrack) -> bool:
        return track.misses > LOST_FRAMES

    def _drop(self, tracks: list[CropTrack]) -> None:
        gone = {track.id for track in tracks}
        self._filters.keep(np.array([track.id not in gone for track in self._tracks], bool))
        super()._drop(tracks)

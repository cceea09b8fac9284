"""The article's best tracker: a track is named by the mean embedding of a window of frames."""

from __future__ import annotations

from edge.comparison.every_crop import CropTrack, unit_mean
from edge.comparison.nearest_box import NearestBox
from edge.vision.types import Floats

# Frames; the public project's value.
WINDOW = 10


class WindowMean(NearestBox):
    """Follows by the nearest box. Names come at the end of each window of `WINDOW` crops.

    The mean of the window's embeddings is named by the nearest class mean, and the name holds
    until the next window is full. A track has none before its first window is full.
    """

    def _name(self, track: CropTrack, embedding: Floats) -> None:
        track.embeddings.append(embedding)
        if len(track.embeddings) >= WINDOW:
            track.placed = unit_mean(track.embeddings)
            track.embeddings.clear()

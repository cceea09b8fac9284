"""A tracker by its name."""

from __future__ import annotations

from typing import Literal, get_args

from edge.comparison.kalman_appearance import KalmanAppearance
from edge.comparison.nearest_box import NearestBox
from edge.comparison.window_mean import WindowMean
from edge.identity.means import ClassMeans
from edge.pipeline import FrameTracker, Pipeline, PipelineOptions
from edge.vision.look import CropEmbedder
from edge.vision.types import FrameDetector

TrackerName = Literal["earmark", "nearest-box", "kalman-appearance", "window-mean"]
TRACKERS: tuple[TrackerName, ...] = get_args(TrackerName)


def make_tracker(
    name: TrackerName,
    detector: FrameDetector,
    embedder: CropEmbedder,
    means: ClassMeans,
    options: PipelineOptions | None = None,
) -> FrameTracker:
    """Return one camera's tracker. options: of ours alone; the article's have their own."""
    if name == "nearest-box":
        return NearestBox(detector, embedder, means)
    if name == "kalman-appearance":
        return KalmanAppearance(detector, embedder, means)
    if name == "window-mean":
        return WindowMean(detector, embedder, means)
    return Pipeline(detector, embedder, means, options)

"""Trackers to compare with: those of the 2021 article, over the same detector, embedder and means.

Written anew after the article ("Mean embeddings of Siamese networks …", farm pigs from above) and
what its public project does; ours is `edge.pipeline.Pipeline` and the default.
"""

from edge.comparison.choice import TRACKERS, TrackerName, make_tracker
from edge.comparison.kalman_appearance import KalmanAppearance
from edge.comparison.nearest_box import NearestBox
from edge.comparison.window_mean import WindowMean

__all__ = [
    "TRACKERS",
    "KalmanAppearance",
    "NearestBox",
    "TrackerName",
    "WindowMean",
    "make_tracker",
]

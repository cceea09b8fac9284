"""How well animals are followed and named over time.

`follow` asks trackers about a video, `count_clip` holds what they say against the truth, and
`tracking_figures` makes figures of one clip or many.
"""

from __future__ import annotations

from trainer.evaluate.tracking.figures import (
    ClipCounts,
    count_clip,
    evaluate_tracking,
    tracking_figures,
)
from trainer.evaluate.tracking.rows import PredictedBox, TrueBox

__all__ = [
    "ClipCounts",
    "PredictedBox",
    "TrueBox",
    "count_clip",
    "evaluate_tracking",
    "tracking_figures",
]

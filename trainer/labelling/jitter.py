"""Boxes that are off as a detector's are."""

from __future__ import annotations

import numpy as np

from edge.vision.types import Floats

# Measured on the demo's detector against the truth of three simulated clips, animals in full view:
# centres off by 0.039 to 0.047 of the side, lengths by 0.079 to 0.096 of themselves.
USUAL_JITTER = 0.04
MOST_JITTER = 0.2
_SCALE_TO_SHIFT = 2.0
_LONGEST = 2.5


def jittered(boxes: Floats, jitter: float, rng: np.random.Generator) -> Floats:
    """Return boxes (N, 4) float32 that are off by chance, not cut to any frame.

    jitter: standard deviation of the centre, as a share of the box's side in that direction; width
    and height change by a factor of twice that standard deviation (log-normal), as they do when
    all four edges are off independently. Nothing is off by more than 2.5 standard deviations.
    """
    off = rng.normal(0.0, 1.0, (len(boxes), 4)).clip(-_LONGEST, _LONGEST) * jitter
    sides = (boxes[:, 2:] - boxes[:, :2]).astype(np.float64)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 + off[:, :2] * sides
    half = sides * np.exp(_SCALE_TO_SHIFT * off[:, 2:]) / 2
    # Without jitter the box itself, to the last bit.
    moved = np.concatenate([centres - half, centres + half], axis=1) if jitter else boxes
    return np.asarray(moved, np.float32)

"""The values of the identity room."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Match:
    """One embedding against the herd.

    animal: id of the nearest animal, or None when nobody should be named.
    distance: cosine distance to the nearest animal's best prototype.
    margin: distance of the second nearest animal minus the nearest's.
    reason: `unknown` or `unsure` when animal is None.
    """

    animal: str | None
    distance: float
    margin: float
    reason: str | None


@dataclass(frozen=True, slots=True)
class Track:
    """One animal followed over frames, as the pipeline reports it for one frame.

    box: float32 (4,), x1 y1 x2 y2 in pixels. first_seen_s, last_seen_s: the frames' monotonic time.
    animal, reason: the identity now, or why there is none (`unknown`, `unsure`, `crowded`).
    confidence: the animal's share of all votes, 0..1. votes: good crops per animal, `unknown` too.
    settled: the identity is decided, or the track has stayed unknown for long enough to say so.
    seen: a detection of this frame belongs to the track (else the box is predicted).
    """

    id: int
    box: NDArray[np.float32]
    score: float
    age_frames: int
    first_seen_s: float
    last_seen_s: float
    animal: str | None
    reason: str | None
    confidence: float
    distance: float | None
    margin: float | None
    votes: dict[str, int]
    settled: bool
    seen: bool = True

"""Hand-made tracks, frames and events."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from edge.identity.types import Track
from edge.messaging.events import Sighting
from edge.vision.types import Frame

MORNING = datetime(2026, 11, 24, 4, 31, 0, tzinfo=UTC)


@pytest.fixture
def make_frame() -> Callable[..., Frame]:
    """A frame of 200 x 100 pixels at `t` seconds; wall time 04:31:00 plus t, or None."""

    def make(t: float, synced: bool = True) -> Frame:
        wall = MORNING + timedelta(seconds=t) if synced else None
        return Frame(np.zeros((100, 200, 3), np.uint8), "pen-3", int(t * 10), t, wall)

    return make


@pytest.fixture
def make_track() -> Callable[..., Track]:
    """A settled track at `t` seconds, born at 0; `animal` None is unknown."""

    def make(t: float, animal: str | None = "cow004", **changes: object) -> Track:
        fields: dict[str, object] = {
            "id": 7,
            "box": np.array([20, 10, 60, 60], np.float32),
            "score": 0.9,
            "age_frames": 5,
            "first_seen_s": 0.0,
            "last_seen_s": t,
            "animal": animal,
            "reason": None if animal else "unknown",
            "confidence": 0.9,
            "distance": 0.11,
            "margin": 0.38,
            "votes": {"cow004": 9, "unknown": 1},
            "settled": True,
        }
        return Track(**{**fields, **changes})  # type: ignore[arg-type]

    return make


@pytest.fixture
def make_event() -> Callable[..., Sighting]:
    """A sighting as the log gives it out, before the outbox has numbered it."""

    def make(**changes: object) -> Sighting:
        fields: dict[str, object] = {
            "schema": 1,
            "id": "",
            "seq": 0,
            "stream": "",
            "type": "start",
            "device": "barn-7",
            "camera": "pen-3",
            "track": 7,
            "animal": "cow004",
            "reason": None,
            "confidence": 0.97,
            "distance": 0.11,
            "margin": 0.38,
            "votes": {"cow004": 9, "unknown": 1},
            "box": (0.21, 0.34, 0.4, 0.61),
            "first_seen": "2026-11-24T04:31:07.120Z",
            "last_seen": "2026-11-24T04:31:09.000Z",
            "clock": "synced",
            "boot": "b7",
            "monotonic": 8123.4,
            "release": "9f31",
            "means_seq": 57,
            "replayed": False,
        }
        return Sighting(**{**fields, **changes})  # type: ignore[arg-type]

    return make

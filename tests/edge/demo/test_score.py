"""Sightings and boxes held against a truth made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge.demo.score import Score
from edge.demo.truth import Truth, TruthIndex
from edge.identity.types import Track
from edge.messaging import Sighting

# Two animals in a frame of 100 x 100 pixels; in frame 1 they have changed places.
LEFT, RIGHT = (10, 10, 40, 40), (60, 10, 90, 40)
NOWHERE = (10, 60, 40, 90)
TRUTH = Truth(
    schema=1,
    video="pen.mp4",
    camera="pen",
    fps=10.0,
    width=100,
    height=100,
    animals=["pig01", "pig02", "pig03"],
    boxes=[(0, 0, *LEFT, 100), (0, 1, *RIGHT, 100), (1, 1, *LEFT, 100), (1, 0, *RIGHT, 100)],
)


def score() -> Score:
    return Score(TruthIndex(TRUTH))


def event(animal: str | None, pixels: tuple[int, ...], monotonic: float = 0.0) -> Sighting:
    x1, y1, x2, y2 = (side / 100 for side in pixels)
    return Sighting(
        schema=1,
        id="01JDDV7E5M0000000000000000",
        seq=1,
        stream="0" * 32,
        type="start",
        device="demo",
        camera="pen",
        track=7,
        animal=animal,
        reason=None if animal else "unsure",
        confidence=0.9,
        distance=0.1,
        margin=0.2,
        votes={},
        box=(x1, y1, x2, y2),
        first_seen=None,
        last_seen=None,
        clock="unsynced",
        boot="b",
        monotonic=monotonic,
        release="r",
        means_seq=1,
        replayed=False,
    )


def track(animal: str | None, pixels: tuple[int, ...], **changes: Any) -> Track:
    values: dict[str, Any] = {
        "id": 1,
        "box": np.array(pixels, np.float32),
        "score": 0.9,
        "age_frames": 3,
        "first_seen_s": 0.0,
        "last_seen_s": 0.0,
        "animal": animal,
        "reason": None if animal else "unknown",
        "confidence": 0.9,
        "distance": None,
        "margin": None,
        "votes": {},
        "settled": True,
    }
    return Track(**(values | changes))


@pytest.mark.parametrize(
    ("animal", "pixels", "monotonic", "right"),
    [
        ("pig01", LEFT, 0.0, True),
        ("pig02", LEFT, 0.0, False),
        ("pig02", LEFT, 0.1, True),
        ("pig01", LEFT, 0.1, False),
        # Rounded to the nearest frame, not down.
        ("pig02", LEFT, 0.0999, True),
        ("pig01", NOWHERE, 0.0, False),
        ("pig01", LEFT, 9.0, False),
        (None, LEFT, 0.0, False),
        (None, NOWHERE, 0.0, False),
    ],
)
def test_one_sighting(
    animal: str | None, pixels: tuple[int, ...], monotonic: float, right: bool
) -> None:
    judged = score()
    assert judged.hear(event(animal, pixels, monotonic)) is right
    assert (judged.sightings, judged.right) == (1, int(right))
    assert judged.found == ({animal} if right else set())
    assert len(judged.mistakes) == int(not right)


def test_the_figures_of_sightings() -> None:
    judged = score()
    judged.hear(event("pig01", LEFT))
    judged.hear(event("pig01", LEFT))
    judged.hear(event("pig01", RIGHT))
    judged.hear(event(None, RIGHT))
    assert judged.summary() == {
        "animals_total": 3,
        "animals_named": 1,
        "sightings": 4,
        "name_accuracy": 0.5,
        "named_accuracy": pytest.approx(2 / 3),
        "frame_accuracy": None,
    }
    wrong, nameless = judged.mistakes
    assert "pig01, truth pig02" in wrong
    assert "unsure, truth pig02" in nameless


def test_boxes_count_when_seen_and_settled() -> None:
    judged = score()
    judged.look(
        0,
        (
            track("pig01", LEFT),
            track("pig01", RIGHT),
            track(None, RIGHT),
            track("pig03", NOWHERE),
            track("pig01", LEFT, seen=False),
            track("pig01", LEFT, settled=False),
        ),
    )
    assert (judged.boxes, judged.boxes_right) == (4, 1)
    judged.look(1, (track("pig02", LEFT), track("pig01", RIGHT)))
    assert judged.summary()["frame_accuracy"] == pytest.approx(3 / 6)
    # What is looked at is not what is heard.
    assert judged.summary()["sightings"] == 0


def test_nothing_to_judge() -> None:
    figures = score().summary()
    assert figures["animals_named"] == figures["sightings"] == 0
    assert (
        figures["name_accuracy"] is figures["named_accuracy"] is figures["frame_accuracy"] is None
    )

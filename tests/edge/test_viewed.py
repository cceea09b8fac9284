"""A tracker behind a view: what it gets to see, and where its boxes then lie."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edge.identity.means import ClassMeans
from edge.pipeline import Pipeline
from edge.release.bundle import Bundle
from edge.viewed import ViewedTracker
from edge.vision.types import Frame, Image
from edge.vision.view import View


def pipeline(bundle: Bundle) -> Pipeline:
    assert bundle.detector is not None
    return Pipeline(bundle.detector, bundle.embedder, bundle.means)


def frames(picture: Callable[[int], Image], count: int = 12) -> list[Frame]:
    return [Frame(picture(index), "pen", index, index / 10) for index in range(count)]


def test_boxes_are_those_of_the_whole_frame(
    herd_bundle: Bundle, herd_frame: Callable[[int], Image]
) -> None:
    # pig02 walks in the lower half of the picture, pig01 in the upper one.
    viewed = ViewedTracker(pipeline(herd_bundle), View((0.25, 0.5, 1.0, 1.0)))
    whole = pipeline(herd_bundle)
    for frame in frames(herd_frame):
        seen, all_seen = viewed.process(frame), whole.process(frame)
    (track,) = seen.tracks
    (other,) = [track for track in all_seen.tracks if track.animal == "pig02"]
    assert track.animal == "pig02"
    assert track.box == pytest.approx(other.box, abs=2)
    assert len(seen.detections) == 1
    assert seen.detections.boxes[0] == pytest.approx(other.box, abs=6)
    (ended,) = viewed.finish()
    assert ended.box == pytest.approx(track.box)


def test_a_track_that_ends_does_so_in_the_whole_frame(
    herd_bundle: Bundle, herd_frame: Callable[[int], Image]
) -> None:
    viewed = ViewedTracker(pipeline(herd_bundle), View((0.0, 0.5, 1.0, 1.0)))
    for frame in frames(herd_frame):
        (track,) = viewed.process(frame).tracks or (None,)
    assert track is not None
    empty = np.full((240, 320, 3), 110, np.uint8)
    ended = viewed.process(Frame(empty, "pen", 12, 600.0)).ended
    assert [one.id for one in ended] == [track.id]
    assert ended[0].box[1] > 120


def test_what_a_mask_hides_is_not_seen(
    herd_bundle: Bundle, herd_frame: Callable[[int], Image]
) -> None:
    upper = [(0.0, 0.0), (1.0, 0.0), (1.0, 0.5), (0.0, 0.5)]
    viewed = ViewedTracker(pipeline(herd_bundle), View(polygons=[upper]))
    for frame in frames(herd_frame):
        seen = viewed.process(frame)
    assert [track.animal for track in seen.tracks] == ["pig02"]


def test_a_herd_that_changes_reaches_the_tracker(
    herd_bundle: Bundle, herd_means: ClassMeans, herd_frame: Callable[[int], Image]
) -> None:
    viewed = ViewedTracker(pipeline(herd_bundle), View((0.0, 0.5, 1.0, 1.0)))
    for frame in frames(herd_frame):
        viewed.process(frame)
    renamed = ClassMeans(
        ("pig01", "pig99"),
        herd_means.prototypes,
        herd_means.owner,
        herd_means.sums,
        herd_means.counts,
        herd_means.threshold,
        herd_means.margin,
        herd_means.header,
    )
    viewed.replace_means(renamed)
    (track,) = viewed.finish()
    assert track.animal == "pig99"

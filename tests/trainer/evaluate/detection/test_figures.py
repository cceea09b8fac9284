from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from edge.errors import DataError
from edge.vision.types import Detections
from trainer.data.frames import FrameSet
from trainer.evaluate.detection import (
    LOW_SCORE,
    Findings,
    detection_figures,
    find,
    findings,
)

Toy = tuple[list[Detections], list[np.ndarray], list[np.ndarray]]


@pytest.fixture
def judged(toy: Toy, toy_frames: FrameSet) -> Findings:
    return findings(toy[0], toy_frames, 0.6)


def test_weak_boxes_are_asked_for_ap_and_sure_ones_for_counting(
    grey_frames: Callable[..., FrameSet], detections: Callable[..., Detections]
) -> None:
    frames = grey_frames([[(0, 0, 10, 10), (20, 0, 30, 10)], []])
    everything = detections([(0, 0, 10, 10, 0.9), (20, 0, 30, 10, 0.4), (40, 20, 50, 30, 0.1)])

    def detect(image: np.ndarray, score_threshold: float | None = None) -> Detections:
        assert image.shape == (60, 100, 3)
        limit = 0.5 if score_threshold is None else score_threshold
        keep = everything.scores >= limit
        return Detections(everything.boxes[keep], everything.scores[keep], everything.classes[keep])

    seen: list[tuple[int, int]] = []
    found = find(detect, frames, lambda done, total, note="": seen.append((done, total)))
    figures = detection_figures(findings(found, frames, 0.5), frames, draws=2)
    # Sure of one each: one too few in the first frame, one too many in the empty one.
    assert figures["count_error"] == 1
    assert figures["recall_by_overlap"]["none"] == 0.5
    assert figures["ar"] == pytest.approx(1)
    # Sorted: true .9, false .9 (the empty frame), true .4: precision 1 up to half, then 2/3 or 1/2.
    assert 0.5 < figures["ap50"] < 1
    assert seen[-1] == (2, 2)


def test_each_frame_is_asked_once_for_all_that_is_possible(toy_frames: FrameSet) -> None:
    asked: list[float | None] = []

    def detect(image: np.ndarray, score_threshold: float | None = None) -> Detections:
        asked.append(score_threshold)
        return Detections.empty()

    assert len(find(detect, toy_frames)) == 2
    assert asked == [LOW_SCORE, LOW_SCORE]


def test_an_image_smaller_than_its_boxes_is_told(grey_frames: Callable[..., FrameSet]) -> None:
    frames = grey_frames([[(0, 0, 101, 20)]])
    with pytest.raises(DataError, match=r"frame_00\.png: has 100x60 pixels and boxes outside"):
        find(lambda image, score_threshold=None: Detections.empty(), frames)


def test_the_figures_of_the_toy(judged: Findings, toy_frames: FrameSet) -> None:
    figures = detection_figures(judged, toy_frames, draws=20)
    assert figures["ap50"] == pytest.approx((34 + 67 * 3 / 4) / 101)
    assert figures["precision"] == pytest.approx(3 / 4)
    assert figures["recall_by_overlap"]["none"] == 1
    assert figures["boxes_by_overlap"] == {"none": 3, "touching": 0, "piled": 0}
    assert figures["boxes_by_size"] == {"small": 3, "medium": 0, "large": 0}
    assert figures["best_threshold"] == pytest.approx(0.55)
    assert figures["best_f1"] == pytest.approx(6 / 7)
    assert figures["animals"] == 3
    assert figures["int8_ap_drop"] is None
    assert figures["float"] is None


def test_a_devices_count_is_that_of_its_pipeline(
    toy: Toy,
    toy_frames: FrameSet,
    grey_frames: Callable[..., FrameSet],
    detections: Callable[..., Detections],
) -> None:
    # From 1.2 * 0.6 on: two of two by day, none of one by night.
    figures = detection_figures(findings(toy[0], toy_frames, 0.6), toy_frames, draws=0)
    assert (figures["count_error"], figures["count_bias"]) == (0.5, 0.5)
    assert (figures["count_error_device"], figures["count_bias_device"]) == (0.5, -0.5)
    night = figures["per_session"]["night"]
    assert (night["count_error"], night["count_error_device"]) == (0, 1)
    # The second box lies in the first one; the third is too weak to count.
    frames = grey_frames([[(0, 0, 20, 20), (40, 0, 60, 20)]])
    found = [detections([(0, 0, 20, 20, 0.9), (0, 0, 20, 10, 0.8), (40, 0, 60, 20, 0.55)])]
    figures = detection_figures(findings(found, frames, 0.5), frames, draws=0)
    assert (figures["count_bias"], figures["count_bias_device"]) == (1, -1)
    (table,) = figures["per_class"].values()
    assert table["count_error_device"] == 1


def test_each_session_has_figures_of_its_own(judged: Findings, toy_frames: FrameSet) -> None:
    table = detection_figures(judged, toy_frames, draws=0)["per_session"]
    assert table["day"]["frames"] == 1
    assert table["day"]["animals"] == 2
    assert table["day"]["precision"] == pytest.approx(2 / 3)
    assert table["day"]["ap50"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert table["day"]["count_bias"] == 1
    assert table["night"]["ap"] == pytest.approx(1)
    assert table["night"]["count_error"] == 0


def test_intervals_span_what_sessions_say(judged: Findings, toy_frames: FrameSet) -> None:
    # Of two sessions one is drawn: every draw is one of them.
    intervals = detection_figures(judged, toy_frames, draws=200)["intervals"]
    assert intervals["precision"] == pytest.approx([2 / 3, 1])
    assert intervals["count_error"] == pytest.approx([0, 1])
    assert intervals["recall"] == pytest.approx([1, 1])
    assert "recall_piled" not in intervals
    again = detection_figures(judged, toy_frames, draws=200)["intervals"]
    assert again == intervals


def test_one_session_has_no_intervals(toy: Toy, grey_frames: Callable[..., FrameSet]) -> None:
    frames = grey_frames([box.tolist() for box in toy[1]])
    assert detection_figures(findings(toy[0], frames, 0.5), frames)["intervals"] == {}


def test_int8_is_compared_with_float_draw_by_draw(toy: Toy, toy_frames: FrameSet) -> None:
    found = toy[0]
    worse = findings([found[0], Detections.empty()], toy_frames, 0.6)
    best = findings(found, toy_frames, 0.6)
    figures = detection_figures(worse, toy_frames, twin=best, draws=100)
    assert figures["int8_ap_drop"] == pytest.approx(figures["float"]["ap"] - figures["ap"])
    assert figures["float"]["recall"] == 1
    # By day both find the same, by night int8 finds nothing of what float finds exactly.
    assert figures["intervals"]["int8_ap_drop"] == pytest.approx([0, 1])


def test_classes_are_told_apart(
    grey_frames: Callable[..., FrameSet], detections: Callable[..., Detections]
) -> None:
    frames = grey_frames(
        [[(0, 0, 10, 10), (20, 0, 30, 10)]], classes=[[0, 1]], class_names=("cow", "pig", "dog")
    )
    # The pig is taken for a cow.
    found = detections([(0, 0, 10, 10, 0.9), (20, 0, 30, 10, 0.8)], [0, 0])
    table = detection_figures(findings([found], frames, 0.5), frames)["per_class"]
    assert table["cow"]["precision"] == 0.5
    assert table["cow"]["recall"] == 1
    assert table["cow"]["count_error"] == 1
    assert table["pig"]["recall"] == 0
    assert table["pig"]["ap"] == 0
    assert table["dog"]["animals"] == 0
    assert math.isnan(table["dog"]["ap"])

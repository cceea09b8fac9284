from __future__ import annotations

import math

import numpy as np
import pytest

from edge.vision.types import Detections
from trainer.evaluate.detection import at_least
from trainer.evaluate.detection.tally import tally, tally_figures

Toy = tuple[list[Detections], list[np.ndarray], list[np.ndarray]]


def test_counts_by_hand(toy: Toy) -> None:
    found, boxes, classes = toy
    # From 0.6 on: two right and one wrong in the first frame, one right in the second.
    counts = tally([at_least(frame, 0.6) for frame in found], boxes, classes)
    assert counts.true.tolist() == [2, 1]
    assert counts.found.tolist() == [3, 1]
    assert counts.hits.tolist() == [2, 1]
    np.testing.assert_allclose(counts.f1(), [4 / 5, 1])
    figures = tally_figures(counts)
    expected = {
        "precision": 3 / 4,
        "recall": 1,
        "f1": 6 / 7,
        "count_error": 1 / 2,
        "count_bias": 1 / 2,
        "count_right": 1 / 2,
        "false_positives_per_frame": 1 / 2,
        "missed_per_frame": 0,
        "recall_none": 1,
    }
    assert {name: figures[name] for name in expected} == pytest.approx(expected)
    assert math.isnan(figures["recall_touching"])
    assert math.isnan(figures["recall_piled"])


def test_too_many_and_too_few_do_not_make_up_for_each_other() -> None:
    box = np.array([[0, 0, 10, 10], [30, 0, 40, 10]], np.float32)
    twice = Detections(box, np.array([0.9, 0.8], np.float32), np.zeros(2, np.int32))
    zero = np.zeros(1, np.int32)
    counts = tally([twice, Detections.empty()], [box[:1], box[:1]], [zero, zero])
    figures = tally_figures(counts)
    assert figures["count_error"] == 1
    assert figures["count_bias"] == 0
    assert figures["missed_per_frame"] == 0.5
    # Three times the frame with one too many, once that with one too few.
    weighted = tally_figures(counts, np.array([3.0, 1.0]))
    assert weighted["count_bias"] == pytest.approx(0.5)
    assert weighted["precision"] == pytest.approx(0.5)
    assert weighted["recall"] == pytest.approx(0.75)


def test_a_frame_with_nothing_in_it_is_right_when_nothing_is_found() -> None:
    nothing, no_class = np.zeros((0, 4), np.float32), np.zeros(0, np.int32)
    false = Detections(
        np.array([[0, 0, 9, 9]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int32)
    )
    counts = tally([Detections.empty(), false], [nothing, nothing], [no_class, no_class])
    assert counts.f1().tolist() == [1, 0]
    figures = tally_figures(counts)
    assert figures["precision"] == 0
    assert math.isnan(figures["recall"])
    assert figures["count_right"] == 0.5

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from edge.vision.types import Detections
from trainer.data.frames import FrameSet
from trainer.evaluate.detection import Findings, charts, findings

INT8 = (0x00, 0x72, 0xB2)
FLOAT = (0xD5, 0x5E, 0x00)
TOO_MANY = (0xE6, 0x9F, 0x00)


def decoded(data: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image[..., ::-1]


def of_colour(picture: np.ndarray, colour: tuple[int, int, int], near: int = 40) -> int:
    return int((np.abs(picture.astype(int) - colour) < near).all(axis=-1).sum())


@pytest.fixture
def judged(
    toy: tuple[list[Detections], list[np.ndarray], list[np.ndarray]], toy_frames: FrameSet
) -> Findings:
    return findings(toy[0], toy_frames, 0.6)


@pytest.fixture
def nothing(toy_frames: FrameSet) -> Findings:
    return findings([Detections.empty()] * 2, toy_frames, 0.6)


def test_a_float_twin_is_drawn_beside_the_int8_model(judged: Findings, nothing: Findings) -> None:
    alone = decoded(charts.overlap_chart(judged))
    both = decoded(charts.overlap_chart(judged, judged))
    assert of_colour(alone, INT8) > 1000
    assert of_colour(alone, FLOAT) == 0
    assert of_colour(both, FLOAT) > 1000
    for draw in (charts.precision_recall_chart, charts.threshold_chart):
        assert (decoded(draw(judged, judged)) != decoded(draw(judged))).any()
        assert decoded(draw(nothing)).std() > 0


def test_a_better_detector_has_the_curve_farther_to_the_upper_right(
    judged: Findings, toy_frames: FrameSet
) -> None:
    perfect = findings(
        [Detections(b, np.full(len(b), 0.9, np.float32), np.zeros(len(b), np.int32))
         for b in toy_frames.boxes],
        toy_frames,
        0.5,
    )  # fmt: skip
    pictures = [decoded(charts.precision_recall_chart(model)) for model in (judged, perfect)]
    # Below the upper edge of the axes, where the curve of the toy dips.
    low, high = (of_colour(picture[60:330, 80:560], INT8) for picture in pictures)
    assert low > 2 * high


def test_counts_are_coloured_by_what_is_wrong_with_them(
    judged: Findings, nothing: Findings
) -> None:
    # The toy finds three of two animals, the other model none.
    many, few = decoded(charts.count_chart(judged)), decoded(charts.count_chart(nothing))
    # The legend has a dot of each colour.
    assert of_colour(many, TOO_MANY, 60) > 2 * of_colour(few, TOO_MANY, 60)


def test_large_herds_have_dots_that_do_not_cover_each_other(
    grey_frames: Callable[..., FrameSet],
) -> None:
    rows = [[(x, 0, x + 1, 2) for x in range(60)], []]
    frames = grey_frames(rows)
    picture = decoded(charts.count_chart(findings([Detections.empty()] * 2, frames, 0.5)))
    assert 0 < of_colour(picture, (0xCC, 0x79, 0xA7)) < 400

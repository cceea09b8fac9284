from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from edge.vision.geometry import letterbox
from edge.vision.types import Detections
from trainer.data.frames import FrameSet
from trainer.evaluate.detection import Findings, findings, sheets

HIT, MISSED, FALSE = (40, 235, 120), (255, 190, 0), (255, 60, 220)
Make = Callable[..., Detections]


def decoded(data: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image[..., ::-1]


@pytest.fixture
def frames(grey_frames: Callable[..., FrameSet]) -> FrameSet:
    two = [(10, 10, 30, 30), (60, 10, 90, 50)]
    return grey_frames([two, two, two, two[:1], []])


@pytest.fixture
def judged(frames: FrameSet, detections: Make) -> Findings:
    right, other = (10, 10, 30, 30, 0.9), (60, 10, 90, 50, 0.8)
    weak, wrong = (60, 10, 90, 48, 0.2), (35, 35, 55, 55, 0.7)
    found = [
        detections([right, other]),  # all found
        detections([right, weak]),  # one missed: F1 2/3
        detections([]),  # both missed: F1 0
        detections([wrong]),  # missed and false: F1 0
        detections([wrong]),  # nothing there: F1 0
    ]
    return findings(found, frames, 0.5)


def test_the_worst_come_first_and_good_ones_never(judged: Findings) -> None:
    assert sheets.worst_frames(judged) == [2, 3, 4, 1]
    assert sheets.worst_frames(judged, 2) == [2, 3]


def test_each_kind_of_box_has_its_colour_in_its_place(frames: FrameSet, judged: Findings) -> None:
    tiles = {}
    for row in (0, 1, 3):
        tile, placed = letterbox(np.zeros((60, 100, 3), np.uint8), (60, 100))
        sheets.draw_frame(tile, placed, judged.sure[row], frames.boxes[row], frames.classes[row])
        tiles[row] = tile
    # On the left edges of the two animals, and the lower edge of the false find.
    assert tuple(tiles[0][20, 10]) == HIT
    assert tuple(tiles[0][30, 60]) == HIT
    assert tuple(tiles[1][20, 10]) == HIT
    assert tuple(tiles[1][30, 60]) == MISSED
    assert tuple(tiles[3][20, 10]) == MISSED
    assert tuple(tiles[3][55, 45]) == FALSE
    assert not (tiles[1] == FALSE).all(axis=-1).any()


def test_the_sheet_has_a_tile_for_each_worst_frame_below_its_legend(
    frames: FrameSet, judged: Findings
) -> None:
    sheet = decoded(sheets.worst_sheet(frames, judged) or b"")
    # Four tiles of 460 x 276 with two lines of text, in two rows of three.
    assert sheet.shape[:2] == (26 + 2 * (276 + 2 * 15), 3 * 460)
    one = decoded(sheets.worst_sheet(frames, judged, 1) or b"")
    # The legend needs more room than one tile.
    assert one.shape[0] == 26 + 276 + 2 * 15
    assert one.shape[1] > 460


def test_nothing_wrong_is_nothing_to_draw(frames: FrameSet, judged: Findings) -> None:
    good = frames.select([0])
    perfect = findings(judged.found[:1], good, 0.5)
    assert sheets.worst_sheet(good, perfect) is None
    assert sheets.missed_animals(good, perfect) == []
    assert sheets.missed_sheet(good, []) is None


def test_missed_animals_are_listed_the_largest_first_with_what_was_seen_of_them(
    frames: FrameSet, judged: Findings
) -> None:
    missed = sheets.missed_animals(frames, judged)
    assert [(row.frame, row.box.tolist()) for row in missed] == [
        (1, [60, 10, 90, 50]),
        (2, [60, 10, 90, 50]),
        (2, [10, 10, 30, 30]),
        (3, [10, 10, 30, 30]),
    ]
    assert [row.score for row in missed] == pytest.approx([0.2, 0, 0, 0])
    assert {row.overlap for row in missed} == {"none"}
    sheet = decoded(sheets.missed_sheet(frames, missed) or b"")
    assert sheet.shape[:2] == (140 + 3 * 15, 4 * 140)


def test_a_missed_animal_at_the_edge_of_its_frame_can_be_drawn(
    grey_frames: Callable[..., FrameSet],
) -> None:
    frames = grey_frames([[(0, 0, 3, 60), (99, 59, 100, 60)]])
    missed = sheets.missed_animals(frames, findings([Detections.empty()], frames, 0.5))
    assert decoded(sheets.missed_sheet(frames, missed) or b"").std() > 0


def test_a_sure_find_of_the_neighbour_is_not_one_of_the_missed_animal(
    grey_frames: Callable[..., FrameSet], detections: Make
) -> None:
    # The find lies over both by more than half, and counts for the first.
    frames = grey_frames([[(0, 0, 20, 20), (4, 0, 24, 20)]])
    judged = findings([detections([(0, 0, 20, 20, 0.9)])], frames, 0.5)
    (missed,) = sheets.missed_animals(frames, judged)
    assert missed.box.tolist() == [4, 0, 24, 20]
    assert missed.score == 0
    assert missed.overlap == "piled"

"""Hand-derived cases: small clips in which every figure can be counted on paper."""

from __future__ import annotations

import numpy as np
import pytest

from edge.errors import DataError
from trainer.evaluate.tracking import PredictedBox, TrueBox, evaluate_tracking

HERE, THERE, AWAY = (0, 0, 10, 10), (100, 0, 110, 10), (50, 50, 60, 60)
FIGURES = ("idf1", "hota", "mota", "id_switches", "track_f1", "frame_f1", "wrong_names_per_min")


def truth(frames: int = 4) -> list[TrueBox]:
    """Animal a is here and b is there, in every frame."""
    return [
        TrueBox(f, name, box) for f in range(frames) for name, box in (("a", HERE), ("b", THERE))
    ]


def track(
    number: int, names: list[str | None], box: tuple[float, ...], start: int = 0
) -> list[PredictedBox]:
    return [PredictedBox(start + n, number, name, box) for n, name in enumerate(names)]


def test_a_perfect_clip() -> None:
    figures = evaluate_tracking(
        track(7, ["a"] * 4, HERE) + track(9, ["b"] * 4, THERE), truth(), fps=12
    )
    assert [figures[name] for name in FIGURES] == pytest.approx([1, 1, 1, 0, 1, 1, 0])
    assert (figures["precision"], figures["recall"]) == (1, 1)
    assert (figures["tracks"], figures["animals"], figures["boxes"]) == (2, 2, 8)


def test_one_animal_missed_all_along() -> None:
    figures = evaluate_tracking(track(1, ["a"] * 4, HERE), truth(), fps=12)
    assert figures["mota"] == 0.5
    assert figures["recall"] == 0.5
    # 4 right boxes; 4 shown + 8 asked.
    assert figures["idf1"] == pytest.approx(2 * 4 / 12)
    # Detection 4/8, association 1.
    assert figures["hota"] == pytest.approx(np.sqrt(0.5))
    assert figures["frame_f1"] == figures["track_f1"] == 0.5


def test_a_track_that_breaks_is_one_switch() -> None:
    rows = track(1, ["a"] * 2, HERE) + track(2, ["a"] * 2, HERE, 2) + track(3, ["b"] * 4, THERE)
    figures = evaluate_tracking(rows, truth(), fps=12)
    assert figures["id_switches"] == 1
    assert figures["mota"] == pytest.approx(1 - 1 / 8)
    # The best mapping gives a one half of its boxes: 6 right of 8 and 8.
    assert figures["idf1"] == 0.75
    # Association of a's four boxes: 2 / (2 + 4 - 2) = 1/2 each; b's are 1. All detected.
    assert figures["hota"] == pytest.approx(np.sqrt((4 * 0.5 + 4 * 1) / 8))
    assert figures["track_f1"] == figures["frame_f1"] == 1


def test_two_tracks_that_swap_their_animals() -> None:
    rows = (
        track(1, ["a"] * 2, HERE)
        + track(1, ["a", "b"], THERE, 2)
        + track(2, ["b"] * 2, THERE)
        + track(2, ["b", "a"], HERE, 2)
    )
    figures = evaluate_tracking(rows, truth(), fps=12)
    assert figures["id_switches"] == 2
    # Frame 2 carries two wrong names of 8, one for each animal: 3 right of 4 and 4.
    assert figures["frame_f1"] == 0.75
    # Both begin a wrong name once; 4 frames at 12 a second are 1/180 of a minute.
    assert figures["wrong_names_per_min"] == pytest.approx(2 * 180)
    # Each covers both animals for two frames; a tie goes to b, and the last names are b and a.
    assert figures["track_f1"] == pytest.approx((0 + 2 / 3) / 2)


def test_a_switch_is_counted_across_a_gap() -> None:
    rows = track(1, [None], HERE) + track(2, [None], HERE, 3)
    figures = evaluate_tracking(rows, [TrueBox(f, "a", HERE) for f in range(4)], fps=12)
    assert figures["id_switches"] == 1
    assert figures["mota"] == pytest.approx(1 - (2 + 1) / 4)


def test_an_animal_stays_with_its_track_while_they_overlap() -> None:
    # In the second frame another track fits better, but the old one still overlaps by 2/3.
    rows = [
        PredictedBox(0, 1, None, HERE),
        PredictedBox(1, 1, None, (2, 0, 12, 10)),
        PredictedBox(1, 2, None, HERE),
    ]
    figures = evaluate_tracking(rows, [TrueBox(0, "a", HERE), TrueBox(1, "a", HERE)], fps=12)
    assert figures["id_switches"] == 0
    assert figures["mota"] == 0.5


@pytest.mark.parametrize(("shift", "mota"), [(3.0, 1.0), (4.0, -1.0)])
def test_boxes_match_from_half_an_overlap(shift: float, mota: float) -> None:
    # Shifted by 3 of 10 the IoU is 7/13, by 4 it is 6/14: a miss and a false box.
    rows = [PredictedBox(0, 1, None, (shift, 0, 10 + shift, 10))]
    assert evaluate_tracking(rows, [TrueBox(0, "a", HERE)], fps=12)["mota"] == mota


def test_hota_falls_with_loose_boxes() -> None:
    # IoU 7/13 = 0.538: good at the overlaps 0.05 to 0.5, ten of nineteen.
    rows = [PredictedBox(0, 1, None, (3, 0, 13, 10))]
    figures = evaluate_tracking(rows, [TrueBox(0, "a", HERE)], fps=12)
    assert figures["hota"] == pytest.approx(10 / 19)


def test_false_boxes_and_their_names() -> None:
    rows = track(1, ["a"] * 4, HERE) + track(2, ["b"] * 4, AWAY)
    figures = evaluate_tracking(rows, truth(), fps=12)
    assert figures["mota"] == pytest.approx(1 - (4 + 4) / 8)
    assert figures["precision"] == 0.5
    # b: never right, four false, four missed.
    assert figures["frame_f1"] == 0.5
    # Track 2 covers no animal: it takes b's name in vain, and b has no track of its own.
    assert figures["track_f1"] == 0.5
    # A name in an empty place is no other animal's.
    assert figures["wrong_names_per_min"] == 0


def test_nameless_boxes_are_missed_names_not_wrong_ones() -> None:
    rows = track(1, [None, None, "a", "a"], HERE) + track(2, ["b"] * 4, THERE)
    figures = evaluate_tracking(rows, truth(), fps=12)
    # a: 2 right, 2 named, 4 asked.
    assert figures["frame_f1"] == pytest.approx((2 * 2 / 6 + 1) / 2)
    assert figures["track_f1"] == 1
    assert figures["wrong_names_per_min"] == 0


def test_the_last_name_counts_for_a_track() -> None:
    rows = track(1, ["a", "a", "a", "b"], HERE) + track(2, ["b"] * 4, THERE)
    figures = evaluate_tracking(rows, truth(), fps=12)
    # Names b and b for the tracks of a and b: a is never right, b is right once of two.
    assert figures["track_f1"] == pytest.approx((0 + 2 / 3) / 2)


def test_a_wrong_name_counts_once_for_as_long_as_it_stays() -> None:
    rows = track(1, ["b", "b", None, "b", "c", "a"], HERE)
    figures = evaluate_tracking(rows, [TrueBox(f, "a", HERE) for f in range(6)], fps=1, frames=120)
    # b, b again after a pause without a name, then c: three in two minutes.
    assert figures["wrong_names_per_min"] == 1.5


def test_ignored_animals_are_neither_asked_for_nor_held_against_anybody() -> None:
    rows = track(1, ["a"] * 4, HERE) + track(2, ["b"] * 2, THERE)
    hidden = [row._replace(ignored=row.animal == "b") for row in truth()]
    figures = evaluate_tracking(rows, hidden, fps=12)
    assert [figures[name] for name in FIGURES] == pytest.approx([1, 1, 1, 0, 1, 1, 0])
    assert figures["boxes"] == 4


def test_nothing_to_measure_is_none() -> None:
    empty = evaluate_tracking([], [], fps=12)
    assert [empty[name] for name in FIGURES] == [None, None, None, 0, None, None, None]
    only_truth = evaluate_tracking([], truth(), fps=12)
    expected = [0, 0, 0, 0, 0, 0, 0]
    assert [only_truth[name] for name in FIGURES] == pytest.approx(expected)
    only_boxes = evaluate_tracking(track(1, ["a"], HERE), [], fps=12)
    assert (only_boxes["mota"], only_boxes["idf1"], only_boxes["frame_f1"]) == (None, 0, None)


def test_the_order_of_rows_is_no_matter() -> None:
    rng = np.random.default_rng(0)
    rows = track(1, ["a"] * 3, HERE) + track(2, ["b", None, "a"], THERE) + track(3, ["b"], AWAY, 2)
    real = truth()
    expected = evaluate_tracking(rows, real, fps=12)
    mixed = [rows[n] for n in rng.permutation(len(rows))]
    turned = [real[n] for n in rng.permutation(len(real))]
    assert evaluate_tracking(mixed, turned, fps=12) == expected


def test_rows_that_are_there_twice_are_refused() -> None:
    with pytest.raises(DataError, match="track 1 has 2 boxes in frame 0"):
        evaluate_tracking(track(1, ["a"], HERE) + track(1, ["a"], THERE), truth(), fps=12)
    with pytest.raises(DataError, match="animal 'a' has 2 boxes in frame 0"):
        evaluate_tracking([], [*truth(1), TrueBox(0, "a", AWAY)], fps=12)
    with pytest.raises(DataError, match="fps"):
        evaluate_tracking([], [], fps=0)

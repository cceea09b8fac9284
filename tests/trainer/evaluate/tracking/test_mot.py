"""CLEAR MOT, IDF1 and HOTA: what TrackEval says of the same clips, and clips added up."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.evaluate.tracking import (
    PredictedBox,
    TrueBox,
    count_clip,
    evaluate_tracking,
    tracking_figures,
)

FIGURES = ("idf1", "hota", "deta", "assa", "mota", "id_switches")
# By TrackEval 1.3.0: HOTA, CLEAR and Identity, each `eval_sequence` of `wandering(seed)`.
TRACKEVAL = {
    0: (0.418018, 0.358609, 0.564406, 0.228650, 0.702797, 14),
    1: (0.320583, 0.265388, 0.555949, 0.127628, 0.572954, 29),
    2: (0.415771, 0.329299, 0.599915, 0.181946, 0.711340, 18),
}


def wandering(seed: int) -> tuple[list[PredictedBox], list[TrueBox]]:
    """Five animals that walk through each other; tracks that miss, jitter, break and swap."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(0, 120, (5, 2))
    carried = np.arange(5)
    next_track, predictions, truth = 5, [], []
    for frame in range(60):
        places += rng.normal(0, 4, places.shape)
        if rng.random() < 0.15:
            first, second = rng.choice(5, 2, replace=False)
            carried[[first, second]] = carried[[second, first]]
        if rng.random() < 0.1:
            carried[rng.integers(5)], next_track = next_track, next_track + 1
        for animal, (x, y) in enumerate(places):
            if rng.random() < 0.95:
                truth.append(TrueBox(frame, f"pig{animal}", (x, y, x + 40, y + 30)))
            if rng.random() < 0.9:
                u, v = np.array([x, y]) + rng.normal(0, 4, 2)
                box = (u, v, u + 40, v + 30)
                predictions.append(PredictedBox(frame, int(carried[animal]), None, box))
    return predictions, truth


@pytest.mark.parametrize("seed", TRACKEVAL)
def test_figures_are_those_of_trackeval(seed: int) -> None:
    figures = evaluate_tracking(*wandering(seed), fps=12)
    assert [figures[name] for name in FIGURES] == pytest.approx(TRACKEVAL[seed], abs=1e-6)


def test_detection_and_association_are_told_apart() -> None:
    box = (0, 0, 10, 10)
    truth = [TrueBox(frame, "a", box) for frame in range(4)]
    # Half the frames found, by one track: detection 2/4, association 2 / (2 + 4 - 2).
    half = evaluate_tracking([PredictedBox(f, 1, None, box) for f in (0, 1)], truth, fps=12)
    assert (half["deta"], half["assa"]) == pytest.approx((0.5, 0.5))
    # All found, by two tracks: detection 1, association 2 / 4.
    rows = [PredictedBox(f, f // 2, None, box) for f in range(4)]
    broken = evaluate_tracking(rows, truth, fps=12)
    assert (broken["deta"], broken["assa"]) == pytest.approx((1, 0.5))
    assert broken["hota"] == pytest.approx(np.sqrt(0.5))


def test_clips_are_added_up_and_share_no_track() -> None:
    box = (0, 0, 10, 10)
    truth = [TrueBox(frame, "a", box) for frame in range(4)]
    good = count_clip([PredictedBox(f, 1, "a", box) for f in range(4)], truth, fps=12)
    empty = count_clip([], truth, fps=12)
    both = tracking_figures([good, empty])
    # 4 right of 4 boxes given and 8 asked; track 1 of one clip is nobody in the other.
    assert both["idf1"] == pytest.approx(2 * 4 / 12)
    assert (both["mota"], both["recall"], both["boxes"]) == (0.5, 0.5, 8)
    assert (both["deta"], both["assa"]) == pytest.approx((0.5, 1))
    assert both["frame_f1"] == pytest.approx(2 * 4 / (8 + 4))
    assert both["track_f1"] == 1
    # The same track id in both clips is no switch, and the animal is one.
    twice = tracking_figures([good, count_clip([PredictedBox(0, 2, "a", box)], truth, fps=12)])
    assert (twice["id_switches"], twice["animals"], twice["tracks"]) == (0, 1, 2)


def test_a_huddle_does_not_look_like_a_swap() -> None:
    # Both true boxes overlap both tracks by more than half; each track stays with its animal even
    # where the other would fit better, and neither name is wrong.
    first, second = (0, 0, 20, 10), (4, 0, 24, 10)
    truth = [TrueBox(f, name, box) for f in range(3) for name, box in (("a", first), ("b", second))]
    rows = []
    for frame, (one, two) in enumerate([(0, 4), (4, 0), (0, 4)]):
        rows.append(PredictedBox(frame, 1, "a", (one, 0, one + 20, 10)))
        rows.append(PredictedBox(frame, 2, "b", (two, 0, two + 20, 10)))
    figures = evaluate_tracking(rows, truth, fps=12)
    assert (figures["id_switches"], figures["wrong_names_per_min"]) == (0, 0)
    assert figures["frame_f1"] == 1

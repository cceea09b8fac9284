from __future__ import annotations

import numpy as np
import pytest

from edge.errors import DataError
from edge.identity.means import ClassMeans, MeansHeader
from trainer.evaluate.identification import Newcomers, evaluate_identification
from trainer.evaluate.measures import macro_f1_score


def at(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def herd(
    threshold: float = 0.1, margin: float = 0.0, outliers: tuple[float, ...] = ()
) -> ClassMeans:
    """Animals a, b, c at 0, 60 and 120 degrees; b has a second prototype at 240."""
    prototypes = at(0, 60, 120, 240, *outliers)
    return ClassMeans(
        ("a", "b", "c"),
        prototypes,
        np.array([0, 1, 2, 1] + [-1] * len(outliers), np.int32),
        np.zeros((3, 2)),
        np.zeros(3, np.int64),
        np.full(3, threshold, np.float32),
        margin,
        MeansHeader(calibration={"threshold": threshold}),
    )


def test_closed_set_figures_by_hand() -> None:
    # Truth a a b b; the second a lies nearest to b.
    metrics = evaluate_identification(at(5, 55, 60, 240), list("aabb"), herd())
    assert metrics["accuracy"] == metrics["rank1"] == 0.75
    assert metrics["rank5"] == 1
    assert metrics["per_animal"] == {
        "a": {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "n": 2},
        "b": {"precision": pytest.approx(2 / 3), "recall": 1.0, "f1": pytest.approx(0.8), "n": 2},
    }
    assert metrics["macro_f1"] == pytest.approx((2 / 3 + 0.8) / 2)
    assert metrics["confusion"] == {"a": {"a": 1, "b": 1}, "b": {"b": 2}}


def test_open_set_figures_by_hand() -> None:
    # 5 a named, 26+ refused; strangers at 90 (refused: 30 from b and c) and 119 (taken for c).
    metrics = evaluate_identification(
        at(5, 28, 60, 240),
        list("aabb"),
        herd(),
        unknown=at(90, 119, 120.5),
        unknown_animals=["x", "y", "y"],
    )
    assert metrics["coverage"] == 0.75
    assert metrics["known_refused"] == 0.25
    assert metrics["named_accuracy"] == 1
    assert metrics["baks"] == pytest.approx((0.5 + 1) / 2)
    assert metrics["unknown_refused"] == pytest.approx(1 / 3)
    assert metrics["baus"] == 0.5
    assert metrics["confusion"]["a"] == {"unknown": 1, "a": 1}
    # Known at 5, 28, 0, 0 degrees; unknown at 30, 1, 0.5: pairs that are in order.
    known, unknown = [5, 28, 0, 0], [30, 1, 0.5]
    wins = np.mean([k < u for k in known for u in unknown])
    assert metrics["auroc"] == pytest.approx(wins)
    assert 0 <= metrics["oscr"] <= metrics["auroc"] + 1e-9


def test_oscr_is_one_when_strangers_are_far_and_names_right() -> None:
    metrics = evaluate_identification(at(1, 61, 121), list("abc"), herd(), unknown=at(30, 90))
    assert metrics["oscr"] == 1
    assert metrics["auroc"] == 1


def test_what_is_undefined_is_none() -> None:
    metrics = evaluate_identification(at(1), ["a"], herd())
    for name in ("auroc", "oscr", "baus", "unknown_refused", "newcomer_accuracy"):
        assert metrics[name] is None
    assert metrics["int8_macro_f1_drop"] is None
    assert "macro_f1_by_frames" not in metrics
    assert evaluate_identification(at(30), ["a"], herd())["named_accuracy"] is None


def test_int8_drop_is_float_less_int8() -> None:
    metrics = evaluate_identification(at(1, 61), list("ab"), herd(), float_macro_f1=0.9)
    assert metrics["int8_macro_f1_drop"] == pytest.approx(-0.1)


def test_newcomers_are_named_among_all_animals() -> None:
    newcomers = Newcomers(at(178, 182, 300), ["d", "d", "e"], at(181, 303, 298, 65), list("deed"))
    metrics = evaluate_identification(at(1), ["a"], herd(), newcomers=newcomers)
    assert metrics["newcomer_accuracy"] == 0.75


def test_averaging_a_track_mends_single_frames() -> None:
    # Frames of a at -20 and 35 degrees: 35 alone is nearer to b, their mean is not.
    embeddings = at(-20, 35, -20, 35, 60)
    metrics = evaluate_identification(
        embeddings, list("aaaab"), herd(), tracks=["t0", "t0", "t1", "t1", "t0"]
    )
    assert metrics["macro_f1_by_frames"]["1"] == metrics["macro_f1"] < 1
    assert metrics["macro_f1_by_frames"]["5"] == 1
    assert list(metrics["macro_f1_by_frames"]) == ["1", "5", "10", "30"]


def test_accuracy_at_coverage_keeps_the_nearest() -> None:
    metrics = evaluate_identification(at(0, 1, 61, 34), list("aaba"), herd())
    assert metrics["accuracy_at_coverage"]["1"] == 0.75
    assert metrics["accuracy_at_coverage"]["0.5"] == 1


def test_macro_f1_averages_over_the_animals_that_were_asked_for() -> None:
    assert macro_f1_score(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 2])) == pytest.approx(
        (1 + 2 / 3) / 2
    )


def test_strangers_among_the_known_and_no_queries_are_refused() -> None:
    with pytest.raises(DataError, match="'z' is not in the class means"):
        evaluate_identification(at(1), ["z"], herd())
    with pytest.raises(DataError, match="without a single query"):
        evaluate_identification(np.zeros((0, 2), np.float32), [], herd())


def test_windows_are_consecutive_and_stay_within_a_session() -> None:
    # Frames of a at 0, then five at 50 that lie nearer to b: the first window of five holds four
    # of them (mean 40, taken for b), the second the last one; every window of ten is the whole.
    embeddings = at(0, 50, 50, 50, 50, 50, 60)
    tracks = ["t0"] * 6 + ["t0"]
    metrics = evaluate_identification(embeddings, list("aaaaaab"), herd(), tracks=tracks, draws=0)
    by_frames = metrics["macro_f1_by_frames"]
    # One right of six: F1 2/7 for a; b is named six times, once right: 2/7.
    assert by_frames["1"] == pytest.approx(2 / 7)
    # Both windows wrong: 0 for a; b named three times, once right: 1/2.
    assert by_frames["5"] == pytest.approx(1 / 4)
    # One wrong: 0 for a; b named twice, once right: 2/3.
    assert by_frames["10"] == by_frames["30"] == pytest.approx(1 / 3)


def test_strangers_are_told_by_whom_they_are_taken_for() -> None:
    metrics = evaluate_identification(
        at(1), ["a"], herd(), unknown=at(119, 90, 120.5), unknown_animals=["y", "x", "y"]
    )
    assert metrics["unknown_confusion"] == {"x": {"unknown": 1}, "y": {"c": 2}}


def test_newcomers_have_figures_of_their_own() -> None:
    newcomers = Newcomers(
        at(178, 182, 300),
        ["d", "d", "e"],
        at(181, 303, 298, 65),
        list("deed"),
        ["s0", "s0", "s1", "s1"],
    )
    metrics = evaluate_identification(at(1), ["a"], herd(), newcomers=newcomers, draws=50)
    # d: two asked, one right, one named: 2/3. e: both right.
    assert metrics["newcomers"]["d"]["f1"] == pytest.approx(2 / 3)
    assert metrics["newcomers"]["e"] == {"precision": 1, "recall": 1, "f1": 1, "n": 2}
    assert set(metrics["newcomers"]) == {"d", "e"}
    assert metrics["newcomer_macro_f1"] == pytest.approx(5 / 6)
    assert metrics["newcomer_refused"] == 0
    low, high = metrics["intervals"]["newcomer_accuracy"]
    assert low <= 0.75 <= high
    assert low < high


def test_figures_have_intervals_around_them() -> None:
    rng = np.random.default_rng(0)
    angles = np.concatenate([rng.normal(0, 25, 40), rng.normal(60, 25, 40)])
    animals = ["a"] * 40 + ["b"] * 40
    sessions = [f"t{row // 5}" for row in range(80)]
    metrics = evaluate_identification(
        at(*angles),
        animals,
        herd(),
        unknown=at(*rng.normal(150, 30, 30)),
        unknown_animals=[f"x{row // 10}" for row in range(30)],
        tracks=sessions,
        draws=200,
    )
    wanted = {"macro_f1", "accuracy", "rank1", "auroc", "oscr", "baks", "baus", "coverage"}
    assert wanted <= set(metrics["intervals"])
    for name in wanted:
        low, high = metrics["intervals"][name]
        assert low < metrics[name] < high
    again = evaluate_identification(at(*angles), animals, herd(), tracks=sessions, draws=200)
    once = evaluate_identification(at(*angles), animals, herd(), tracks=sessions, draws=200, seed=1)
    assert again["intervals"] != once["intervals"]
    assert (
        again["intervals"]
        == (evaluate_identification(at(*angles), animals, herd(), tracks=sessions, draws=200))[
            "intervals"
        ]
    )


def test_what_no_draw_could_change_has_no_interval() -> None:
    alone = evaluate_identification(at(1, 2), ["a", "a"], herd(), tracks=["t", "t"])
    assert alone["intervals"] == {}
    # One stranger says nothing of other strangers, however many crops it has.
    metrics = evaluate_identification(
        at(1, 61), ["a", "b"], herd(), unknown=at(90, 91), unknown_animals=["x", "x"], tracks="st"
    )
    assert "accuracy" in metrics["intervals"]
    assert not {"auroc", "oscr", "baus", "unknown_refused"} & set(metrics["intervals"])


def test_the_true_animals_rank_is_counted() -> None:
    # 35 degrees: b (25 away), a (35), c; asked for a, b and c.
    metrics = evaluate_identification(at(35, 35, 35), list("abc"), herd())
    assert list(metrics["cmc"].values())[:4] == pytest.approx([1 / 3, 2 / 3, 1, 1])
    assert metrics["cmc"]["1"] == metrics["rank1"]
    assert len(metrics["accuracy_against_coverage"]) >= 50

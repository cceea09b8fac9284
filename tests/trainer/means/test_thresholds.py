from __future__ import annotations

import numpy as np
import pytest

from trainer.means.thresholds import Thresholds, calibrate


def herd(
    own: np.ndarray, others: float, animals: int = 4
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Queries of `animals` animals at `own` distances, everybody else `others` away."""
    labels = np.repeat(np.arange(animals), len(own)).astype(np.int32)
    distances = np.full((len(labels), animals), others, np.float32)
    distances[np.arange(len(labels)), labels] = np.tile(own, animals)
    return distances, labels, ["s"] * len(labels)


def test_the_threshold_lies_between_known_and_strangers() -> None:
    result = calibrate(*herd(np.linspace(0.05, 0.2, 30), 0.8))
    assert 0.2 <= result.record["threshold"] < 0.8
    assert result.record["accepted"] == 1
    assert result.record["strangers_refused"] == 1
    assert result.record["precision"] == 1
    assert result.threshold.dtype == np.float32


def test_negatives_pull_the_threshold_down() -> None:
    distances, labels, sessions = herd(np.linspace(0.05, 0.2, 30), 0.8)
    free = calibrate(distances, labels, sessions).record["threshold"]
    near = np.full((50, 4), 0.8, np.float32)
    near[:, 0] = 0.3
    held = calibrate(distances, labels, sessions, negatives=near)
    assert 0.2 <= held.record["threshold"] < 0.3 < free
    assert held.record["negatives"] == 50


def test_known_animals_are_not_refused_for_the_sake_of_precision() -> None:
    rng = np.random.default_rng(0)
    own = np.sort(rng.uniform(0.1, 0.6, 200)).astype(np.float32)
    distances, labels, sessions = herd(own, 0.61)
    near = np.full((300, 4), 0.61, np.float32)
    near[:, 1] = rng.uniform(0.1, 0.6, 300)
    result = calibrate(distances, labels, sessions, negatives=near, precision=0.97, accept=0.95)
    assert result.record["accepted"] >= 0.95
    assert result.record["precision"] < 0.97


def test_a_margin_is_for_animals_of_the_herd_not_for_half_of_the_strangers() -> None:
    distances, labels, sessions = herd(np.linspace(0.05, 0.3, 40), 0.9)
    near = np.full((80, 4), 0.9, np.float32)
    near[:, 0] = 0.04
    near[:40, 1] = 0.05
    result = calibrate(distances, labels, sessions, negatives=near)
    assert result.record["precision"] < 0.97
    assert result.margin == 0
    # Where it makes the whole difference, it is taken.
    assert calibrate(distances, labels, sessions, negatives=near[:40]).margin > 0.01


def test_a_margin_is_asked_where_wrong_names_are_close_calls() -> None:
    distances, labels, sessions = herd(np.linspace(0.1, 0.2, 40), 0.7)
    # Some queries of animal 0 lie a hair nearer to animal 1.
    distances[:8, 0], distances[:8, 1] = 0.150, 0.149
    result = calibrate(distances, labels, sessions, precision=0.94)
    assert result.margin > 0.001
    assert result.record["precision"] >= 0.94
    assert calibrate(*herd(np.linspace(0.1, 0.2, 40), 0.7)).margin == 0


def test_an_animal_with_many_sessions_follows_its_own_spread() -> None:
    distances, labels, sessions = herd(np.linspace(0.1, 0.2, 40), 0.9)
    distances[labels == 0, 0] = 0.05
    few = calibrate(distances, labels, sessions).threshold
    sessions = [f"s{n % 10}" for n in range(len(labels))]
    many = calibrate(distances, labels, sessions).threshold
    assert many[0] < few[0] < few[1]
    assert (many[1:] >= 0.2 - 1e-6).all()


def test_an_animal_that_was_not_asked_for_gets_the_herds_threshold() -> None:
    distances, labels, sessions = herd(np.linspace(0.1, 0.2, 40), 0.9)
    some = labels != 3
    result = calibrate(
        distances[some], labels[some], [s for s, keep in zip(sessions, some, strict=True) if keep]
    )
    assert result.threshold[3] == pytest.approx(result.record["threshold"])


def test_rows_that_an_outliers_prototype_claims_are_never_accepted() -> None:
    distances, labels, sessions = herd(np.linspace(0.1, 0.2, 40), 0.9)
    claimed = np.full((20, 4), np.inf, np.float32)
    result = calibrate(distances, labels, sessions, negatives=claimed)
    assert result.record["strangers_refused"] == 1
    distances[:4] = np.inf
    assert calibrate(distances, labels, sessions).record["accepted"] == 1


def test_of_two_good_stretches_the_wider_is_taken_not_what_lies_between() -> None:
    # Up to 0.5 a twentieth of the known is won, from 0.3 a twentieth of the strangers (320 struck
    # and 20 negatives) is lost: below 0.3 is as good as from 0.5 on, and both better than between.
    distances, labels, sessions = herd(np.repeat([0.1, 0.5], [76, 4]).astype(np.float32), 0.95)
    near = np.full((20, 4), 0.95, np.float32)
    near[:17, 0] = 0.3
    result = calibrate(distances, labels, sessions, negatives=near, precision=0.95, accept=0.95)
    assert 0.1 <= result.record["threshold"] < 0.3
    assert result.record["strangers_refused"] == 1
    assert result.record["accepted"] == 0.95


def test_an_animals_own_threshold_keeps_its_share_of_few_crops() -> None:
    # With 4 sessions of 5 crops; interpolation between the last two would refuse the farthest.
    own = np.concatenate([np.full(19, 0.1), [0.3]]).astype(np.float32)
    distances, labels, _ = herd(own, 0.9)
    sessions = [f"s{n % 4}" for n in range(len(labels))]
    near = np.full((400, 4), 0.25, np.float32)
    result = calibrate(distances, labels, sessions, negatives=near, accept=0.96)
    within = distances[np.arange(len(labels)), labels] <= result.threshold[labels]
    assert within.mean() >= 0.96


def test_a_single_animal_and_nothing_right() -> None:
    one = calibrate(np.full((10, 1), 0.2, np.float32), np.zeros(10, np.int32), ["s"] * 10)
    assert one.threshold[0] > 0.2
    # Nobody was there who could have been refused.
    assert "strangers_refused" not in one.record
    assert one.margin == 0
    wrong = np.array([[0.9, 0.1]], np.float32)
    lost = calibrate(wrong, np.zeros(1, np.int32), ["s"])
    assert lost.record["source"] == "none"
    assert np.isfinite(lost.threshold).all()


def test_the_record_is_about_the_thresholds_that_are_returned() -> None:
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(4), 60).astype(np.int32)
    distances = rng.uniform(0.35, 0.9, (240, 4)).astype(np.float32)
    # Every animal has a spread of its own.
    distances[np.arange(240), labels] = rng.uniform(0.02, 0.12, 240) * (1 + 2 * labels)
    sessions = [f"s{n % 6}" for n in range(240)]
    negatives = rng.uniform(0.2, 0.9, (150, 4)).astype(np.float32)
    for precision in (0.7, 0.97):
        result = calibrate(distances, labels, sessions, negatives=negatives, precision=precision)
        struck = 0.7 * distances
        struck[np.arange(240), labels] = np.inf
        strangers = np.concatenate([struck, negatives])

        def accepted(asked: np.ndarray, result: Thresholds = result) -> np.ndarray:
            two = np.sort(asked, axis=1)[:, :2]
            within = two[:, 0] <= result.threshold[asked.argmin(axis=1)]
            return within & (two[:, 1] - two[:, 0] >= result.margin)

        right = distances.argmin(axis=1) == labels
        taken = accepted(strangers)
        passed = accepted(distances)
        record = result.record
        assert record["strangers_refused"] == pytest.approx(1 - taken.mean())
        assert record["accepted"] == pytest.approx((passed & right).sum() / right.sum())
        assert record["precision"] == pytest.approx(
            (passed & right).sum() / (passed.sum() + taken.sum())
        )

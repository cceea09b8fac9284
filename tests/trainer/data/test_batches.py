from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from edge.errors import DataError
from trainer.data.batches import balanced_batches


def test_each_batch_holds_p_animals_with_k_different_images() -> None:
    labels = np.repeat(np.arange(7), 9)
    batches = balanced_batches(labels, ["s"] * 63, 3, 4, seed=0)
    for batch in islice(batches, 40):
        assert batch.shape == (12,)
        assert len(set(batch)) == 12
        animals = labels[batch].reshape(3, 4)
        assert (animals == animals[:, :1]).all()
        assert len(set(animals[:, 0])) == 3
    assert batches.repeated == 0


def test_every_animal_comes_once_before_any_comes_again() -> None:
    labels = np.repeat(np.arange(6), 5)
    batches = balanced_batches(labels, ["s"] * 30, 2, 2, seed=3)
    epochs = [[tuple(labels[next(batches)][::2]) for _ in range(3)] for _ in range(4)]
    for epoch in epochs:
        assert sorted(sum(epoch, ())) == list(range(6))
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_a_batch_that_spans_two_epochs_still_holds_different_animals() -> None:
    labels = np.repeat(np.arange(5), 4)
    batches = balanced_batches(labels, ["s"] * 20, 3, 2, seed=0)
    seen = np.zeros(5, int)
    for batch in islice(batches, 50):
        chosen = labels[batch][::2]
        assert len(set(chosen)) == 3
        seen[chosen] += 1
    assert seen.min() >= 29


def test_every_image_of_an_animal_is_drawn_once_before_any_again() -> None:
    labels = np.repeat([0, 1], 8)
    batches = balanced_batches(labels, ["s"] * 16, 2, 4, seed=0)
    drawn = np.concatenate([next(batches), next(batches)])
    assert sorted(drawn) == list(range(16))


def test_images_come_from_different_sessions() -> None:
    labels = np.repeat([0, 1], 12)
    sessions = [f"s{n % 4}" for n in range(24)]
    batches = balanced_batches(labels, sessions, 2, 4, seed=0)
    for batch in islice(batches, 20):
        for images in batch.reshape(2, 4):
            assert {sessions[image] for image in images} == {"s0", "s1", "s2", "s3"}


def test_a_session_that_runs_out_is_filled_up_from_the_others() -> None:
    labels = np.array([0] * 6 + [1] * 6)
    sessions = ["rare", *["common"] * 5, *["s"] * 6]
    for batch in islice(balanced_batches(labels, sessions, 2, 4, seed=0), 20):
        assert len(set(batch)) == 8


def test_an_animal_with_few_images_repeats_some_and_that_is_counted() -> None:
    labels = np.array([0, 0, 1, 1, 1, 1])
    batches = balanced_batches(labels, ["s"] * 6, 2, 4, seed=0)
    batch = next(batches)
    assert np.bincount(labels[batch]).tolist() == [4, 4]
    assert set(batch[labels[batch] == 0]) == {0, 1}
    assert batches.repeated == 2
    next(batches)
    assert batches.repeated == 4


def test_the_seed_decides() -> None:
    labels = np.repeat(np.arange(6), 6)
    runs = [
        np.concatenate(list(islice(balanced_batches(labels, ["s"] * 36, 3, 2, seed), 5)))
        for seed in (1, 1, 2)
    ]
    assert (runs[0] == runs[1]).all()
    assert (runs[0] != runs[2]).any()


def test_more_animals_than_there_are_is_an_error_that_names_both() -> None:
    with pytest.raises(DataError, match=r"batch of 4 animals .* there are 3; .* 3 or less"):
        balanced_batches(np.array([0, 1, 2]), ["s"] * 3, 4, 2, seed=0)
    with pytest.raises(DataError, match="at least 1"):
        balanced_batches(np.array([0, 1, 2]), ["s"] * 3, 2, 0, seed=0)

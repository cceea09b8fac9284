from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from trainer.embedding.losses import (
    TRIPLET_LOSSES,
    batch_all,
    batch_hard,
    cosine_distances,
    cosine_softmax,
    semi_hard,
    softmax,
)

CASES = [
    ([0, 20, 40, 60, 80, 100], [0, 0, 0, 1, 1, 1]),
    ([0, 50, 10, 60, 20, 70, 200, 33], [0, 1, 0, 1, 2, 2, 2, 0]),
    ([0, 90, 180, 270], [0, 1, 0, 1]),
    ([5, 7, 9, 120, 125], [0, 0, 0, 1, 2]),
]


def embed(degrees: list[float]) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def distance(a: float, b: float) -> float:
    return 1 - math.cos(math.radians(a - b))


def triplets(labels: list[int]) -> list[tuple[int, int, int]]:
    n = range(len(labels))
    return [
        (a, p, g)
        for a in n
        for p in n
        for g in n
        if a != p and labels[a] == labels[p] and labels[a] != labels[g]
    ]


def values(result: tuple) -> list[float]:
    return [float(value) for value in result]


def test_distance_is_one_minus_cosine() -> None:
    distances = cosine_distances(embed([0, 60, 90, 180])).numpy()
    assert distances[0] == pytest.approx([0, 0.5, 1, 2], abs=1e-6)


@pytest.mark.parametrize(("angles", "labels"), CASES)
@pytest.mark.parametrize("margin", [0.05, 0.2, 1.0])
def test_batch_all_is_the_mean_of_the_violating_triplets(
    angles: list[float], labels: list[int], margin: float
) -> None:
    losses = [
        distance(angles[a], angles[p]) - distance(angles[a], angles[n]) + margin
        for a, p, n in triplets(labels)
    ]
    active = [loss for loss in losses if loss > 0]
    loss, share, _, _ = values(batch_all(embed(angles), tf.constant(labels), margin))
    assert loss == pytest.approx(sum(active) / max(1, len(active)), abs=1e-5)
    assert share == pytest.approx(len(active) / len(losses), abs=1e-5)


@pytest.mark.parametrize(("angles", "labels"), CASES)
@pytest.mark.parametrize("margin", [0.05, 0.2, 1.0])
def test_semi_hard_takes_the_nearest_farther_negative_else_the_farthest(
    angles: list[float], labels: list[int], margin: float
) -> None:
    losses, chosen, positives = [], [], []
    for a, p in {(a, p) for a, p, _ in triplets(labels)}:
        near = distance(angles[a], angles[p])
        far = [distance(angles[a], angles[n]) for n in range(len(labels)) if labels[n] != labels[a]]
        beyond = [d for d in far if d > near]
        chosen.append(min(beyond) if beyond else max(far))
        positives.append(near)
        losses.append(max(0, near - chosen[-1] + margin))
    loss, share, positive, negative = values(semi_hard(embed(angles), tf.constant(labels), margin))
    assert loss == pytest.approx(np.mean(losses), abs=1e-5)
    assert share == pytest.approx(np.mean(np.array(losses) > 0), abs=1e-5)
    assert positive == pytest.approx(np.mean(positives), abs=1e-5)
    assert negative == pytest.approx(np.mean(chosen), abs=1e-5)


@pytest.mark.parametrize(("angles", "labels"), CASES)
def test_batch_hard_takes_farthest_positive_and_nearest_negative(
    angles: list[float], labels: list[int]
) -> None:
    losses, active, positives, negatives = [], [], [], []
    for a in range(len(labels)):
        own = [distance(angles[a], angles[p]) for x, p, _ in triplets(labels) if x == a]
        others = [distance(angles[a], angles[n]) for x, _, n in triplets(labels) if x == a]
        if own and others:
            losses.append(math.log1p(math.exp(max(own) - min(others))))
            active.append(max(own) >= min(others))
            positives.append(max(own))
            negatives.append(min(others))
    result = values(batch_hard(embed(angles), tf.constant(labels)))
    wanted = [np.mean(losses), np.mean(active), np.mean(positives), np.mean(negatives)]
    assert result == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("name", sorted(TRIPLET_LOSSES))
@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2], [0]])
def test_a_batch_without_a_triplet_costs_nothing(name: str, labels: list[int]) -> None:
    angles = [0.0, 40.0, 80.0][: len(labels)]
    assert values(TRIPLET_LOSSES[name](embed(angles), tf.constant(labels), 0.2, "cosine"))[:2] == [
        0,
        0,
    ]


@pytest.mark.parametrize("name", sorted(TRIPLET_LOSSES))
def test_gradients_are_finite_even_between_equal_embeddings(name: str) -> None:
    embeddings = tf.Variable(embed([0, 0, 90, 90]))
    with tf.GradientTape() as tape:
        loss = TRIPLET_LOSSES[name](embeddings, tf.constant([0, 0, 1, 1]), 0.2, "cosine").loss
    gradient = tape.gradient(loss, embeddings)
    assert gradient is not None
    assert np.isfinite(gradient.numpy()).all()


def test_cosine_softmax_by_hand() -> None:
    # cosines of the query at 0 degrees with the classes at 60, 90 and 180: 0.5, 0, -1.
    classes = 3 * embed([60, 90, 180])
    logits = [10 * (0.5 - 0.2), 0, -10]
    wanted = -logits[0] + math.log(sum(math.exp(x) for x in logits))
    loss = cosine_softmax(embed([0]), tf.constant([0]), classes, scale=10.0, margin=0.2)
    assert float(loss) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(("angles", "labels"), CASES)
def test_euclidean_semi_hard_by_chords(angles: list[float], labels: list[int]) -> None:
    def chord(a: float, b: float) -> float:
        return 2 * abs(math.sin(math.radians(a - b) / 2))

    losses = []
    for a, p in {(a, p) for a, p, _ in triplets(labels)}:
        near = chord(angles[a], angles[p])
        far = [chord(angles[a], angles[n]) for n in range(len(labels)) if labels[n] != labels[a]]
        losses.append(max(0, near - min([d for d in far if d > near], default=max(far)) + 1.0))
    loss = semi_hard(embed(angles), tf.constant(labels), 1.0, "euclidean").loss
    assert float(loss) == pytest.approx(np.mean(losses), abs=1e-4)


def test_two_copies_of_an_image_have_a_finite_euclidean_gradient() -> None:
    embeddings = tf.constant(embed([10, 10, 60, 60]))
    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        loss = semi_hard(embeddings, tf.constant([0, 0, 1, 1]), 1.0, "euclidean").loss
    assert np.isfinite(tape.gradient(loss, embeddings).numpy()).all()


def test_softmax_is_the_cross_entropy_of_its_logits() -> None:
    features = np.array([[1.0, 2.0], [0.0, -1.0]], np.float32)
    kernel = np.array([[1.0, 0.0, -1.0], [0.5, 1.0, 0.0]], np.float32)
    bias = np.array([0.1, 0.0, -0.2], np.float32)
    labels = [1, 2]
    logits = features @ kernel + bias
    wanted = np.mean(
        [np.log(np.exp(row).sum()) - row[label] for row, label in zip(logits, labels, strict=True)]
    )
    assert float(softmax(features, tf.constant(labels), kernel, bias)) == pytest.approx(wanted)

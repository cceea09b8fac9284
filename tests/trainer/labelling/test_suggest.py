from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edge.identity.means import ClassMeans, MeansHeader
from edge.vision.types import Floats
from trainer.labelling.suggest import embed_tracklets, liken, suggest


def at(*degrees: float) -> Floats:
    """Return unit vectors (N, 2); cosine distances are 1 - cos of the angle between two."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


@pytest.fixture
def herd() -> ClassMeans:
    """Two animals at 0 and 90 degrees, that are known within 30 degrees."""
    limit = 1 - np.cos(np.radians(30))
    return ClassMeans(
        ("ann", "bob"),
        at(0, 90),
        np.array([0, 1], np.int32),
        np.zeros((2, 2)),
        np.array([1, 1], np.int64),
        np.full(2, limit, np.float32),
        0.1,
        MeansHeader(),
    )


def test_the_nearest_animal_is_suggested_where_a_device_would_name_it(
    tracklet: Callable, herd: ClassMeans
) -> None:
    tracklets = [tracklet(f"p{row}") for row in range(4)]
    found = suggest(tracklets, at(10, 80, 45, 200), herd)
    names = [None if t.suggestion is None else t.suggestion.animal for t in found]
    # 45 degrees is beyond both thresholds, and so is 200.
    assert names == ["ann", "bob", None, None]
    assert found[0].suggestion is not None
    assert found[0].suggestion.distance == pytest.approx(1 - np.cos(np.radians(10)), abs=5e-4)


def test_alike_is_nearer_than_animals_that_were_seen_together(tracklet: Callable) -> None:
    """Seven seen together, 20 degrees apart; an eighth, later, 5 degrees beside the second."""
    names = [f"p{row}" for row in range(7)]
    tracklets = [tracklet(n, together=[m for m in names if m != n]) for n in names]
    tracklets.append(tracklet("late"))
    found = liken(tracklets, at(*(20 * row for row in range(7)), 25))
    alike = {t.name: [name for name, _ in t.alike] for t in found}
    # The nearest pairs known to be different are 20 degrees apart; p2, at 40, is 15 from 25.
    assert alike["late"] == ["p1", "p2"]
    assert alike["p1"] == alike["p2"] == ["late"]
    assert alike["p0"] == alike["p3"] == []
    assert found[-1].alike[0][1] == pytest.approx(1 - np.cos(np.radians(5)), abs=5e-4)


def test_nothing_is_alike_while_nobody_knows_what_distances_mean(tracklet: Callable) -> None:
    tracklets = [tracklet("p0", together=["p1"]), tracklet("p1", together=["p0"]), tracklet("p2")]
    assert all(t.alike == [] for t in liken(tracklets, at(0, 90, 1)))
    assert liken([], np.zeros((0, 2), np.float32)) == []


class MeanColour:
    """Embeds a crop as its mean red, green and blue."""

    size = 16
    dimension = 3
    letterbox_colour = (0, 0, 0)

    def embed(self, crops: np.ndarray) -> Floats:
        means = crops.reshape(len(crops), -1, 3).mean(axis=1).astype(np.float32)
        return means / np.linalg.norm(means, axis=1, keepdims=True)


def test_a_tracklets_embedding_is_the_mean_of_its_crops(
    tracklet: Callable, propose: Callable
) -> None:
    proposal, root = propose(tracklet("p0"), tracklet("p1"))
    found = embed_tracklets(proposal.tracklets, root, MeanColour())  # type: ignore[arg-type]
    # The fixture's colours: (20 * row, 10 * frame, 128) at frames 0 and 9.
    for row in (0, 1):
        colours = np.array([[20 * row, 0, 128], [20 * row, 90, 128]], float)
        total = (colours / np.linalg.norm(colours, axis=1, keepdims=True)).sum(axis=0)
        np.testing.assert_allclose(found[row], total / np.linalg.norm(total), atol=0.02)

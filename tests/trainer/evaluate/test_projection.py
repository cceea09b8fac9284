from __future__ import annotations

import numpy as np
import pytest

from edge.errors import UsageError
from trainer.evaluate import projection
from trainer.evaluate.projection import project


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def two_herds() -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 0.05, (40, 6))
    noise[:20, 0] += 1
    noise[20:, 1] += 1
    return unit(noise)


def test_the_principal_axes_keep_plane_distances() -> None:
    # Points that lie in a plane anyway: nothing is lost but the place of the origin.
    flat = np.zeros((5, 4), np.float32)
    flat[:, 1] = [0, 1, 2, 3, 4]
    flat[:, 3] = [0, 1, 0, 1, 0]
    placed = project(flat, flat[:2], "pca")
    for i in range(5):
        for j in range(5):
            assert np.linalg.norm(placed.points[i] - placed.points[j]) == pytest.approx(
                np.linalg.norm(flat[i] - flat[j]), abs=1e-5
            )
    np.testing.assert_allclose(placed.prototypes, placed.points[:2], atol=1e-5)
    # The spread along x is 10 of 11.2.
    assert placed.axes[0].endswith("(89 % of the variance)")


@pytest.mark.parametrize("count", [1, 2])
def test_hardly_any_points_are_no_error(count: int) -> None:
    placed = project(unit(np.ones((count, 5))), unit(np.eye(5)[:1]))
    assert placed.method == "pca"
    assert placed.points.shape == (count, 2)
    assert np.isfinite(placed.points).all()


def test_without_umap_the_principal_axes_stand_in_unless_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(projection, "has_umap", lambda: False)
    assert project(two_herds(), two_herds()[:2]).method == "pca"
    with pytest.raises(UsageError, match="pip install 'earmark\\[map\\]'"):
        project(two_herds(), two_herds()[:2], "umap")


@pytest.mark.slow
def test_umap_keeps_two_herds_apart_and_obeys_its_seed() -> None:
    pytest.importorskip("umap", reason="umap-learn is not installed")
    herds = two_herds()
    placed = project(herds, unit(np.eye(6)[:2]), "umap", seed=3)
    assert placed.method == "umap"
    first, second = placed.points[:20].mean(axis=0), placed.points[20:].mean(axis=0)
    apart = np.linalg.norm(first - second)
    assert np.linalg.norm(placed.points[:20] - first, axis=1).max() < apart
    assert np.linalg.norm(placed.prototypes[0] - first) < apart / 2
    again = project(herds, unit(np.eye(6)[:2]), "umap", seed=3)
    np.testing.assert_allclose(again.points, placed.points)

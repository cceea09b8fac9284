"""Embeddings on a plane: UMAP where it is installed, else the two principal axes."""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge.errors import UsageError
from edge.vision.types import Floats

Method = Literal["umap", "pca"]
_NEIGHBOURS = 15
# Below that UMAP has too few neighbours to lay anything out.
_LEAST_FOR_UMAP = 8


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """points (N, 2) and prototypes (P, 2), float64, on one plane. axes: what each axis is."""

    points: NDArray[np.float64]
    prototypes: NDArray[np.float64]
    method: Method
    axes: tuple[str, str]


def has_umap() -> bool:
    """Say whether `umap-learn` is installed."""
    return importlib.util.find_spec("umap") is not None


def check_method(method: Method | None) -> None:
    """Raise UsageError when a projection is asked for by name that is not installed."""
    if method == "umap" and not has_umap():
        raise UsageError(
            "umap is not installed: pip install 'earmark[map]', or take --projection pca"
        )


def project(
    embeddings: Floats, prototypes: Floats, method: Method | None = None, seed: int = 0
) -> Projection:
    """Lay unit embeddings (N, D) and prototypes (P, D) out on one plane.

    method: None takes UMAP (McInnes et al. 2018) by cosine when it is installed and there are
    enough vectors for it, else PCA of the embeddings. UsageError when UMAP is asked for by name and
    is not installed.
    """
    check_method(method)
    enough = len(embeddings) + len(prototypes) >= _LEAST_FOR_UMAP
    if method == "pca" or not enough or not has_umap():
        return _pca(embeddings, prototypes)
    return _umap(embeddings, prototypes, seed)


def _pca(embeddings: Floats, prototypes: Floats) -> Projection:
    source = (embeddings if len(embeddings) else prototypes).astype(np.float64)
    centre = source.mean(axis=0)
    _, sizes, rows = np.linalg.svd(source - centre, full_matrices=False)
    axes = np.zeros((2, source.shape[1]))
    axes[: len(rows)] = rows[:2]
    shares = np.zeros(2)
    total = float(np.sum(sizes**2))
    if total > 0:
        shares[: len(sizes)] = sizes[:2] ** 2 / total
    first, second = (f"{100 * share:.0f} %" for share in shares)
    return Projection(
        (embeddings - centre) @ axes.T,
        (prototypes - centre) @ axes.T,
        "pca",
        (f"first principal axis ({first} of the variance)", f"second principal axis ({second})"),
    )


def _umap(embeddings: Floats, prototypes: Floats, seed: int) -> Projection:
    import umap

    vectors = np.concatenate([embeddings, prototypes])
    with warnings.catch_warnings():
        # It warns that a fixed seed keeps it to one thread; that is what is wanted.
        warnings.simplefilter("ignore")
        fitted = umap.UMAP(
            n_neighbors=min(_NEIGHBOURS, len(vectors) - 1),
            min_dist=0.2,
            metric="cosine",
            random_state=seed,
            # The spectral start needs more vectors than dimensions; PCA's serves as well.
            init="pca",
        ).fit_transform(vectors)
    points = np.asarray(fitted, np.float64)
    return Projection(
        points[: len(embeddings)],
        points[len(embeddings) :],
        "umap",
        ("UMAP, first axis", "UMAP, second axis"),
    )

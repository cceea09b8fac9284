"""What differs between two class means, animal by animal, and what that means for crops. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np

from edge.errors import UsageError
from edge.identity.matching import NOBODY, Matcher
from edge.identity.means import OUTLIERS, ClassMeans
from edge.vision.types import Floats

# Less is rounding.
_TINY = 1e-6


class Moved(msgspec.Struct, frozen=True):
    """An animal whose prototypes or threshold changed.

    distance: cosine distance, how far the prototype lies that is farthest from all of the other
    file's. prototypes, threshold: before and after.
    """

    animal: str
    distance: float
    prototypes: tuple[int, int]
    threshold: tuple[float, float]


class MeansDiff(msgspec.Struct, frozen=True):
    """What changed. new, gone: animals. outliers: how many such prototypes, before and after.

    same_embedder: without it distances say nothing, and none are given.
    """

    new: list[str]
    gone: list[str]
    moved: list[Moved]
    same: int
    margin: tuple[float, float]
    outliers: tuple[int, int]
    same_embedder: bool


class Renamed(msgspec.Struct, frozen=True):
    """A crop that would get another name; None for nobody."""

    crop: str
    before: str | None
    after: str | None


def diff_means(old: ClassMeans, new: ClassMeans) -> MeansDiff:
    """Compare two class means."""
    same_embedder = (
        old.header.embedder_sha256 == new.header.embedder_sha256 and old.dimension == new.dimension
    )
    both = [animal for animal in old.animals if animal in set(new.animals)]
    moved = [_moved(old, new, animal, same_embedder=same_embedder) for animal in both]
    changed = [one for one in moved if _differs(one)]
    return MeansDiff(
        new=[animal for animal in new.animals if animal not in set(old.animals)],
        gone=[animal for animal in old.animals if animal not in set(new.animals)],
        moved=sorted(changed, key=lambda one: -one.distance),
        same=len(both) - len(changed),
        margin=(round(old.margin, 6), round(new.margin, 6)),
        outliers=(int((old.owner == OUTLIERS).sum()), int((new.owner == OUTLIERS).sum())),
        same_embedder=same_embedder,
    )


def diff_names(
    old: ClassMeans, new: ClassMeans, embeddings: Floats, crops: Sequence[str]
) -> list[Renamed]:
    """Return which crops, by their unit embeddings (N, D), would get another name.

    UsageError for class means of different embedders.
    """
    for means in (old, new):
        if embeddings.shape[1] != means.dimension:
            raise UsageError(
                f"crops are embedded in {embeddings.shape[1]} dimensions, class means of "
                f"{means.dimension} are another embedder's"
            )
    before, after = _names(old, embeddings), _names(new, embeddings)
    return [
        Renamed(crop, was, will)
        for crop, was, will in zip(crops, before, after, strict=True)
        if was != will
    ]


def lines(diff: MeansDiff) -> list[str]:
    """Return what changed, for people."""
    told = []
    if not diff.same_embedder:
        told.append("! made by different embedders: prototypes cannot be compared")
    told += [f"+ {animal}" for animal in diff.new]
    told += [f"- {animal}" for animal in diff.gone]
    for one in diff.moved:
        text = f"~ {one.animal}: moved by {one.distance:.4f}"
        if one.prototypes[0] != one.prototypes[1]:
            text += f", {one.prototypes[0]} → {one.prototypes[1]} prototypes"
        if abs(one.threshold[0] - one.threshold[1]) > _TINY:
            text += f", threshold {one.threshold[0]:.3f} → {one.threshold[1]:.3f}"
        told.append(text)
    if diff.margin[0] != diff.margin[1]:
        told.append(f"  margin {diff.margin[0]:.3f} → {diff.margin[1]:.3f}")
    if diff.outliers[0] != diff.outliers[1]:
        told.append(f"  outliers {diff.outliers[0]} → {diff.outliers[1]}")
    told.append(f"  {diff.same} animals as before")
    return told


def name_lines(renamed: Sequence[Renamed], crops: int) -> list[str]:
    """Return which crops would change name, the commonest change first, for people."""
    told = [f"{len(renamed)} of {crops} crops would get another name"]
    counts = Counter((one.before or "nobody", one.after or "nobody") for one in renamed)
    for (before, after), count in counts.most_common():
        first = next(
            one.crop
            for one in renamed
            if (one.before or "nobody", one.after or "nobody") == (before, after)
        )
        told.append(f"  {before} → {after}: {count}, such as {first}")
    return told


def _moved(old: ClassMeans, new: ClassMeans, animal: str, *, same_embedder: bool) -> Moved:
    labels = old.animals.index(animal), new.animals.index(animal)
    ours = old.prototypes[old.owner == labels[0]]
    theirs = new.prototypes[new.owner == labels[1]]
    distance = 0.0
    if same_embedder and len(ours) and len(theirs):
        apart = 1 - ours.astype(np.float64) @ theirs.T.astype(np.float64)
        distance = max(0.0, float(apart.min(axis=1).max()), float(apart.min(axis=0).max()))
    threshold = float(old.threshold[labels[0]]), float(new.threshold[labels[1]])
    return Moved(animal, round(distance, 6), (len(ours), len(theirs)), threshold)


def _differs(one: Moved) -> bool:
    return (
        one.distance > _TINY
        or one.prototypes[0] != one.prototypes[1]
        or abs(one.threshold[0] - one.threshold[1]) > _TINY
    )


def _names(means: ClassMeans, embeddings: Floats) -> list[str | None]:
    labels = Matcher(means).label(embeddings).labels
    return [None if label == NOBODY else means.animals[label] for label in labels]

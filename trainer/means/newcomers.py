"""What is odd about a newcomer: the warnings a person should read before it goes to the barn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge.identity.matching import Matcher
from edge.identity.means import OUTLIERS, ClassMeans
from edge.vision.types import Floats

FEW_CROPS = 5
_MOST_BEYOND = 0.25


@dataclass(frozen=True, slots=True)
class Newcomer:
    """How an enrolled animal lies among the others.

    nearest, distance: the nearest other animal and the cosine distance between their prototypes
    (None in a herd of one). beyond: share of its crops beyond its threshold. warnings: sentences.
    """

    animal: str
    crops: int
    nearest: str | None
    distance: float | None
    threshold: float
    beyond: float
    warnings: tuple[str, ...]


def look_at(means: ClassMeans, animal: str, embeddings: Floats) -> Newcomer:
    """Judge an enrolled animal by its crops' embeddings (N, D), as a device would have them."""
    label = means.animals.index(animal)
    own = means.prototypes[means.owner == label]
    threshold = float(means.threshold[label])
    matcher = Matcher(means)
    apart = matcher.distances(own).min(axis=0)
    apart[label] = np.inf
    warnings = []
    nearest, distance = None, None
    if len(means.animals) > 1:
        other = int(np.argmin(apart))
        nearest, distance = means.animals[other], float(apart[other])
        limit = float(means.threshold[other])
        if distance < limit:
            warnings.append(
                f"{animal} lies {distance:.2f} from {nearest}, within that animal's threshold "
                f"{limit:.2f}: the same animal under another name? (means merge)"
            )
    distances = matcher.distances(embeddings)[:, label]
    beyond = float((distances > threshold).mean())
    if beyond > _MOST_BEYOND:
        warnings.append(
            f"{animal}: {round(100 * beyond)} % of its crops lie beyond its threshold "
            f"{threshold:.2f}: more than one animal in the folder? (means inspect)"
        )
    outliers = means.prototypes[means.owner == OUTLIERS]
    if len(outliers) and len(embeddings):
        claimed = float((1 - (embeddings @ outliers.T).max(axis=1) < distances).mean())
        if claimed > _MOST_BEYOND:
            warnings.append(
                f"{animal}: {round(100 * claimed)} % of its crops lie nearer to an outliers "
                "prototype and would stay unknown; build the means again with this animal"
            )
    if len(embeddings) < FEW_CROPS:
        plural = "" if len(embeddings) == 1 else "s"
        warnings.append(
            f"{animal} has {len(embeddings)} crop{plural}; {FEW_CROPS} or more, from different "
            "days and sides, make a mean that holds"
        )
    return Newcomer(animal, len(embeddings), nearest, distance, threshold, beyond, tuple(warnings))

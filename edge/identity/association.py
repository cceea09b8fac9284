"""Which detection belongs to which track: costs, gates, and the assignment that costs least."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from edge.vision.geometry import iou_matrix
from edge.vision.types import Floats

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]


def assign(costs: Floats, allowed: NDArray[np.bool_], limit: float) -> Pairs:
    """Return rows and columns (K,), (K,) of the cheapest assignment of costs (T, N).

    Only allowed pairs that cost less than `limit` are made, each row and column at most once. To
    leave a row and a column alone costs `limit`: so a track whose animal is hidden does not take
    its neighbour's detection and push the neighbour on to the next.
    """
    possible = allowed & (costs < limit)
    rows = np.flatnonzero(possible.any(axis=1))
    columns = np.flatnonzero(possible.any(axis=0))
    if not len(rows):
        return rows, columns
    possible = possible[np.ix_(rows, columns)]
    table = np.where(possible, costs[np.ix_(rows, columns)], limit)
    first, second = linear_sum_assignment(table)
    made = possible[first, second]
    return rows[first[made]], columns[second[made]]


def position_costs(
    predicted: Floats, boxes: Floats, squared: Floats, gate: float, least_iou: float
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return costs 0..1 (T, N) of detections by place alone, and which pairs are possible.

    predicted: boxes (T, 4) of the tracks; boxes: (N, 4) detected; squared: squared Mahalanobis
    distances (T, N). Possible is what lies within `gate` or overlaps by `least_iou`: the filter
    trusts itself too much when a box jumps because its animal bends or is half hidden. IoU tells
    near boxes apart, the Mahalanobis distance goes on where they no longer touch.
    """
    overlap = iou_matrix(predicted, boxes)
    possible = (squared <= gate) | (overlap >= least_iou)
    costs = 0.6 * (1 - overlap) + 0.4 * np.minimum(squared / gate, 1)
    return np.asarray(costs, np.float32), possible


def appearance_distances(
    means: Floats, has_mean: NDArray[np.bool_], embeddings: Floats, embedded: NDArray[np.bool_]
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return cosine distances (T, N) of tracks' means (T, D) to embeddings (N, D), and where known.

    Rows without a mean (T,) and columns that were not embedded (N,) are not known.
    """
    known = has_mean[:, None] & embedded[None, :]
    return np.asarray(1 - means @ embeddings.T, np.float32), known


def mixed_costs(
    position: Floats, appearance: Floats, known: NDArray[np.bool_], weight: float
) -> Floats:
    """Return costs (T, N): position, and `weight` of appearance where it is known.

    A cosine distance of 1 or more costs the full weight; what is not known costs half of it, so
    that a detection nobody looked at is neither preferred nor shunned.
    """
    looks = np.where(known, np.clip(appearance, 0, 1), 0.5)
    return np.asarray((1 - weight) * position + weight * looks, np.float32)


def contested_columns(costs: Floats, allowed: NDArray[np.bool_], doubt: float) -> NDArray[np.int64]:
    """Return the detections (K,) for which place alone leaves a doubt, greatest doubt first.

    costs, allowed: (T, N). There is a doubt where a second track would cost at most `doubt` more
    than the cheapest: animals that cross, or lie on each other.
    """
    if costs.shape[0] < 2 or not costs.shape[1]:
        return np.zeros(0, np.int64)
    two = np.partition(np.where(allowed, costs, np.float32(np.inf)), 1, axis=0)[:2]
    rivals = np.flatnonzero(np.isfinite(two[1]))
    lead = two[1, rivals] - two[0, rivals]
    rivals, lead = rivals[lead <= doubt], lead[lead <= doubt]
    return np.asarray(rivals[np.argsort(lead, kind="stable")], np.int64)

"""Confidence intervals by a bootstrap over sessions: frames of one session are no new evidence.

A cluster bootstrap (Efron & Tibshirani 1993, ch. 8; Field & Welsh 2007): what is drawn anew is a
whole session of an animal, with all its frames, and never a frame. It is stratified:

- An animal with several sessions is a stratum of its own. The herd stays the same herd; what could
  have been otherwise is the days on which it was filmed.
- An animal with one session says nothing about how its sessions differ. All such animals together
  are one stratum ("collapsed strata" of survey sampling), so that what is drawn is the animal with
  its session: somewhat too wide, rather than of no width at all. In an average over animals it
  counts as often as it was drawn; its F1 stays what it was, for to double one animal's right names
  and leave out another's wrong ones would move every F1 upwards.

Of a stratum's n units n-1 are drawn with replacement, and each weighs n/(n-1) (Rao & Wu 1988). To
draw n would make intervals too narrow by sqrt((n-1)/n), which is 0.7 for an animal of two sessions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
DRAWS = 1000
LEVEL = 0.95


class Weights(NamedTuple):
    """What one draw makes of the data: how often each row (N,) and each animal (G,) counts.

    within: (N,) how often a row counts against those of other animals, 1 for those of an animal
    that was drawn as a whole.
    """

    rows: Numbers
    groups: Numbers
    within: Numbers


@dataclass(frozen=True, slots=True, eq=False)
class Sessions:
    """N rows by what is independent of each other: the sessions of G animals.

    row_unit: (N,) the session, a unit, of each row. unit_group: (U,) the animal of each unit.
    strata: the units of each animal that has several. pool: the units of all others.
    """

    row_unit: NDArray[np.int64]
    unit_group: NDArray[np.int64]
    strata: tuple[NDArray[np.int64], ...]
    pool: NDArray[np.int64]
    groups: int

    @property
    def random(self) -> bool:
        """Say whether a draw can differ from the data: without that there is no interval."""
        return bool(self.strata) or len(self.pool) > 1

    def as_they_are(self) -> Weights:
        """Return the data's own weights: 1 for each row, and for each animal that has any."""
        return self._weigh(np.ones(len(self.unit_group)))

    def draw(self, rng: np.random.Generator) -> Weights:
        """Return the weights of one draw."""
        weights = np.ones(len(self.unit_group))
        for units in (*self.strata, self.pool):
            count = len(units)
            if count > 1:
                drawn = rng.multinomial(count - 1, np.full(count, 1 / count))
                weights[units] = drawn * (count / (count - 1))
        return self._weigh(weights)

    def _weigh(self, units: Numbers) -> Weights:
        totals = np.bincount(self.unit_group, units, self.groups)
        sizes = np.bincount(self.unit_group, minlength=self.groups)
        within = units.copy()
        within[self.pool] = 1
        return Weights(units[self.row_unit], totals / np.maximum(sizes, 1), within[self.row_unit])


def by_session(groups: NDArray[np.int64], sessions: Sequence[str], count: int) -> Sessions:
    """Sort N rows into units: groups (N,) are animals 0..count-1, sessions (N,) theirs."""
    names = np.unique(np.array(sessions, dtype=np.str_), return_inverse=True)[1].reshape(-1)
    width = int(names.max(initial=0)) + 1
    keys, row_unit = np.unique(groups.astype(np.int64) * width + names, return_inverse=True)
    unit_group = keys // width
    sizes = np.bincount(unit_group, minlength=count)
    several = tuple(np.flatnonzero(unit_group == group) for group in np.flatnonzero(sizes > 1))
    single = np.flatnonzero(sizes[unit_group] == 1)
    return Sessions(row_unit.reshape(-1), unit_group, several, single, count)


def by_animal(groups: NDArray[np.int64], count: int) -> Sessions:
    """Sort N rows into units that are whole animals: for strangers, who stand for all others."""
    return by_session(groups, [""] * len(groups), count)


def percentile_intervals(
    replicates: Iterable[Mapping[str, float]], level: float = LEVEL
) -> dict[str, list[float]]:
    """Return [low, high] of each figure over the draws; draws where it is undefined do not count.

    A figure that came out the same in every draw has an interval of no width: no session spoke
    against it, which is no proof that none will.
    """
    columns: dict[str, list[float]] = {}
    for figures in replicates:
        for name, value in figures.items():
            if np.isfinite(value):
                columns.setdefault(name, []).append(value)
    edges = ((1 - level) / 2, (1 + level) / 2)
    return {name: np.quantile(values, edges).tolist() for name, values in columns.items()}

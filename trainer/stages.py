"""The stages of a run, as whoever started it shows them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
from numpy.typing import NDArray

from trainer.progress import Report

# Given a stage's name, returns the bar that shows how far it is.
Stages = Callable[[str], AbstractContextManager[Report]]


def spread(count: int, most: int, seed: int) -> NDArray[np.int64]:
    """Return at most `most` of `count` indices, drawn evenly, in their order."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:most])

from __future__ import annotations

import numpy as np
import pytest

from edge.identity.means import OUTLIERS, ClassMeans, MeansHeader
from trainer.means.edit import enrol
from trainer.means.newcomers import Newcomer, look_at


def at(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)


def herd(*degrees: float, outliers: tuple[float, ...] = ()) -> ClassMeans:
    """Animals at these angles; their threshold is 0.1, some 26 degrees."""
    count = len(degrees)
    return ClassMeans(
        tuple(f"cow{n}" for n in range(count)),
        at(*degrees, *outliers),
        np.array([*range(count), *[OUTLIERS] * len(outliers)], np.int32),
        np.zeros((count, 2)),
        np.zeros(count, np.int64),
        np.full(count, 0.1, np.float32),
        0.0,
        MeansHeader(),
    )


def enrolled(means: ClassMeans, *degrees: float) -> Newcomer:
    return look_at(enrol(means, "calf", at(*degrees)), "calf", at(*degrees))


def test_a_newcomer_of_its_own_gives_no_warning() -> None:
    look = enrolled(herd(0, 90), 180, 181, 182, 183, 184)
    assert look.warnings == ()
    assert (look.nearest, look.crops, look.beyond) == ("cow1", 5, 0)
    # 92 degrees apart.
    assert look.distance == pytest.approx(1 - np.cos(np.radians(92)), abs=1e-5)


def test_a_newcomer_that_is_somebody_already_is_told() -> None:
    look = enrolled(herd(0, 90), 100, 101, 102, 103, 104)
    assert len(look.warnings) == 1
    assert "calf lies 0.02 from cow1, within that animal's threshold 0.10" in look.warnings[0]
    assert enrolled(herd(0, 90), *range(118, 124)).warnings == ()  # 30.5 degrees: 0.14


def test_images_that_disagree_are_told() -> None:
    look = enrolled(herd(0), 150, 150, 150, 210, 210, 210)
    assert look.beyond == 1
    assert any("100 % of its crops lie beyond" in text for text in look.warnings)
    # A quarter is not yet odd: three of twelve.
    assert not enrolled(herd(0), *[180] * 9, *[230] * 3).warnings


def test_few_images_are_told() -> None:
    assert enrolled(herd(0), 180, 180, 180, 180).warnings == (
        "calf has 4 crops; 5 or more, from different days and sides, make a mean that holds",
    )
    assert "calf has 1 crop;" in enrolled(herd(0), 180).warnings[0]


def test_a_newcomer_that_outliers_claim_is_told() -> None:
    # The animal's mean is at 186 degrees; those at 190 lie nearer to the outliers prototype at 191.
    look = enrolled(herd(0, outliers=(191.0,)), 182, 182, 182, 190, 190, 190)
    assert len(look.warnings) == 1
    assert "50 % of its crops lie nearer to an outliers prototype" in look.warnings[0]


def test_the_first_animal_has_no_neighbour() -> None:
    empty = herd()
    look = enrolled(empty, 0, 1, 2, 3, 4)
    assert (look.nearest, look.distance, look.warnings) == (None, None, ())

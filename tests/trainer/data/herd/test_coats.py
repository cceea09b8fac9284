from __future__ import annotations

import numpy as np

from trainer.data.herd.body import COLUMNS, ROWS, body_shape, random_build
from trainer.data.herd.coats import Coat, random_coat

BACK = (slice(ROWS // 4, -ROWS // 4), slice(COLUMNS // 5, -20))


def coats(count: int, seed: int = 0) -> list[Coat]:
    return [random_coat(np.random.default_rng([seed, number])) for number in range(count)]


def test_a_coat_is_drawn_again_from_its_seed() -> None:
    first, again = coats(1)[0], coats(1)[0]
    np.testing.assert_array_equal(first.colour, again.colour)
    np.testing.assert_array_equal(first.infrared, again.infrared)
    assert first.colour.shape == (ROWS, COLUMNS, 3)
    assert first.infrared.shape == (ROWS, COLUMNS)


def test_no_two_animals_of_many_look_alike_in_infrared() -> None:
    herd = [coat.infrared[BACK].ravel() for coat in coats(24)]
    alike = np.corrcoef(np.stack(herd))
    np.fill_diagonal(alike, 0)
    assert alike.max() < 0.75


def test_every_back_has_markings_that_infrared_sees() -> None:
    for coat in coats(24):
        assert coat.infrared[BACK].std() > 8


def test_many_animals_share_a_base_colour() -> None:
    breeds = [coat.breed for coat in coats(60)]
    assert breeds.count("pink") >= 15
    assert len(set(breeds)) >= 4


def test_dirt_changes_from_session_to_session_but_never_hides_the_coat() -> None:
    coat = coats(1)[0]
    ears = body_shape(random_build(np.random.default_rng(0), 1.0)).ears
    days = [coat.dirtied(np.random.default_rng(day), ears) for day in range(4)]
    assert np.abs(days[0].colour - days[1].colour).max() > 5
    for day in days:
        alike = np.corrcoef(day.infrared[BACK].ravel(), coat.infrared[BACK].ravel())[0, 1]
        assert alike > 0.85


def test_lying_legs_reach_to_one_side_and_the_body_has_its_measures() -> None:
    build = random_build(np.random.default_rng(3), 1.0)
    standing, left = body_shape(build), body_shape(build, 1)
    added = (left.alpha - standing.alpha).clip(0)
    # Beyond the flank: a body that lies is also a little wider on both sides.
    assert added[ROWS // 2 + 60 :].sum() > 200
    assert added[: ROWS // 2 - 60].sum() == 0
    widest = (standing.alpha[:, COLUMNS // 2] > 0.5).sum() / 2 / COLUMNS
    assert abs(widest * build.length_px - build.radius_px) < 0.12 * build.radius_px
    assert standing.alpha[:, 0].max() < 1

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge.errors import DataError, UsageError
from trainer.data.herd import Herd, HerdOptions, SessionPlan
from trainer.data.herd.options import check_options

PLAN = SessionPlan("a", 1, "day", 0, 4)


def test_the_default_sessions_are_three_lights_by_two_cameras_at_the_same_moments() -> None:
    plans = HerdOptions(frames=7).plans()
    assert {(plan.camera, plan.light) for plan in plans} == {
        (camera, light) for camera in (1, 2) for light in ("day", "dusk", "night")
    }
    assert all(plan.frames == 7 for plan in plans)
    for plan in plans:
        assert plan.seed == next(p.seed for p in plans if p.light == plan.light)


def test_ids_count_on_from_the_first_number() -> None:
    assert HerdOptions(animals=3, first_number=9).animal_ids() == ("pig09", "pig10", "pig11")
    assert HerdOptions(animals=1, prefix="cow-", first_number=123).animal_ids() == ("cow-123",)


def test_crops_come_twice_a_second_and_pictures_once_unless_told_otherwise() -> None:
    assert (HerdOptions(fps=12).crop_step(), HerdOptions(fps=12).frame_step()) == (6, 12)
    assert (HerdOptions(fps=0.5).crop_step(), HerdOptions(fps=0.5).frame_step()) == (1, 1)
    assert HerdOptions(crop_every=5).crop_step() == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"animals": 0}, "animals must be 1 to"),
        ({"animals": 1000}, "animals must be 1 to"),
        ({"frames": 0}, "frames must be 1 or more"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"width": 641}, "width must be an even number"),
        ({"height": 10}, "height must be an even number"),
        ({"fps": 0.0}, "fps must be more than 0"),
        ({"fps": float("nan")}, "fps must be more than 0"),
        ({"pace": -1.0}, "pace must be more than 0"),
        ({"crop_every": 0}, "crop_every must be 1 or more"),
        ({"prefix": "Pig_"}, "prefix 'Pig_' must be"),
        ({"sessions": ()}, "no session"),
        ({"sessions": (PLAN, PLAN)}, "two sessions are named a"),
        ({"sessions": (replace(PLAN, name="../x"),)}, "session name"),
        ({"sessions": (replace(PLAN, frames=0),)}, "session a: frames must be"),
        ({"sessions": (replace(PLAN, light="noon"),)}, "light must be one of"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_options(replace(HerdOptions(), **change))


def test_frames_too_small_for_the_herd_are_refused() -> None:
    herd = Herd(HerdOptions(animals=60, width=128, height=128))
    with pytest.raises(UsageError, match="too small for 60 animals"):
        next(herd.render(PLAN))


def test_a_missing_sprites_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such folder"):
        Herd(HerdOptions(sprites=tmp_path / "nowhere"))

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import DataError
from trainer.data.crops import CropSet
from trainer.data.splits import (
    select_sessions,
    shared_sessions,
    split_by_session,
    split_crops,
    without_session,
)


def crop_set(table: dict[str, dict[str, int]]) -> CropSet:
    rows = [
        (animal, session, frame)
        for animal, sessions in sorted(table.items())
        for session, count in sessions.items()
        for frame in range(count)
    ]
    animals = tuple(sorted(table))
    return CropSet(
        tuple(Path(f"{a}/{s}_{f}.jpg") for a, s, f in rows),
        animals,
        np.array([animals.index(a) for a, _, _ in rows], np.int32),
        tuple(s for _, s, _ in rows),
    )


def units(crops: CropSet) -> set[tuple[str, str]]:
    return set(zip(crops.names(), crops.sessions, strict=True))


def test_whole_sessions_shared_by_animals_are_held_out() -> None:
    table = {a: {"day-1": 5, "day-2": 5, "night-1": 5, "night-2": 5} for a in "abcd"}
    train, held = split_by_session(crop_set(table), 0.25, seed=1)
    assert len(held) == 20
    assert not set(train.sessions) & set(held.sessions)
    assert set(train.names()) == set("abcd")


def test_every_animal_is_held_out_before_any_twice() -> None:
    table = {a: {f"{a}-{n}": 4 for n in range(4)} for a in "abcdef"}
    _, held = split_by_session(crop_set(table), 0.25, seed=0)
    assert set(held.names()) == set("abcdef")


def test_animals_that_count_their_own_tracklets_are_split_too() -> None:
    # As shared sessions, neither t0 nor t1 could go: somebody has no other.
    table = {"a": {"t0": 6}, "b": {"t1": 6}, "c": {"t0": 6, "t1": 6}}
    train, held = split_by_session(crop_set(table), 0.2, seed=0)
    assert len(held) == 6
    assert set(held.names()) == {"c"}
    assert not units(train) & units(held)


def test_with_single_sessions_nothing_is_held_out() -> None:
    train, held = split_by_session(crop_set({"a": {"t0": 6}, "b": {"t0": 6}}), 0.3, seed=0)
    assert (len(train), len(held)) == (12, 0)


def test_fraction_zero_and_out_of_range() -> None:
    crops = crop_set({"a": {"t0": 3, "t1": 3}})
    assert len(split_by_session(crops, 0, seed=0)[1]) == 0
    with pytest.raises(ValueError, match="fraction"):
        split_by_session(crops, 1.0, seed=0)


@given(
    st.dictionaries(
        st.sampled_from("abcde"),
        st.dictionaries(st.sampled_from(["s0", "s1", "s2", "s3"]), st.integers(1, 6), min_size=1),
        min_size=1,
    ),
    st.floats(0, 0.9),
    st.integers(0, 3),
)
def test_a_split_loses_nothing_and_leaves_every_animal_a_session(
    table: dict[str, dict[str, int]], fraction: float, seed: int
) -> None:
    crops = crop_set(table)
    train, held = split_by_session(crops, fraction, seed)
    assert sorted(train.paths + held.paths) == sorted(crops.paths)
    assert set(train.names()) == set(table)
    assert not units(train) & units(held)
    again = split_by_session(crops, fraction, seed)[1]
    assert again.paths == held.paths


def test_sessions_are_selected_by_glob_and_by_animal() -> None:
    crops = crop_set({"a": {"pen-1-day": 2, "pen-1-night": 1}, "b": {"pen-2-day": 2}})
    assert select_sessions(crops, ["pen-1-*"]).tolist() == [True, True, True, False, False]
    assert select_sessions(crops, ["*-night", "b/*"]).sum() == 3
    with pytest.raises(DataError, match=r"no session matches 'pen-9-\*'"):
        select_sessions(crops, ["pen-1-*", "pen-9-*"])


def test_whole_days_are_held_out() -> None:
    sessions = {f"2026-05-{day:02d}-pen{pen}": 3 for day in (1, 2, 3, 4) for pen in (1, 2)}
    crops = crop_set(dict.fromkeys("abc", sessions))
    train, held = split_crops(crops, 0.25, seed=0, by="date")
    days = {session[:10] for session in held.sessions}
    assert len(days) == 1
    assert {session[-4:] for session in held.sessions} == {"pen1", "pen2"}
    assert not days & {session[:10] for session in train.sessions}
    assert len(train) + len(held) == len(crops)


@pytest.mark.parametrize(
    ("session", "day"),
    [
        ("20260531-cam", "2026-05-31"),
        ("cam_2026_05_31_1", "2026-05-31"),
        ("9999999999-20260531", "2026-05-31"),
        ("2026-13-01-2026-12-01", "2026-12-01"),
    ],
)
def test_dates_are_found_in_sessions(session: str, day: str) -> None:
    other = "2025-01-01"
    crops = crop_set({"a": {session: 2, other: 2, f"{day}-later": 2}})
    held = split_crops(crops, 0.5, seed=0, by="date")[1]
    assert set(held.sessions) in ({other}, {session, f"{day}-later"})


def test_a_session_without_a_date_is_told() -> None:
    with pytest.raises(DataError, match="session 't0' names no date"):
        split_crops(crop_set({"a": {"t0": 2, "t1": 2}}), 0.5, seed=0, by="date")


def test_a_split_by_frame_must_be_forced() -> None:
    crops = crop_set({"a": {"t0": 10}, "b": {"t0": 1}})
    with pytest.raises(DataError, match="force_frame_split"):
        split_crops(crops, 0.3, seed=0, by="frame")
    train, held = split_crops(crops, 0.3, seed=0, by="frame", force=True)
    assert (len(train), len(held)) == (8, 3)
    assert "b" in train.names()


def test_crops_without_a_session_in_their_names_must_be_forced_apart() -> None:
    named = crop_set({"a": {"t0": 4, "t1": 4}, "b": {"t0": 4, "t1": 4}})
    paths = list(named.paths)
    paths[8] = Path("b/img1.jpg")
    one = CropSet(tuple(paths), named.animals, named.labels, named.sessions)
    # A single one of an animal is a session of its own and does no harm.
    assert without_session(one) == []
    split_crops(one, 0.3, seed=0)
    paths[9] = Path("b/img2.jpg")
    two = CropSet(tuple(paths), named.animals, named.labels, named.sessions)
    assert without_session(two) == [Path("b/img1.jpg"), Path("b/img2.jpg")]
    with pytest.raises(DataError, match=r"img1\.jpg: its name gives no session .* of 1 others"):
        split_crops(two, 0.3, seed=0)
    train, held = split_crops(two, 0.3, seed=0, force=True)
    assert len(train) + len(held) == 16


def test_a_day_is_never_on_both_sides_of_a_split_by_date() -> None:
    # Either day is more than half of one animal's crops.
    crops = crop_set(
        {"a": {"2026-05-01": 6, "2026-05-02": 4}, "b": {"2026-05-01": 4, "2026-05-02": 6}}
    )
    train, held = split_crops(crops, 0.4, seed=0, by="date")
    assert len(held) == 10
    assert not set(train.sessions) & set(held.sessions)


def test_sessions_on_both_sides_are_found() -> None:
    one = crop_set({"a": {"s1": 2, "s2": 1}, "b": {"s1": 1}})
    assert shared_sessions(one, crop_set({"a": {"s1": 1}, "b": {"s2": 3}})) == ["a/s1"]

"""No stretch of video on two sides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import DataError, UsageError
from trainer.data.annotations import read_frames
from trainer.data.annotations.split import split_every, split_frames, write_split
from trainer.data.frames import FrameSet


def frame_set(names: list[str], sessions: list[str] | None = None, root: Path = Path()) -> FrameSet:
    count = len(names)
    return FrameSet(
        tuple(root / name for name in names),
        (np.array([[1, 2, 9.5, 8]], np.float32),) * count,
        (np.zeros(1, np.int32),) * count,
        tuple(sessions or [Path(name).stem for name in names]),
        ("pig",),
        (("x",),) * count,
    )


def test_every_fifth_by_name_is_the_fifth_the_tenth() -> None:
    names = [f"{number:02}.jpg" for number in range(1, 13)]
    shuffled = [names[row] for row in np.random.default_rng(0).permutation(12)]
    train, test = split_every(frame_set(shuffled), 5)
    assert sorted(path.name for path in test.paths) == ["05.jpg", "10.jpg"]
    assert len(train) == 10


def test_neighbours_of_a_video_are_refused_unless_forced() -> None:
    frames = frame_set([f"s1_{number}.jpg" for number in range(6)], ["s1"] * 6)
    with pytest.raises(DataError, match=r"puts 1 of 1 sessions on both sides \(s1\)"):
        split_every(frames, 3)
    train, test = split_every(frames, 3, force=True)
    assert [path.name for path in test.paths] == ["s1_2.jpg", "s1_5.jpg"]
    assert len(train) == 4


def test_every_needs_frames_on_both_sides() -> None:
    with pytest.raises(UsageError, match="leaves none to train on"):
        split_every(frame_set(["a.jpg", "b.jpg"]), 1)
    with pytest.raises(DataError, match="2 frames are too few"):
        split_every(frame_set(["a.jpg", "b.jpg"]), 3)


@settings(deadline=None)
@given(
    st.lists(st.sampled_from("abcdefg"), min_size=2, max_size=60),
    st.floats(0.05, 0.9),
    st.integers(0, 9),
)
def test_sessions_stay_whole_and_nothing_is_lost(
    sessions: list[str], fraction: float, seed: int
) -> None:
    frames = frame_set([f"{s}_{row}.jpg" for row, s in enumerate(sessions)], sessions)
    if len(set(sessions)) == 1:
        with pytest.raises(DataError, match="nothing can be held out"):
            split_frames(frames, fraction, seed)
        return
    train, test = split_frames(frames, fraction, seed)
    assert len(train)
    assert len(test)
    assert set(train.sessions).isdisjoint(test.sessions)
    assert sorted([*train.paths, *test.paths]) == sorted(frames.paths)


def test_frames_without_a_session_are_split_only_by_force() -> None:
    frames = frame_set([f"{number:04}.jpg" for number in range(10)])
    with pytest.raises(DataError, match=r"0000\.jpg: its name gives no session.*9 others.*--force"):
        split_frames(frames, 0.2, 0)
    train, test = split_frames(frames, 0.2, 0, force=True)
    assert (len(train), len(test)) == (8, 2)
    # A single one is no neighbour of another.
    named = frame_set(["0001.jpg", "a_1.jpg", "a_2.jpg"], ["0001", "a", "a"])
    assert len(split_frames(named, 0.3, 0)[1]) == 1
    # Folders tell no more than names do; a stated session does.
    folders = frame_set(["camA/1.jpg", "camB/1.jpg"], ["camA/1", "camB/1"])
    with pytest.raises(DataError, match="gives no session"):
        split_frames(folders, 0.5, 0)
    assert len(split_frames(frame_set(["1.jpg", "2.jpg"], ["day", "night"]), 0.5, 0)[0]) == 1


def test_days_stay_whole() -> None:
    sessions = [f"2026-05-{day:02}-cam{cam}" for day in range(1, 6) for cam in (1, 2)]
    train, test = split_frames(
        frame_set([f"{s}_1.jpg" for s in sessions], sessions), 0.2, 1, "date"
    )
    assert len(test) == 2
    assert len({session[:10] for session in test.sessions}) == 1
    assert {session[:10] for session in train.sessions}.isdisjoint(
        session[:10] for session in test.sessions
    )
    with pytest.raises(DataError, match="session 'a' names no date"):
        split_frames(frame_set(["a.jpg", "b.jpg"]), 0.5, 0, "date")
    with pytest.raises(UsageError, match="no split 'frame'"):
        split_frames(frame_set(["a.jpg", "b.jpg"]), 0.5, 0, "frame")  # type: ignore[arg-type]


def test_files_refer_to_images_below_the_source(tmp_path: Path, picture: Any) -> None:
    names = [f"images/{name}.png" for name in "abcd"]
    for name in names:
        picture(tmp_path / name)
    train, test = split_every(frame_set(names, root=tmp_path), 2)
    assert write_split(train, test, tmp_path, tmp_path / "out") == tmp_path
    written = json.loads((tmp_path / "out" / "test.json").read_text())
    assert [image["file_name"] for image in written["images"]] == ["images/b.png", "images/d.png"]
    assert (written["images"][0]["width"], written["images"][0]["height"]) == (40, 20)
    read = read_frames(tmp_path / "out" / "train.json", images=tmp_path)
    assert read.paths == train.paths
    assert read.sessions == train.sessions
    assert read.animals == train.animals
    np.testing.assert_array_equal(read.boxes[0], train.boxes[0])
    # Elsewhere than in the source: the deepest folder that holds all.
    assert write_split(train, test, tmp_path / "out", tmp_path / "b") == tmp_path / "images"
    before = (tmp_path / "b" / "train.json").read_bytes()
    with pytest.raises(UsageError, match=r"train\.json: exists already"):
        write_split(test, train, tmp_path, tmp_path / "b")
    assert (tmp_path / "b" / "train.json").read_bytes() == before

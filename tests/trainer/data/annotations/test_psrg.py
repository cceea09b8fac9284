"""The article's LocationSelected.mat: (4, frames, animals), front and rear of every back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import savemat

from trainer.data.annotations import read_frames
from trainer.data.annotations.formats import read_raw
from trainer.data.annotations.psrg import back_boxes


def cells(*entries: Any) -> np.ndarray:
    array = np.empty((1, len(entries)), object)
    for row, entry in enumerate(entries):
        array[0, row] = entry
    return array


def save(folder: Path, *entries: Any, name: str = "LocationSelected", **arguments: Any) -> Path:
    path = folder / f"{name}.mat"
    savemat(path, {name: cells(*entries)}, **arguments)
    return path


def points(frames: int = 3, animals: int = 2) -> np.ndarray:
    """Backs of 10 pixels: the animal at (60 + frame, 40) looks right, the next one down."""
    array = np.zeros((4, frames, animals))
    for frame in range(frames):
        array[:, frame, 0] = (60 + frame, 40, 50 + frame, 40)
        if animals > 1:
            array[:, frame, 1] = (100, 60, 100, 50)
    return array


def test_a_box_is_longer_and_wider_than_the_back() -> None:
    # Rear at (50, 40), 10 long: from 50 - 8 to 50 + 14, 4 to either side; and turned by 90 degrees.
    right = back_boxes(np.array([[60.0], [40], [50], [40]]))
    np.testing.assert_allclose(right, [[42, 36, 64, 44]])
    down = back_boxes(np.array([[100.0], [60], [100], [50]]))
    np.testing.assert_allclose(down, [[96, 42, 104, 64]])


@given(st.floats(-500, 500), st.floats(-500, 500), st.floats(0.5, 200), st.floats(0, 6.28))
def test_the_box_is_the_hull_of_the_turned_rectangle(
    x: float, y: float, length: float, angle: float
) -> None:
    along = np.array([np.cos(angle), np.sin(angle)]) * length
    beside = np.array([-along[1], along[0]]) * 0.4
    rear = np.array([x, y])
    corners = [rear + a * along + b * beside for a in (1.4, -0.8) for b in (1, -1)]
    expected = [*np.min(corners, axis=0), *np.max(corners, axis=0)]
    box = back_boxes(np.concatenate([rear + along, rear])[:, None])
    np.testing.assert_allclose(box[0], expected, atol=1e-6)


def test_videos_frames_and_numbers(tmp_path: Path) -> None:
    empty = np.zeros((0, 0))
    path = save(tmp_path, points(), empty, points(2, 1))
    save(tmp_path, np.array([[7, 12]]), empty, np.array([[3]]), name="InitialLabels")
    raw = read_raw(path, every=1)
    assert [(frame.session, frame.number) for frame in raw.frames] == [
        ("video01", 0),
        ("video01", 1),
        ("video01", 2),
        ("video03", 0),
        ("video03", 1),
    ]
    assert [box.animal for box in raw.frames[0].boxes] == ["7", "12"]
    assert [box.animal for box in raw.frames[3].boxes] == ["3"]
    np.testing.assert_allclose(raw.frames[2].boxes[0].corners, (44, 36, 66, 44))
    assert raw.class_names == ("pig",)
    assert [frame.number for frame in read_raw(tmp_path, every=2).frames] == [0, 2, 0]


def test_who_is_not_marked_has_no_box(tmp_path: Path) -> None:
    array = points(3, 2)
    array[:, 0, 0] = np.nan
    array[:, 1, 0] = 0
    array[2:, 2, 0] = 0
    raw = read_raw(save(tmp_path, array), every=1)
    assert [len(frame.boxes) for frame in raw.frames] == [1, 1, 1]
    assert raw.frames[0].boxes[0].animal is None
    assert raw.frames[0].boxes[0].where.endswith("entry 1: frame 0: animal 2")


def test_two_points_on_one_spot_mark_nobody(one_image: Path) -> None:
    array = points(1, 2)
    array[:, 0, 0] = 5
    path = save(one_image, array)
    assert len(read_frames(path).boxes[0]) == 1
    (problem,) = read_raw(path).problems
    assert (problem.kind, problem.severity) == ("animal not marked", "warning")
    assert str(problem).endswith(
        "entry 1: frame 0: animal 1: front and rear are both at 5, 5: not marked"
    )


def test_a_video_without_images_is_left_out_and_told(one_image: Path) -> None:
    path = save(one_image, points(), points(2, 1))
    assert read_frames(path).sessions == ("video01",)
    (problem,) = read_raw(path).problems
    assert (problem.kind, problem.severity) == ("video without images", "warning")
    assert "entry 2: annotates the video 'video02'" in str(problem)


def test_frames_with_images_are_read_and_boxes_cut(tmp_path: Path, picture: Any) -> None:
    picture(tmp_path / "f" / "video01_000001.png", 62, 50)
    frames = read_frames(save(tmp_path, points(3, 1)), images=tmp_path / "f")
    assert len(frames) == 1
    np.testing.assert_allclose(frames.boxes[0], [[43, 36, 62, 44]])


@pytest.fixture
def one_image(tmp_path: Path, picture: Any) -> Path:
    picture(tmp_path / "video01_000000.png", 200, 100)
    return tmp_path


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (np.zeros((3, 5, 2)), "entry 1: has the shape (3, 5, 2); expected (4, frames, animals)"),
        (np.zeros((4, 5, 2, 2)), "entry 1: has the shape (4, 5, 2, 2)"),
        ("text", "entry 1: expected numbers"),
        (np.zeros((0, 0)), "LocationSelected is empty"),
        (np.full((4, 1, 1), np.inf), "entry 1: frame 0: animal 1: box [nan, nan, nan, nan]"),
        (np.array([2e200, 5, 1e200, 5]).reshape(4, 1, 1), "has no area inside"),
    ],
)
def test_a_wrong_entry_is_named(one_image: Path, refused: Any, entry: Any, message: str) -> None:
    path = save(one_image, entry)
    told = refused(path)
    assert message in told
    assert told.startswith(str(path))


def test_an_animal_beside_the_image_is_told(tmp_path: Path, picture: Any, refused: Any) -> None:
    picture(tmp_path / "video01_000001.png", 62, 50)
    assert "has no area inside video01_000001.png" in refused(save(tmp_path, points()))


def test_numbers_that_do_not_match(one_image: Path, refused: Any) -> None:
    path = save(one_image, points())
    save(one_image, np.array([[7, 12, 13]]), name="InitialLabels")
    assert "InitialLabels.mat: entry 1: has 3 numbers for 2 animals" in refused(path)
    save(one_image, np.array([[7]]), np.array([[8]]), name="InitialLabels")
    assert "has 2 entries, and LocationSelected.mat has 1" in refused(path)


def test_files_of_other_kinds(tmp_path: Path, refused: Any) -> None:
    path = tmp_path / "LocationSelected.mat"
    assert "no such file" in refused(path, format="psrg")
    for content in (b"", b"MATLAB 5.0 MAT-file" + b"\xff" * 300, b"\x00" * 500, b"PK\x03\x04"):
        path.write_bytes(content)
        assert "not MATLAB data" in refused(path)
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    assert "MATLAB 7.3" in refused(path)
    whole = save(tmp_path, points(50), do_compression=True).read_bytes()
    for share in (0.3, 0.6, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        assert "LocationSelected" in refused(path)
    savemat(path, {"other": np.zeros(3)})
    assert "holds no LocationSelected" in refused(path)
    savemat(path, {"LocationSelected": np.zeros((4, 5, 2))})
    assert "no cell array" in refused(path)


def test_without_images_the_video_is_asked_for(tmp_path: Path, refused: Any) -> None:
    assert "data convert --video" in refused(save(tmp_path, points()))

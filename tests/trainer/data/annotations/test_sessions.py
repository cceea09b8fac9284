"""Folders of the same file names are not one session."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainer.data.annotations import read_frames, write_frames
from trainer.data.annotations.check import check
from trainer.data.annotations.sessions import without_session


@pytest.fixture
def sessions(tmp_path: Path, picture: Any) -> Any:
    """Writes a COCO file of pictures, the same in every folder, and returns their sessions."""

    def read(*names: str, **stated: str) -> tuple[str, ...]:
        images: list[dict[str, Any]] = []
        for row, name in enumerate(names):
            picture(tmp_path / name, seed=3)
            images.append({"id": row, "file_name": name})
            if Path(name).stem in stated:
                images[-1]["session"] = stated[Path(name).stem]
        content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "pig"}]}
        (tmp_path / "annotations.json").write_text(json.dumps(content))
        return read_frames(tmp_path).sessions

    return read


def test_several_folders_stand_in_front(sessions: Any) -> None:
    assert sessions("camA/frame_1.png", "camA/frame_2.png", "day/camB/frame_1.png", "x_1.png") == (
        "camA/frame",
        "camA/frame",
        "day/camB/frame",
        "x",
    )


def test_one_folder_tells_nothing(sessions: Any) -> None:
    assert sessions("camA/frame_1.png", "camA/other_2.png") == ("frame", "other")


def test_folders_that_divide_a_set_are_not_cameras(sessions: Any) -> None:
    assert sessions("images/train/pen_1.png", "images/val2017/pen_2.png") == ("pen", "pen")
    assert sessions("train/a/pen_1.png", "test/a/pen_2.png", "test/b/pen_1.png") == (
        "a/pen",
        "a/pen",
        "b/pen",
    )


def test_what_is_stated_holds(sessions: Any) -> None:
    # Only one folder is left whose frames go by their names.
    assert sessions("camA/a_1.png", "camB/b_1.png", b_1="night") == ("a", "night")


def test_near_duplicates_are_those_of_other_folders(sessions: Any, tmp_path: Path) -> None:
    sessions("camA/frame_1.jpg", "camB/frame_2.jpg")
    data = (tmp_path / "camB" / "frame_2.jpg").read_bytes()
    (tmp_path / "camB" / "frame_2.jpg").write_bytes(data + b" ")
    assert "near-duplicate image" in {problem.kind for problem in check(tmp_path).problems}


@pytest.mark.parametrize("format", ["coco", "voc", "yolo", "cvat"])
def test_frames_without_a_session_stay_so_in_every_format(
    sessions: Any, tmp_path: Path, format: Any
) -> None:
    sessions("cam_A/1.png", "cam_B/1.png", "cam_B/2.png")
    frames = read_frames(tmp_path / "annotations.json")
    assert len(without_session(frames)) == 3
    out = tmp_path / format
    write_frames(frames, out, format)
    names = sorted(path.name for path in (out / "images").iterdir())
    assert names == ["cam-A-1.png", "cam-B-1.png", "cam-B-2.png"]


def test_names_of_frames_are_told_apart_by_their_folders(sessions: Any, tmp_path: Path) -> None:
    sessions("camA/frame_1.png", "camB/frame_1.png")
    frames = read_frames(tmp_path / "annotations.json")
    write_frames(frames, tmp_path / "out", "coco")
    names = sorted(path.name for path in (tmp_path / "out" / "images").iterdir())
    assert names == ["camA-frame_1.png", "camB-frame_1.png"]

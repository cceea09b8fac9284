from __future__ import annotations

from pathlib import Path

import pytest

from edge.errors import DataError
from trainer.data.folders import read_animal, read_herd, read_strangers


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def test_one_folder_is_read_as_it_is(tmp_path: Path) -> None:
    crops = read_herd([touch(tmp_path / "a", "cow1/t0_0.jpg", "cow2/t1_0.jpg", "notes.txt")])
    assert crops.animals == ("cow1", "cow2")
    assert crops.sessions == ("t0", "t1")


def test_several_folders_share_animals_and_sessions(tmp_path: Path) -> None:
    one = touch(tmp_path / "a", "cow2/t0_0.jpg", "cow3/t0_0.jpg")
    two = touch(tmp_path / "b", "cow1/t0_10.jpg", "cow1/t0_9.jpg", "cow2/t1_0.jpg")
    crops = read_herd([one, two])
    assert crops.animals == ("cow1", "cow2", "cow3")
    assert crops.names() == ("cow1", "cow1", "cow2", "cow2", "cow3")
    assert crops.sessions == ("t0", "t0", "t0", "t1", "t0")
    assert [path.name for path in crops.paths[:2]] == ["t0_9.jpg", "t0_10.jpg"]
    with pytest.raises(DataError, match="named twice"):
        read_herd([one, two, tmp_path / "a" / ".." / "a"])


def test_images_beside_the_animals_folders_are_told(tmp_path: Path) -> None:
    root = touch(tmp_path / "a", "cow1/t0_0.jpg", "t0_0.PNG")
    with pytest.raises(DataError, match=r"holds images itself \(t0_0\.PNG\)"):
        read_herd([root])
    with pytest.raises(DataError, match="no such folder"):
        read_herd([tmp_path / "nowhere"])


def test_one_animals_folder(tmp_path: Path) -> None:
    folder = touch(tmp_path / "x", "t1_1.jpg", "t0_2.jpeg", ".hidden.jpg", "deeper/t9_9.jpg")
    crops = read_animal(folder, "cow7")
    assert [path.name for path in crops.paths] == ["t0_2.jpeg", "t1_1.jpg"]
    assert crops.names() == ("cow7", "cow7")
    assert crops.sessions == ("t0", "t1")


def test_several_animals_are_not_taken_for_one(tmp_path: Path) -> None:
    herd = touch(tmp_path / "herd", "cow1/t0_0.jpg", "cow2/t0_0.jpg")
    with pytest.raises(DataError, match="holds folders of images, not images of one animal"):
        read_animal(herd, "cow7")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images found"):
        read_animal(tmp_path / "empty", "cow7")
    with pytest.raises(DataError, match="no such folder"):
        read_animal(tmp_path / "nowhere", "cow7")


def test_strangers_lie_anywhere_below(tmp_path: Path) -> None:
    root = touch(tmp_path / "n", "a.jpg", "deep/er/b_1.png", ".trash/c.jpg", "deep/.d.jpg", "e.txt")
    crops = read_strangers(root)
    assert [path.name for path in crops.paths] == ["a.jpg", "b_1.png"]
    # Each folder is one stranger.
    assert crops.animals == (".", "deep/er")
    assert crops.labels.tolist() == [0, 1]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images found"):
        read_strangers(tmp_path / "empty")

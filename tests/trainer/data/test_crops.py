from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import DataError
from trainer.data.crops import (
    CropSet,
    check_trainable,
    load_images,
    read_crops,
    session_of,
)


def write(path: Path, colour: tuple[int, int, int] = (255, 0, 0), size: int = 20) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((size, 2 * size, 3), colour[::-1], np.uint8))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("b/t0_1.png", "b/t1_2.png", "a/pen-1_day_000007.png", "a/lonely.png"):
        write(tmp_path / name)
    return tmp_path


def test_reads_animals_sorted_with_labels_and_sessions(root: Path) -> None:
    crops = read_crops(root)
    assert crops.animals == ("a", "b")
    assert crops.names() == ("a", "a", "b", "b")
    assert crops.sessions == ("lonely", "pen-1_day", "t0", "t1")
    assert crops.labels.dtype == np.int32
    assert crops.counts().tolist() == [2, 2]


def test_hidden_files_folders_and_other_files_are_passed_over(root: Path) -> None:
    write(root / "a" / ".hidden.png")
    write(root / ".thumbnails" / "t0_1.png")
    (root / "a" / "notes.txt").write_text("no image")
    crops = read_crops(root)
    assert len(crops) == 4
    assert crops.animals == ("a", "b")


def test_a_missing_folder_and_one_without_images_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such folder"):
        read_crops(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no images found"):
        read_crops(tmp_path)


def test_an_animals_folder_without_images_is_named(root: Path) -> None:
    (root / "d").mkdir()
    with pytest.raises(DataError, match="d: an animal without images"):
        read_crops(root)
    write(root / "d" / "t0" / "t0_1.png")
    with pytest.raises(DataError, match="d: its images lie in folders of their own"):
        read_crops(root)


def test_the_animal_with_a_single_image_is_refused_by_name(root: Path) -> None:
    check_trainable(read_crops(root))
    write(root / "c" / "t0_1.png")
    with pytest.raises(DataError, match="'c' has 1 image,"):
        check_trainable(read_crops(root))


def test_one_animal_cannot_be_trained_on(tmp_path: Path) -> None:
    write(tmp_path / "a" / "t0_1.png")
    write(tmp_path / "a" / "t0_2.png")
    with pytest.raises(DataError, match="at least 2 animals"):
        check_trainable(read_crops(tmp_path))


def test_select_and_without_empty(root: Path) -> None:
    crops = read_crops(root)
    chosen = crops.select(crops.labels == 1)
    assert chosen.animals == ("a", "b")
    assert chosen.labels.tolist() == [1, 1]
    assert chosen.without_empty().animals == ("b",)
    assert chosen.without_empty().labels.tolist() == [0, 0]
    assert crops.select([3, 0]).names() == ("b", "a")
    assert len(crops.select([])) == 0
    with pytest.raises(ValueError, match="mask must be"):
        crops.select(np.array([True]))


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="labels and sessions"):
        CropSet((Path("x"),), ("a",), np.zeros(2, np.int32), ("s",))
    with pytest.raises(ValueError, match="outside"):
        CropSet((Path("x"),), ("a",), np.ones(1, np.int32), ("s",))


@pytest.mark.parametrize(
    ("name", "session"),
    [("t0_000124.jpg", "t0"), ("pen-1_day_3.jpg", "pen-1_day"), ("x.jpg", "x"), ("_7.jpg", "_7")],
)
def test_session_is_the_stem_before_its_last_underscore(name: str, session: str) -> None:
    assert session_of(Path(name)) == session


def test_images_are_letterboxed_rgb(root: Path) -> None:
    calls: list[tuple[int, int]] = []
    images = load_images(
        read_crops(root), 32, (1, 2, 3), lambda done, total, note="": calls.append((done, total))
    )
    assert images.shape == (4, 32, 32, 3)
    assert images.dtype == np.uint8
    assert images[0, 16, 16].tolist() == [255, 0, 0]
    assert images[0, 0, 0].tolist() == [1, 2, 3]
    assert calls[-1] == (4, 4)


@pytest.mark.parametrize("content", [b"", b"this is not a picture"])
def test_an_unreadable_image_is_named(root: Path, content: bytes) -> None:
    (root / "a" / "t9_1.jpg").write_bytes(content)
    with pytest.raises(DataError, match=r"t9_1\.jpg: not an image"):
        load_images(read_crops(root), 32)

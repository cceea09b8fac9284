"""Folders of images as cameras, and single images."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.capture.images import ImageFolder, find_images, read_image
from edge.capture.source import SourceOptions
from edge.errors import SourceError, UsageError


def write(path: Path, red: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.empty((6, 8, 3), np.uint8)
    image[:] = (0, 50, red)  # BGR
    cv2.imwrite(str(path), image)


def test_images_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name, red in (("b.png", 20), ("a.png", 10), ("sub/c.PNG", 30)):
        write(tmp_path / name, red)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".a.png").write_text("somebody's half-written file")
    source = ImageFolder(tmp_path, "pen", SourceOptions(fps=4))
    frames = list(source.frames())
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [10, 20, 30]
    assert frames[0].image[0, 0].tolist() == [10, 50, 0]
    assert [(frame.index, frame.monotonic_s) for frame in frames] == [(0, 0), (1, 0.25), (2, 0.5)]


def test_a_loop_begins_again(tmp_path: Path) -> None:
    write(tmp_path / "a.png", 10)
    write(tmp_path / "b.png", 20)
    frames = list(islice(ImageFolder(tmp_path, "pen", SourceOptions(loop=True)).frames(), 5))
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [10, 20, 10, 20, 10]
    assert [frame.index for frame in frames] == list(range(5))


def test_an_unreadable_image_is_left_out_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "a.png", 10)
    (tmp_path / "b.jpg").touch()
    write(tmp_path / "c.png", 30)
    source = ImageFolder(tmp_path, "pen", SourceOptions(loop=True))
    frames = list(islice(source.frames(), 4))
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [10, 30, 10, 30]
    # What it shows keeps its own moment, whatever is missing before.
    assert [frame.index for frame in frames] == [0, 2, 3, 5]
    assert [frame.monotonic_s for frame in frames] == pytest.approx([0, 0.2, 0.3, 0.5])
    assert source.unreadable == 1
    (line,) = caplog.messages
    assert "b.jpg: not a readable image" in line
    assert line.endswith("left out")


def test_many_unreadable_images_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "a.png", 10)
    for number in range(9):
        (tmp_path / f"b{number}.jpg").write_bytes(b"not an image")
    source = ImageFolder(tmp_path, "pen", SourceOptions())
    assert len(list(source.frames())) == 1
    assert len(caplog.messages) == 4
    assert "9 of 10 images were left out" in caplog.messages[-1]


@pytest.mark.parametrize("loop", [False, True])
def test_a_folder_of_which_nothing_can_be_read_is_an_error(tmp_path: Path, loop: bool) -> None:
    for name in ("b.png", "c.png"):
        (tmp_path / name).write_bytes(b"not an image")
    frames = ImageFolder(tmp_path, "pen", SourceOptions(loop=loop)).frames()
    with pytest.raises(SourceError, match=r"none of its images can be read; .*b\.png"):
        next(frames)


def test_a_loop_ends_when_its_images_have_gone(tmp_path: Path) -> None:
    write(tmp_path / "a.png", 10)
    frames = ImageFolder(tmp_path, "pen", SourceOptions(loop=True)).frames()
    next(frames)
    (tmp_path / "a.png").unlink()
    with pytest.raises(SourceError, match=r"a\.png"):
        next(frames)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\xff\xd8\xff\xe0 cut"])
def test_read_image_names_what_it_cannot_read(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"broken\.jpg: not a readable image"):
        read_image(path)


def test_read_image_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"gone\.jpg"):
        read_image(tmp_path / "gone.jpg")


def test_grey_images_become_rgb(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((3, 4), 90, np.uint8))
    assert read_image(tmp_path / "grey.png").shape == (3, 4, 3)


def test_a_missing_or_empty_folder_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no images"):
        ImageFolder(tmp_path, "pen", SourceOptions())
    with pytest.raises(UsageError, match="no such folder"):
        ImageFolder(tmp_path / "nowhere", "pen", SourceOptions())


def test_find_images_looks_below_and_past_hidden_folders(tmp_path: Path) -> None:
    write(tmp_path / "x" / "a.jpg", 1)
    write(tmp_path / ".cache" / "b.jpg", 1)
    assert find_images(tmp_path) == [tmp_path / "x" / "a.jpg"]

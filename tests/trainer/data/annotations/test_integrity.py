"""Image files cut off, of one colour, or copies of each other."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from trainer.data.annotations.integrity import Look, is_truncated, look_at, near_duplicates
from trainer.data.annotations.raw import Problem


def scene(seed: int) -> np.ndarray:
    """A picture with large and small things in it."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (6, 8, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(coarse, (160, 120), interpolation=cv2.INTER_CUBIC), np.uint8)


def encoded(suffix: str, *options: int) -> bytes:
    return bytes(cv2.imencode(suffix, scene(0), options)[1])


@pytest.mark.parametrize(
    "data",
    [
        encoded(".jpg"),
        encoded(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        encoded(".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
        encoded(".png"),
        encoded(".bmp"),
        encoded(".webp"),
    ],
    ids=["jpeg", "progressive", "restarts", "png", "bmp", "webp"],
)
def test_a_file_is_whole_up_to_its_last_byte(data: bytes) -> None:
    assert not is_truncated(data)
    assert not is_truncated(data + b"appended by a camera")
    # A WebP chunk of odd length ends in a byte that its own length leaves out.
    last = 2 if data[:4] == b"RIFF" else 1
    for share in (len(data) - last, len(data) // 2, 40):
        assert is_truncated(data[:share])


def test_the_end_of_an_exif_thumbnail_is_not_the_pictures() -> None:
    data, small = encoded(".jpg"), encoded(".jpg", cv2.IMWRITE_JPEG_QUALITY, 10)
    exif = b"\xff\xe1" + struct.pack(">H", len(small) + 2) + small
    whole = data[:2] + exif + data[2:]
    assert not is_truncated(whole)
    assert is_truncated(whole[: len(exif) + 200])


def test_what_is_no_image_is_left_to_the_decoder() -> None:
    assert not is_truncated(b"")
    assert not is_truncated(b"GIF89a")


def test_a_look(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), scene(1))
    look = look_at(path)
    assert isinstance(look, Look)
    assert not look.empty
    cv2.imwrite(str(path), np.full((20, 40, 3), (3, 200, 90), np.uint8))
    look = look_at(path)
    assert isinstance(look, Look)
    assert look.empty


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (b"", "broken image", "is empty"),
        (b"no picture", "broken image", "not an image that can be read"),
        (encoded(".jpg")[:-3], "truncated image", "ends before the picture does"),
        (None, "broken image", "cannot be read: No such file"),
    ],
)
def test_what_is_wrong_with_a_file(
    tmp_path: Path, data: bytes | None, kind: str, message: str
) -> None:
    if data is not None:
        (tmp_path / "a.jpg").write_bytes(data)
    problem = look_at(tmp_path / "a.jpg")
    assert isinstance(problem, Problem)
    assert (problem.kind, problem.where) == (kind, str(tmp_path / "a.jpg"))
    assert message in problem.message


def test_copies_are_found_across_sessions(tmp_path: Path) -> None:
    pictures = {f"{n}.png": scene(n) for n in range(5)}
    pictures["half.png"] = cv2.resize(scene(2), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    pictures["poor.jpg"] = scene(3)
    looks: list[Any] = []
    for name, image in pictures.items():
        options = [cv2.IMWRITE_JPEG_QUALITY, 30] if name.endswith("jpg") else []
        cv2.imwrite(str(tmp_path / name), image, options)
        looks.append(look_at(tmp_path / name))
    apart = [str(row) for row in range(len(looks))]
    assert sorted(pair[:2] for pair in near_duplicates(looks, apart)) == [(2, 5), (3, 6)]
    # Neighbours in a video may be alike, and copies of the bytes are told elsewhere.
    assert not list(near_duplicates(looks, ["a"] * 7))
    assert not list(near_duplicates([looks[0], looks[0]], ["a", "b"]))
    assert not list(near_duplicates(looks[:1], ["a"]))


def test_pairs_are_those_of_a_naive_search(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    looks: list[Any] = []
    for row in range(60):
        image = np.clip(scene(row % 12) + rng.normal(0, 14, (120, 160, 3)), 0, 255)
        cv2.imwrite(str(tmp_path / "x.png"), image.astype(np.uint8))
        looks.append(look_at(tmp_path / "x.png"))
    groups = [str(row) for row in range(60)]
    expected = {
        (i, j)
        for i in range(60)
        for j in range(i + 1, 60)
        if np.sqrt(np.mean((looks[i].thumb - looks[j].thumb) ** 2)) <= 3.0
    }
    assert len(expected) > 50
    monkeypatch.setattr("trainer.data.annotations.integrity._BLOCK", 7)
    found = [pair[:2] for pair in near_duplicates(looks, groups)]
    assert sorted(found) == sorted(expected)

"""A declared size that is not the image's own puts every box in a wrong place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from trainer.data.annotations import read_frames
from trainer.data.annotations.check import check


def coco(image: Path, width: int, height: int) -> Path:
    content = {
        "images": [{"id": 1, "file_name": image.name, "width": width, "height": height}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}],
        "categories": [{"id": 1, "name": "pig"}],
    }
    path = image.with_name("annotations.json")
    path.write_text(json.dumps(content))
    return path


def turned(path: Path, orientation: int) -> Path:
    """Writes a picture that lies 40x20 in its file, and an EXIF orientation."""
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    PIL.Image.new("RGB", (40, 20), (90, 60, 30)).save(path, exif=exif)
    return path


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp"])
def test_half_the_size_is_refused(tmp_path: Path, picture: Any, refused: Any, suffix: str) -> None:
    image = picture(tmp_path / f"a_1.{suffix}")
    assert len(read_frames(coco(image, 40, 20))) == 1
    told = refused(coco(image, 20, 10))
    assert told == (
        f"{image}: has 40x20 pixels, declared are 20x10 ({tmp_path / 'annotations.json'})"
    )
    assert [problem.kind for problem in check(tmp_path).problems] == ["size differs from declared"]


def test_what_is_turned_by_its_exif_orientation(tmp_path: Path, refused: Any) -> None:
    image = turned(tmp_path / "a_1.jpg", 6)
    assert len(read_frames(coco(image, 20, 40))) == 1
    told = refused(coco(image, 40, 20))
    assert "has 20x40 pixels, declared are 40x20" in told
    assert told.endswith("; its EXIF orientation turns it, annotate it upright")
    assert len(read_frames(coco(turned(image, 3), 40, 20))) == 1


def test_what_is_no_image_is_told_where_a_size_is_declared(tmp_path: Path, refused: Any) -> None:
    (tmp_path / "a_1.jpg").write_bytes(b"no picture")
    assert "a_1.jpg: not an image that can be read" in refused(coco(tmp_path / "a_1.jpg", 40, 20))

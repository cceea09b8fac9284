from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.errors import DataError
from trainer.data.frames import load_frames, load_frames_and_boxes, read_coco


def document() -> dict[str, Any]:
    """Two frames of 40x20 pixels; the second one is empty and names no session."""
    return {
        "info": {"passed": "over"},
        "images": [
            {"id": 7, "file_name": "a/cam1_0001.png", "width": 40, "height": 20, "session": "s1"},
            {"id": 9, "file_name": "a/cam2-day_0005.png", "width": 40, "height": 20},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 5, "bbox": [4, 2, 10, 8], "iscrowd": 0},
            {
                "id": 2,
                "image_id": 7,
                "category_id": 2,
                "bbox": [30.5, 12, 10, 8.5],
                "animal_id": "x",
            },
        ],
        "categories": [{"id": 5, "name": "pig"}, {"id": 2, "name": "person"}],
    }


def written(folder: Path, content: dict[str, Any] | str) -> Path:
    (folder / "a").mkdir(exist_ok=True)
    for name in ("cam1_0001", "cam2-day_0005"):
        image = np.full((20, 40, 3), 90, np.uint8)
        image[2:10, 4:14] = (0, 0, 255)
        cv2.imwrite(str(folder / f"a/{name}.png"), image)
    path = folder / "annotations.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_boxes_become_corners_and_are_cut_to_the_frame(tmp_path: Path) -> None:
    frames = read_coco(written(tmp_path, document()))
    assert len(frames) == 2
    assert frames.class_names == ("pig", "person")
    assert frames.sessions == ("s1", "cam2-day")
    assert frames.paths[0] == tmp_path / "a/cam1_0001.png"
    # The second box reaches half a pixel over two edges: rounding, and cut away.
    np.testing.assert_array_equal(frames.boxes[0], [[4, 2, 14, 10], [30.5, 12, 40, 20]])
    np.testing.assert_array_equal(frames.classes[0], [0, 1])
    assert frames.boxes[1].shape == (0, 4)
    assert frames.boxes[0].dtype == np.float32
    assert frames.classes[1].dtype == np.int32


def test_images_may_lie_elsewhere(tmp_path: Path) -> None:
    written(tmp_path, document())
    elsewhere = tmp_path / "b"
    elsewhere.mkdir()
    path = elsewhere / "annotations.json"
    path.write_text(json.dumps(document()))
    assert read_coco(path, tmp_path).paths[0] == tmp_path / "a/cam1_0001.png"


def test_select_by_mask_and_by_index(tmp_path: Path) -> None:
    frames = read_coco(written(tmp_path, document()))
    assert frames.select(np.array([False, True])).sessions == ("cam2-day",)
    assert frames.select([1, 0]).sessions == ("cam2-day", "s1")
    assert len(frames.select([])) == 0
    with pytest.raises(ValueError, match=r"mask must be \(2,\)"):
        frames.select(np.array([True]))


def test_frames_are_letterboxed_with_their_boxes(tmp_path: Path) -> None:
    frames = read_coco(written(tmp_path, document()))
    seen: list[tuple[int, int]] = []
    images, boxes = load_frames_and_boxes(
        frames, (40, 40), (1, 2, 3), lambda done, total, note="": seen.append((done, total))
    )
    assert images.shape == (2, 40, 40, 3)
    np.testing.assert_array_equal(images[0, 0, 0], [1, 2, 3])
    # 40x20 fits without scaling and lies 10 pixels down; red stays RGB.
    np.testing.assert_array_equal(boxes[0][0], [4, 12, 14, 20])
    np.testing.assert_array_equal(images[0, 15, 8], [255, 0, 0])
    np.testing.assert_array_equal(load_frames(frames, (40, 40), (1, 2, 3)), images)
    assert seen[-1] == (2, 2)


def changed(**replaced: Any) -> dict[str, Any]:
    """The document with fields of its first annotation, or whole lists, replaced."""
    content = document()
    for name, value in replaced.items():
        if name in content:
            content[name] = value
        else:
            content["annotations"][0][name] = value
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not COCO annotations"),
        ("[]", "not COCO annotations: Expected `object`"),
        ({"images": []}, "not COCO annotations: .*annotations"),
        (changed(images=[]), "lists no images"),
        (changed(categories=[]), "lists no categories"),
        (changed(categories=[{"id": 5, "name": "a"}] * 2), "category ids are not unique"),
        (
            changed(categories=[{"id": 5, "name": "a"}, {"id": 2, "name": "a"}]),
            "category names are not unique",
        ),
        (changed(images=document()["images"][:1] * 2), "image ids are not unique"),
        (changed(image_id=8), "annotation 1: no image has the id 8"),
        (changed(category_id=1), "annotation 1: no category 1; there are 2, 5"),
        (changed(iscrowd=1), "annotation 1: marks a crowd"),
        (changed(bbox=[4, 2, 0, 8]), r"annotation 1: box \[4, 2, 0, 8\] has no area"),
        (changed(bbox=[4, 2, 5, -8]), "has no area"),
        (changed(bbox=[35, 2, 10, 8]), r"reaches outside a/cam1_0001.png \(40x20 pixels\)"),
        (changed(bbox=[-3, 2, 10, 8]), "reaches outside"),
        (changed(bbox=[4, 2, 10]), "not COCO annotations"),
        (changed(bbox="all"), "not COCO annotations"),
        (
            changed(images=[{"id": 7, "file_name": "c.png", "width": 40, "height": 20}]),
            "image 'c.png' is not in",
        ),
    ],
)
def test_what_is_wrong_is_named_in_one_line(
    tmp_path: Path, content: dict[str, Any] | str, message: str
) -> None:
    path = written(tmp_path, content)
    with pytest.raises(DataError, match=message) as caught:
        read_coco(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.json: no such file"):
        read_coco(tmp_path / "none.json")


def test_an_image_smaller_than_its_boxes_or_broken_is_named(tmp_path: Path) -> None:
    frames = read_coco(written(tmp_path, document()))
    cv2.imwrite(str(frames.paths[0]), np.zeros((10, 20, 3), np.uint8))
    with pytest.raises(DataError, match=r"cam1_0001.png: has 20x10 pixels and boxes outside"):
        load_frames(frames, (32, 32))
    frames.paths[0].write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"cam1_0001.png: not an image"):
        load_frames(frames, (32, 32))

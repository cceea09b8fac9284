"""COCO, as https://cocodataset.org/#format-data describes it: boxes are x, y, width, height."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.errors import DataError
from trainer.data.annotations import read_coco
from trainer.data.annotations.coco import read


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


def changed(**replaced: Any) -> dict[str, Any]:
    """The document with fields of its first annotation, or whole lists, replaced."""
    content = document()
    for name, value in replaced.items():
        if name in content:
            content[name] = value
        else:
            content["annotations"][0][name] = value
    return content


@pytest.fixture
def written(tmp_path: Path, picture: Any) -> Any:
    def write(content: dict[str, Any] | str | bytes) -> Path:
        for name in ("cam1_0001", "cam2-day_0005"):
            picture(tmp_path / f"a/{name}.png")
        path = tmp_path / "annotations.json"
        if isinstance(content, dict):
            content = json.dumps(content)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def test_boxes_become_corners_and_are_cut_to_the_frame(written: Any, tmp_path: Path) -> None:
    frames = read_coco(written(document()))
    assert len(frames) == 2
    assert frames.class_names == ("pig", "person")
    assert frames.sessions == ("s1", "cam2-day")
    assert frames.paths[0] == tmp_path / "a/cam1_0001.png"
    # The second box reaches half a pixel over two edges: rounding, and cut away.
    np.testing.assert_array_equal(frames.boxes[0], [[4, 2, 14, 10], [30.5, 12, 40, 20]])
    np.testing.assert_array_equal(frames.classes[0], [0, 1])
    assert frames.animals == ((None, "x"), ())
    assert frames.boxes[1].shape == (0, 4)
    assert frames.boxes[0].dtype == np.float32
    assert frames.classes[1].dtype == np.int32


@pytest.mark.parametrize(
    ("fields", "animal"),
    [
        ({"animal_id": 17}, "17"),
        ({"animal": "cow 4"}, "cow 4"),
        ({"attributes": {"animal": "b", "occluded": False}}, "b"),
        ({"attributes": {"animal_id": 3}}, "3"),
        ({"animal_id": "  "}, None),
        ({"attributes": {"animal": True}}, None),
        ({"attributes": []}, None),
        ({"track_id": 5}, None),
        ({"animal_id": 7.0}, "7"),
        ({"attributes": {"animal": 8.0}}, "8"),
        ({"animal_id": 9007199254740993}, "9007199254740993"),
    ],
)
def test_an_animal_is_found_where_tools_put_it(
    written: Any, fields: dict[str, Any], animal: str | None
) -> None:
    assert read_coco(written(changed(**fields))).animals[0][0] == animal


def test_what_is_clear_is_read(written: Any, tmp_path: Path) -> None:
    images = [{"id": 7, "file_name": "a\\cam1_0001.png", "width": 40.0, "height": 20.0}]
    text = json.dumps(changed(images=images, iscrowd=False))
    frames = read_coco(written(b"\xef\xbb\xbf" + text.encode()))
    assert frames.paths == (tmp_path / "a" / "cam1_0001.png",)
    assert len(frames.boxes[0]) == 2


def test_a_backslash_may_be_part_of_a_name(written: Any, tmp_path: Path, picture: Any) -> None:
    picture(tmp_path / "b\\c_1.png")
    frames = read_coco(written(changed(images=[{"id": 7, "file_name": "b\\c_1.png"}])))
    assert frames.paths == (tmp_path / "b\\c_1.png",)


def test_ids_of_two_annotations_are_a_warning(written: Any) -> None:
    content = document()
    content["annotations"][1]["id"] = 1
    raw = read(written(content))
    (problem,) = raw.problems
    assert (problem.kind, problem.severity) == ("annotation id", "warning")
    assert "annotation 1: its id is another annotation's as well" in str(problem)
    assert len(raw.frames[0].boxes) == 2
    # Without ids there are none to be the same.
    for annotation in content["annotations"]:
        del annotation["id"]
    assert read(written(content)).problems == ()


def test_images_may_lie_elsewhere(written: Any, tmp_path: Path) -> None:
    written(document())
    elsewhere = tmp_path / "b"
    elsewhere.mkdir()
    path = elsewhere / "annotations.json"
    path.write_text(json.dumps(document()))
    assert read_coco(path, tmp_path).paths[0] == tmp_path / "a/cam1_0001.png"


def test_without_a_declared_size_the_image_is_measured(written: Any) -> None:
    images = [{"id": 7, "file_name": "a/cam1_0001.png", "width": 0, "height": 0}]
    content = changed(images=images, bbox=[35, 2, 6.5, 8])
    with pytest.raises(DataError, match=r"reaches outside a/cam1_0001.png \(40x20 pixels\)"):
        read_coco(written(content))


def image(**fields: Any) -> dict[str, Any]:
    return changed(images=[{"id": 7, "file_name": "a/cam1_0001.png"} | fields])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not COCO annotations"),
        ("{", "not COCO annotations"),
        (json.dumps(document())[:-40], "not COCO annotations: Input data was truncated"),
        (b"\x89PNG\r\n\x1a\n\x00\xff", "not COCO annotations"),
        (b'{"images": [{"id": 1, "file_name": "\xff"}]}', "not COCO annotations"),
        ("[" * 100_000, "not COCO annotations"),
        ('{"x":' * 100_000, "not COCO annotations"),
        ("[]", "not COCO annotations: Expected `object`"),
        ({"images": []}, "not COCO annotations: .*annotations"),
        (changed(images=[]), "lists no images"),
        (changed(categories=[]), "lists no categories"),
        (changed(categories=[{"id": 5, "name": "a"}] * 2), "category ids are not unique"),
        (
            changed(categories=[{"id": 5, "name": "a"}, {"id": 2, "name": "a"}]),
            "category names are not unique",
        ),
        (changed(categories=[{"id": 5, "name": " "}, {"id": 2, "name": "a"}]), "has no name"),
        (changed(images=document()["images"][:1] * 2), "image ids are not unique"),
        (changed(image_id=8), "annotation 1: no image has the id 8"),
        (changed(image_id="7"), r"not COCO annotations: Expected `int`, got `str`.*image_id"),
        (changed(id=[1]), "not COCO annotations: Expected `int | str`"),
        (changed(category_id=1), "annotation 1: no category 1; there are 2, 5"),
        (changed(iscrowd=1), "annotation 1: marks a crowd"),
        (changed(iscrowd=True), "annotation 1: marks a crowd"),
        (changed(animal_id=7.5), "annotation 1: its animal_id is 7.5; write a whole number"),
        (image(width=40.5, height=20), "image 7: its size is 40.5 x 20, not whole numbers"),
        (changed(animal_id=[1]), "not COCO annotations.*animal_id"),
        (changed(bbox=[4, 2, 0, 8]), r"annotation 1: box \[4, 2, 0, 8\] has no area"),
        (changed(bbox=[4, 2, 5, -8]), "has no area"),
        (changed(bbox=[40.2, 2, 0.5, 8]), "has no area inside a/cam1_0001.png"),
        (changed(bbox=[35, 2, 10, 8]), r"reaches outside a/cam1_0001.png \(40x20 pixels\)"),
        (changed(bbox=[-3, 2, 10, 8]), "reaches outside"),
        (changed(bbox=[4, -3, 10, 8]), "reaches outside"),
        (changed(bbox=[4, 15, 10, 8]), "reaches outside"),
        (changed(bbox=[4, 2, 1e300, 8]), r"box \[4, 2, 1e\+300, 8\] reaches outside"),
        (changed(bbox=[1e308, 2, 1.7e308, 8]), "annotation 1: .*not finite"),
        (changed(bbox=[float("nan"), 2, 5, 8]), "not COCO annotations"),
        (json.dumps(document()).replace("[4, 2,", "[1e999, 2,"), "not COCO annotations"),
        (json.dumps(document()).replace("[4, 2,", f"[1{'0' * 400}, 2,"), "not COCO annotations"),
        (changed(bbox=[4, 2, 10]), "not COCO annotations"),
        (changed(bbox="all"), "not COCO annotations"),
        (image(file_name="c.png"), "image 'c.png' is not in"),
        (image(file_name="n\0l.png"), "leads out of"),
        (image(file_name="x" * 5000), "is not in"),
        (image(file_name="../c.png"), "image '../c.png' leads out of"),
        (image(file_name="/etc/hostname"), "image '/etc/hostname' leads out of .*--images"),
        (
            changed(
                images=[
                    {"id": 7, "file_name": "a/cam1_0001.png"},
                    {"id": 8, "file_name": "a/cam1_0001.png"},
                ]
            ),
            "image 'a/cam1_0001.png' is listed already",
        ),
    ],
)
def test_what_is_wrong_is_named_in_one_line(
    written: Any, content: dict[str, Any] | str | bytes, message: str
) -> None:
    path = written(content)
    with pytest.raises(DataError, match=message) as caught:
        read_coco(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_names_that_lead_back_into_the_folder_are_meant(written: Any, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    inside = image(file_name=str(tmp_path / "b" / ".." / "a" / "cam1_0001.png"))
    assert len(read_coco(written(inside))) == 1


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.json: no such file"):
        read_coco(tmp_path / "none.json")
    with pytest.raises(DataError, match="is a folder"):
        read_coco(tmp_path)

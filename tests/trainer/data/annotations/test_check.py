"""Everything that is wrong is named, errors apart from warnings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from trainer.data.annotations.check import Checked, check
from trainer.data.annotations.formats import FORMATS


@pytest.fixture
def pens(tmp_path: Path, picture: Any) -> Any:
    """Writes a COCO file of frames `<name>: boxes` and returns what is found in it."""

    def write(frames: dict[str, list[Any]], **fields: Any) -> Checked:
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for row, (name, boxes) in enumerate(frames.items()):
            if ".." not in name and not (tmp_path / name).exists():
                picture(tmp_path / name, seed=row)
            images.append({"id": row, "file_name": name, "width": 40, "height": 20})
            for box, *animal in boxes:
                entry = {"image_id": row, "category_id": 1, "bbox": box, "id": len(annotations)}
                annotations.append(entry | ({"animal_id": animal[0]} if animal else {}))
        content = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": 1, "name": "pig"}],
        }
        path = tmp_path / "annotations.json"
        path.write_text(json.dumps(content | fields))
        return check(path)

    return write


def kinds(checked: Checked) -> list[tuple[str, str]]:
    return sorted((problem.severity, problem.kind) for problem in checked.problems)


def test_nothing_is_wrong(pens: Any) -> None:
    checked = pens({"a_1.png": [([1, 1, 5, 5], "cow-1")], "b_1.png": [([1, 1, 5, 5], "cow-2")]})
    assert checked.problems == ()
    assert (checked.frames, checked.boxes, checked.sessions, checked.animals) == (2, 2, 2, 2)
    assert checked.classes == {"pig": 2}


def test_all_that_is_wrong_is_told_at_once(pens: Any, tmp_path: Path, picture: Any) -> None:
    picture(tmp_path / "size_1.png", 41, 20)
    (tmp_path / "empty_1.png").touch()
    (tmp_path / "broken_1.png").write_bytes(b"no picture")
    whole = picture(tmp_path / "cut_1.jpg", 40, 20).read_bytes()
    (tmp_path / "cut_1.jpg").write_bytes(whole[:-30])
    checked = pens(
        {
            "size_1.png": [([1, 1, 5, 5],)],
            "empty_1.png": [([1, 1, 5, 5],)],
            "broken_1.png": [([1, 1, 5, 5],)],
            "cut_1.jpg": [([1, 1, 5, 5],)],
            "wrong_1.png": [([1, 1, 50, 5],), ([1, 1, 0, 5],), ([1, 1, 1e308, 5],)],
            "sub/../../a.png": [],
        },
    )
    assert [kind for severity, kind in kinds(checked) if severity == "error"] == [
        "box outside its image",
        "box outside its image",
        "box without area",
        "broken image",
        "broken image",
        "image outside its folder",
        "size differs from declared",
        "truncated image",
    ]
    told = {problem.kind: str(problem) for problem in checked.problems}
    assert "annotation 5: box [1, 1, 0, 5] has no area" in told["box without area"]
    assert "has 41x20 pixels, declared are 40x20" in told["size differs from declared"]
    assert any("is empty (0 bytes)" in str(problem) for problem in checked.problems)
    assert checked.count("error") == 8


def test_a_missing_image(pens: Any, tmp_path: Path) -> None:
    pens({"a_1.png": [([1, 1, 5, 5],)]})
    (tmp_path / "a_1.png").unlink()
    checked = check(tmp_path / "annotations.json")
    assert kinds(checked)[0] == ("error", "missing image")


def test_what_is_odd_is_a_warning(pens: Any, tmp_path: Path, picture: Any) -> None:
    scene = cv2.resize(
        np.random.default_rng(5).integers(0, 255, (5, 10, 3)).astype(np.uint8), (160, 80)
    )
    cv2.imwrite(str(tmp_path / "near_1.png"), scene[::4, ::4])
    cv2.imwrite(str(tmp_path / "near2_1.png"), np.maximum(scene[::4, ::4], 1) - 1)
    cv2.imwrite(str(tmp_path / "dark_1.png"), np.zeros((20, 40, 3), np.uint8))
    picture(tmp_path / "a_1.png", seed=7)
    picture(tmp_path / "same_1.png", seed=7)
    picture(tmp_path / "nobody_1.png", seed=8)
    checked = pens(
        {
            "a_1.png": [([1, 1, 9, 9], "x"), ([1, 1, 9, 9.1], "x")],
            "same_1.png": [([1, 1, 9, 9],)],
            "near_1.png": [([1, 1, 9, 9], "X")],
            "near2_1.png": [],
            "dark_1.png": [([1, 1, 9, 9], "Cow 4")],
        },
        categories=[
            {"id": 1, "name": "pig"},
            {"id": 2, "name": "Pig"},
        ],
    )
    assert checked.count("error") == 0
    assert kinds(checked) == [
        ("warning", "animal id"),
        ("warning", "animal id"),
        ("warning", "animal id"),
        ("warning", "animal id"),
        ("warning", "animal id"),
        ("warning", "animal id"),
        ("warning", "class never used"),
        ("warning", "classes"),
        ("warning", "duplicate box"),
        ("warning", "duplicate image"),
        ("warning", "empty image"),
        ("warning", "frame without boxes"),
        ("warning", "image without annotations"),
        ("warning", "near-duplicate image"),
    ]
    ids = [str(problem) for problem in checked.problems if problem.kind == "animal id"]
    assert ids[0] == "all frames: 1 of 5 boxes have no animal's id"
    assert ids[1].endswith("a_1.png: shows animal 'x' 2 times")
    assert ids[2].startswith("animal 'x': differs from 'X' only in case")
    assert all("devices will refuse it" in text for text in ids[3:])


def test_labels_and_images_that_miss_each_other(tmp_path: Path, picture: Any) -> None:
    picture(tmp_path / "images" / "a.png")
    picture(tmp_path / "images" / "b.png", seed=1)
    (tmp_path / "labels").mkdir()
    for name in ("a", "c", "classes"):
        (tmp_path / "labels" / f"{name}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "data.yaml").write_text("train: images\nnames: [pig]\n")
    checked = check(tmp_path)
    assert kinds(checked) == [
        ("warning", "frame without boxes"),
        ("warning", "image without annotations"),
        ("warning", "unknown image"),
    ]
    assert any("c.txt: labels an image" in str(problem) for problem in checked.problems)


def test_one_broken_file_does_not_hide_the_next(tmp_path: Path, picture: Any) -> None:
    for name in "abc":
        picture(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.xml").write_text("<annotation>")
    (tmp_path / "c.xml").write_text("<annotation><object><name>pig</name></object></annotation>")
    broken = [
        problem.where for problem in check(tmp_path).problems if problem.kind == "broken file"
    ]
    assert broken == [
        str(tmp_path / "a.xml"),
        str(tmp_path / "b.xml"),
        f"{tmp_path / 'c.xml'}: object 1",
    ]


@pytest.mark.parametrize("format", FORMATS)
def test_garbage_is_one_problem(tmp_path: Path, format: Any) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"\x00\xff" * 100)
    (problem,) = check(path, format).problems
    assert (problem.kind, problem.severity) == ("broken file", "error")
    assert str(problem).startswith(str(path))

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.identity.means import OUTLIERS, ClassMeans, MeansHeader
from trainer.evaluate.answers import AnsweredCrops
from trainer.evaluate.explore import map_page, script_json
from trainer.evaluate.marks import COLOURS, SHAPES, mark
from trainer.evaluate.projection import Projection

EVIL = "</script><script>alert(1)</script>"


def page(animals: tuple[str, ...] = ("a", "b", "x")) -> str:
    count = len(animals)
    crops = AnsweredCrops(
        tuple(Path(f"{row}/t1_00{row}.jpg") for row in range(count)),
        animals,
        ("t1",) * count,
        ("gallery", "query", "unknown"),
        np.zeros((count, 2), np.float32),
        ("b", "a", "unknown"),
        ("b", "a", "b"),
        np.array([0.1, 0.23456, 0.5], np.float32),
        np.array([0.1, np.inf, 0.2], np.float32),
        ("wrong", "wrong", "right"),
    )
    means = ClassMeans(
        animals[:2],
        np.eye(3, 2, dtype=np.float32) + np.array([[0, 0], [0, 0], [1, 0]], np.float32),
        np.array([0, 1, OUTLIERS], np.int32),
        np.zeros((2, 2)),
        np.zeros(2, np.int64),
        np.ones(2, np.float32),
        0.0,
        MeansHeader(),
    )
    places = Projection(
        np.array([[0, 0], [1, 2], [3, 4.00001]]),
        np.array([[0, 1], [2, 3], [4, 5]]),
        "pca",
        ("", ""),
    )
    tiles = np.full((count, 64, 64, 3), 90, np.uint8)
    return map_page(f"herd {EVIL}", crops, places, tiles, means, total=7)


def data_of(text: str) -> dict[str, Any]:
    found = re.search(r"const MAP = (.*);</script>", text)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_the_page_holds_every_crop_and_every_class_mean() -> None:
    data = data_of(page())
    points = data["points"]
    assert {len(column) for column in points.values()} == {3}
    assert points["x"] == [0, 1, 3]
    assert points["y"] == [0, 2, 4]
    assert points["animal"] == [0, 1, 2]
    assert points["frame"] == ["000", "001", "002"]
    assert points["distance"] == [0.1, 0.2346, 0.5]
    # A herd of one has no second animal: an infinite margin is no JSON.
    assert points["margin"] == [0.1, None, 0.2]
    assert [row["animal"] for row in data["prototypes"]] == [0, 1, None]
    assert data["splits"] == ["gallery", "query", "unknown"]
    animals = data["animals"]
    assert [row["name"] for row in animals] == ["a", "b", "x"]
    assert [row["stranger"] for row in animals] == [False, False, True]
    # What the gallery gets wrong was never asked.
    assert [row["wrong"] for row in animals] == [0, 1, 0]
    assert data["sprite"].startswith("data:image/jpeg;base64,/9j/")
    assert data["columns"] == 2


def test_the_page_fetches_nothing_and_says_what_it_shows() -> None:
    text = page()
    assert not re.search(r"https?://|src=|<link|@import|url\(", text)
    assert "default-src 'none'" in text
    assert "3 of 7 crops, drawn at random" in text
    assert "PCA" in text


def test_names_from_outside_cannot_leave_the_data() -> None:
    text = page((EVIL, "b\u2028&", "x"))
    assert text.count("<script>") == text.count("</script>") == 2
    assert [row["name"] for row in data_of(text)["animals"]][:2] == [EVIL, "b\u2028&"]
    assert not set("<>&\u2028") & set(script_json({"name": "<a>&\u2028"}))


def test_animals_have_marks_of_their_own() -> None:
    count = len(COLOURS) * len(SHAPES)
    assert len({mark(index) for index in range(count)}) == count >= 38
    assert mark(count) == mark(0)


def test_the_script_draws_every_shape_and_uses_no_markup() -> None:
    script = Path(str(map_page.__code__.co_filename)).with_name("explore.js").read_text()
    for shape in SHAPES:
        assert re.search(rf'"{shape}"|\b{shape}:', script)
    for risky in ("innerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert risky not in script


@pytest.mark.slow
def test_the_script_is_javascript(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    scripts = re.findall(r"<script>(.*?)</script>", page(), re.DOTALL)
    (tmp_path / "page.js").write_text("\n".join(scripts))
    subprocess.run([node, "--check", str(tmp_path / "page.js")], check=True)

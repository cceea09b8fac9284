"""The clip's truth: reading it, and asking it whom a box shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.demo.truth import Truth, TruthIndex, load_truth
from edge.errors import UsageError

RAW: dict[str, Any] = {
    "schema": 1,
    "video": "pen.mp4",
    "camera": "pen",
    "fps": 12.0,
    "width": 200,
    "height": 100,
    "animals": ["pig01", "pig02"],
    "boxes": [[0, 0, 20, 10, 60, 50, 100], [0, 1, 50, 10, 90, 50, 80], [1, 1, 60, 10, 100, 50, 80]],
}


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "truth.json"
    path.write_text(json.dumps(RAW | changes))
    return path


def index() -> TruthIndex:
    return TruthIndex(Truth(**RAW))


def test_a_truth_is_read(tmp_path: Path) -> None:
    truth = load_truth(written(tmp_path))
    assert (truth.video, truth.camera, truth.fps) == ("pen.mp4", "pen", 12.0)
    assert truth.boxes[1] == (0, 1, 50, 10, 90, 50, 80)


@pytest.mark.parametrize(
    ("frame", "pixels", "animal"),
    [
        (0, (20, 10, 60, 50), "pig01"),
        (0, (50, 10, 90, 50), "pig02"),
        # Both overlap: the better one.
        (0, (30, 10, 70, 50), "pig01"),
        (0, (42, 10, 82, 50), "pig02"),
        # IoU 1/3 is enough, 1/4 is not.
        (1, (80, 10, 120, 50), "pig02"),
        (1, (84, 10, 124, 50), None),
        (1, (20, 10, 60, 50), None),
        (2, (20, 10, 60, 50), None),
        (0, (30, 30, 30, 30), None),
    ],
)
def test_whom_a_box_shows(
    frame: int, pixels: tuple[int, int, int, int], animal: str | None
) -> None:
    x1, y1, x2, y2 = pixels
    assert index().animal_at(frame, (x1 / 200, y1 / 100, x2 / 200, y2 / 100)) == animal


@given(
    boxes=st.lists(
        st.tuples(*[st.integers(0, 80)] * 2, *[st.integers(10, 20)] * 2), min_size=1, max_size=6
    )
)
def test_a_true_box_shows_its_animal_or_one_at_the_same_place(
    boxes: list[tuple[int, int, int, int]],
) -> None:
    animals = [f"pig{number:02}" for number in range(len(boxes))]
    rows = [(0, i, x, y, x + w, y + h, 100) for i, (x, y, w, h) in enumerate(boxes)]
    truth = Truth(**(RAW | {"animals": animals, "boxes": rows, "width": 100, "height": 100}))
    asked = TruthIndex(truth)
    for row in rows:
        x1, y1, x2, y2 = (value / 100 for value in row[2:6])
        name = asked.animal_at(0, (x1, y1, x2, y2))
        assert name is not None
        assert rows[animals.index(name)][2:6] == row[2:6]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": 2}, "schema 2"),
        ({"fps": 0}, "fps"),
        ({"width": 0}, "width"),
        ({"boxes": [[0, 2, 0, 0, 9, 9, 100]]}, "outside the list of animals"),
        ({"boxes": [[0, 0, -1, 0, 9, 9, 100]]}, "boxes"),
        ({"boxes": [[0, 0, 0, 0, 9, 9]]}, "boxes"),
        ({"boxes": [[0, 0, 0.5, 0, 9, 9, 100]]}, "boxes"),
        ({"frames": 3}, "frames"),
    ],
)
def test_what_is_no_truth_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    path = written(tmp_path, **changes)
    with pytest.raises(UsageError, match=words) as caught:
        load_truth(path)
    assert str(caught.value).startswith(f"{path}: not a clip's truth")


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xff", b"[]"])
def test_bytes_that_are_no_truth(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "truth.json"
    path.write_bytes(data)
    with pytest.raises(UsageError, match="not a clip's truth"):
        load_truth(path)


def test_a_truth_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"truth\.json: no such file"):
        load_truth(tmp_path / "truth.json")

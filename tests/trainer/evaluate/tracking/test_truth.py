"""truth.json and MOTChallenge's gt.txt: what is read, and one clear line for what cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge.errors import DataError, UsageError
from trainer.evaluate.tracking import TrueBox
from trainer.evaluate.tracking.truth import read_truth


def write_gt(folder: Path, text: str, names: str | None = "id,name\n1,cow001\n7,cow007\n") -> Path:
    path = folder / "gt.txt"
    path.write_text(text)
    if names is not None:
        (folder / "names.csv").write_text(names)
    return path


def test_truth_json(tmp_path: Path) -> None:
    path = tmp_path / "truth.json"
    truth = {
        "schema": 1, "video": "pen.mp4", "camera": "pen", "fps": 12.0, "width": 64, "height": 48,
        "animals": ["a", "b"], "boxes": [[0, 1, 1, 2, 11, 12, 100], [3, 0, 5, 6, 15, 16, 19]],
    }  # fmt: skip
    path.write_text(json.dumps(truth))
    read = read_truth(path)
    assert (read.fps, read.size) == (12.0, (64, 48))
    # Of the second a fifth is not to be seen.
    assert read.boxes == [
        TrueBox(0, "b", (1, 2, 11, 12)),
        TrueBox(3, "a", (5, 6, 15, 16), ignored=True),
    ]
    with pytest.raises(UsageError, match="--names goes with"):
        read_truth(path, tmp_path / "names.csv")


def test_mot_challenge(tmp_path: Path) -> None:
    lines = "1,1,10,20,30,40,1,1,0.9\n\n2, 7, 0, 0, 5, 5, 1, 1, 0.1\n2,1,10,20,30,40,0,1,1\n"
    read = read_truth(write_gt(tmp_path, lines))
    assert (read.fps, read.size) == (None, None)
    # Frames count from 0 here; hardly seen, and flagged with 0, are both not asked for.
    assert read.boxes == [
        TrueBox(0, "cow001", (10, 20, 40, 60)),
        TrueBox(1, "cow007", (0, 0, 5, 5), ignored=True),
        TrueBox(1, "cow001", (10, 20, 40, 60), ignored=True),
    ]


def test_what_comes_after_the_box_may_be_missing(tmp_path: Path) -> None:
    path = write_gt(tmp_path, "1,7,10,20,30,40\n", None)
    names = tmp_path / "herd.csv"
    names.write_text("7,cow007\n")
    assert read_truth(path, names).boxes == [TrueBox(0, "cow007", (10, 20, 40, 60))]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("1,1,10,20,30", "gt.txt:1: expected frame, id"),
        ("1,1,10,20,30,forty", "gt.txt:1: expected frame, id"),
        ("0,1,10,20,30,40", "gt.txt:1: frames count from 1"),
        ("1,1,10,20,0,40", "gt.txt:1: a box of 0 x 40 pixels"),
        ("1,1,nan,20,30,40", "gt.txt:1: a box of"),
        ("1,1,10,20,30,40\n1,9,1,2,3,4", "gt.txt:2: the names have no animal of id '9'"),
    ],
)
def test_a_wrong_line_is_told_with_its_number(tmp_path: Path, line: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        read_truth(write_gt(tmp_path, line))


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ("1\n", "names.csv:1: expected `id,name`"),
        ("1,\n", "names.csv:1: expected `id,name`"),
        ("1,a\n1,b\n", "names.csv:2: '1,b' names an id or animal twice"),
        ("1,a\n2,a\n", "names.csv:2: '2,a' names an id or animal twice"),
    ],
)
def test_wrong_names_are_told_with_their_line(tmp_path: Path, names: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        read_truth(write_gt(tmp_path, "1,1,10,20,30,40", names))


def test_files_that_are_missing_or_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"names.csv: no such file; gt.txt has numbers only"):
        read_truth(write_gt(tmp_path, "1,1,10,20,30,40", None))
    with pytest.raises(UsageError, match=r"lost.txt: no such file"):
        read_truth(tmp_path / "lost.txt")
    with pytest.raises(UsageError, match=r"lost.json: no such file"):
        read_truth(tmp_path / "lost.json")
    with pytest.raises(UsageError, match="is neither a"):
        read_truth(tmp_path / "truth.xml")
    binary = tmp_path / "gt.txt"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="cannot be read as text"):
        read_truth(binary)

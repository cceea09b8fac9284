from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import UsageError
from trainer.export.labels import fit_labels, parse_labels, read_labels


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("cow\ncalf\n", ["cow", "calf"]),
        ("  cow  \n\n brown bear\r\n", ["cow", "brown bear"]),
        # As Google's coco_labels.txt: numbers with gaps, two blanks.
        ("0  person\n1  bicycle\n3  car\n", ["person", "bicycle", "???", "car"]),
        ("2:cow\n0:pig", ["pig", "???", "cow"]),
        # As TensorFlow's label maps: the background has a line.
        ("???\nperson\n???\ncar", ["???", "person", "???", "car"]),
        ("7up", ["7up"]),
    ],
)
def test_lines_are_names_or_numbers_and_names(text: str, names: list[str]) -> None:
    assert parse_labels(text, "f") == names


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no class names"),
        ("\n \n", "no class names"),
        ("0 cow\ncalf\n", "line 2: 'calf' has no number"),
        ("0 cow\n\n0 calf\n", "line 3: class number 0 is there twice"),
        ("10000 cow", "line 1: class number 10000 is too large"),
        ("99999999999999999999 cow", "too large"),
        ("item {\n  id: 1\n}", r"\.pbtxt label map"),
    ],
)
def test_other_lines_are_named(text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint) as caught:
        parse_labels(text, "labels.txt")
    assert str(caught.value).startswith("labels.txt: ")


def test_a_file_is_read_and_a_list_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes(b"\xef\xbb\xbfcow\nK\xc3\xbclbl\n")
    assert read_labels(str(tmp_path / "labels.txt")) == ["cow", "Külbl"]
    assert read_labels("cow, brown bear") == ["cow", "brown bear"]
    assert read_labels("pig") == ["pig"]


@pytest.mark.parametrize("text", ["labels.txt", "a/b", "", "cow,,pig", "cow,"])
def test_a_missing_file_is_no_list(text: str) -> None:
    with pytest.raises(UsageError, match="no such label file"):
        read_labels(text)


def test_a_file_of_something_else_is_named(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(UsageError, match=r"labels\.txt: not a text file"):
        read_labels(str(tmp_path / "labels.txt"))
    (tmp_path / "labels.txt").write_bytes(b"a" * ((1 << 20) + 1))
    with pytest.raises(UsageError, match=r"labels\.txt: larger than"):
        read_labels(str(tmp_path / "labels.txt"))


def test_background_is_no_class_of_the_post_process() -> None:
    assert fit_labels(["???", "cow", "pig"], 2, "f") == ["cow", "pig"]
    assert fit_labels(["???", "cow"], 2, "f") == ["???", "cow"]
    with pytest.raises(UsageError, match="f: the detector knows 2 classes, --labels names 3"):
        fit_labels(["bull", "cow", "pig"], 2, "f")
    with pytest.raises(UsageError, match="knows 1 class, --labels names 3"):
        fit_labels(["???", "cow", "pig"], 1, "f")


@given(st.dictionaries(st.integers(0, 300), st.sampled_from(["cow", "brown bear"]), min_size=1))
def test_numbered_names_stand_at_their_numbers(names: dict[int, str]) -> None:
    text = "\n".join(f"{number} {name}" for number, name in names.items())
    read = parse_labels(text, "f")
    assert len(read) == max(names) + 1
    assert {row: name for row, name in enumerate(read) if name != "???"} == names

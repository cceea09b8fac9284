from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edge.errors import DataError
from trainer.labelling.names import check_names, read_names


def names(tmp_path: Path, text: str | bytes) -> dict[str, str]:
    path = tmp_path / "names.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_names(path)


@pytest.mark.parametrize(
    "text",
    [
        "tracklet,animal\npen-0001,cow-1\npen-0002,\npen-0003,!two-animals\n",
        "\ufefftracklet;animal\r\npen-0001;cow-1\r\npen-0003;!two-animals\r\n",
        'note\tanimal\tTracklet\n"a, b"\tcow-1\tpen-0001\n\t!two-animals\tpen-0003\n',
        "tracklet,animal\n\npen-0001, cow-1 \npen-0001,cow-1\n,\npen-0003,!two-animals",
    ],
)
def test_names_are_read_as_spreadsheets_write_them(tmp_path: Path, text: str) -> None:
    assert names(tmp_path, text) == {"pen-0001": "cow-1", "pen-0003": "!two-animals"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "first line must name the columns: tracklet,animal"),
        ("pen-0001,cow-1\n", "first line must name the columns"),
        ("tracklet,animal,animal\na,b,c\n", "first line must name the columns"),
        ("tracklet,animal\npen-0001\n", "line 2: has 1 of 2 cells"),
        ("tracklet,animal\na,x1\nb,x2\na,x3\n", "line 4: tracklet 'a' is 'x3' here and 'x1'"),
        (b"tracklet,animal\na,s\xfcd\n", "not a text file in UTF-8"),
    ],
)
def test_what_is_no_list_of_names(tmp_path: Path, text: str | bytes, told: str) -> None:
    with pytest.raises(DataError, match=told):
        names(tmp_path, text)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: no such file of names"):
        read_names(tmp_path / "none.csv")


def test_marks_are_no_animals(tracklet: Callable, propose: Callable) -> None:
    proposal, _ = propose(tracklet("p1"), tracklet("p2"), tracklet("p3"))
    given = {"p1": "cow-1", "p2": "!not-an-animal", "p3": "!two-animals"}
    assert check_names(proposal, given, "names.csv") == {"p1": "cow-1"}


def test_unknown_tracklets_are_refused(tracklet: Callable, propose: Callable) -> None:
    proposal, _ = propose(tracklet("p1"))
    with pytest.raises(DataError, match=r"names\.csv: names 'p7', which is not in this proposal"):
        check_names(proposal, {"p1": "cow-1", "p7": "cow-1"}, "names.csv")


@pytest.mark.parametrize("animal", ["7", "Bella", "unknown", "cow 1", "!maybe", "kühe"])
def test_names_that_are_no_ids_are_refused(
    tracklet: Callable, propose: Callable, animal: str
) -> None:
    proposal, _ = propose(tracklet("p1"))
    with pytest.raises(DataError, match=r"tracklet 'p1': .*!not-an-animal"):
        check_names(proposal, {"p1": animal}, "names.csv")


def test_one_animal_twice_in_a_picture_is_refused_unless_forced(
    tracklet: Callable, propose: Callable
) -> None:
    proposal, _ = propose(tracklet("p1", together=["p2"]), tracklet("p2", together=["p1"]))
    given = {"p1": "cow-1", "p2": "cow-1"}
    with pytest.raises(DataError, match=r"p1 and p2 are both 'cow-1'.*--force"):
        check_names(proposal, given, "names.csv")
    assert check_names(proposal, given, "names.csv", force=True) == given
    # Two marks of one kind are no animal.
    marks = {"p1": "!two-animals", "p2": "!two-animals"}
    assert check_names(proposal, marks, "names.csv") == {}

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.errors import DataError
from trainer.labelling.tracklets import Suggestion, clashes, load_proposal


def test_a_proposal_reads_back_as_it_was(tracklet: Callable, propose: Callable) -> None:
    suggestion = Suggestion(animal="cow-1", distance=0.25)
    one = tracklet("pen-0001", together=["pen-0002"], suggestion=suggestion)
    two = tracklet("pen-0002", together=["pen-0001"], alike=[("pen-0001", 0.125)])
    proposal, root = propose(one, two)
    assert load_proposal(root) == proposal


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema",), 2),
        (("extra",), 1),
        (("tracklets", 0, "name"), "../../etc"),
        (("tracklets", 0, "name"), ".hidden"),
        (("tracklets", 0, "name"), "pen\n"),
        (("tracklets", 0, "session"), "a/b"),
        (("tracklets", 0, "crops", 0, "file"), "../x.jpg"),
        (("tracklets", 0, "crops", 0, "box"), [1, 2, 3]),
        (("tracklets", 0, "first_frame"), -1),
        (("tracklets", 1, "name"), "pen-0001"),
    ],
)
def test_what_is_no_proposal_is_told_in_a_line(
    tracklet: Callable, propose: Callable, path: tuple[str | int, ...], value: object
) -> None:
    _, root = propose(tracklet("pen-0001"), tracklet("pen-0002"))
    content = json.loads((root / "tracklets.json").read_text())
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (root / "tracklets.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"tracklets\.json: not a list of tracklets") as error:
        load_proposal(root)
    assert "\n" not in str(error.value)


def test_files_that_are_not_there_or_broken(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing; is .* what `crops propose` made"):
        load_proposal(tmp_path)
    (tmp_path / "tracklets.json").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not a list of tracklets"):
        load_proposal(tmp_path)


def test_one_animal_is_not_twice_in_a_picture(tracklet: Callable, propose: Callable) -> None:
    proposal, _ = propose(
        tracklet("p1", together=["p2", "p3"]),
        tracklet("p2", together=["p1"]),
        tracklet("p3", together=["p1"]),
        tracklet("p4"),
    )
    assert clashes(proposal, {"p1": "ann", "p2": "ann", "p4": "ann"}) == [("p1", "p2", "ann")]
    assert clashes(proposal, {"p2": "ann", "p3": "ann"}) == []
    assert clashes(proposal, {"p1": "ann", "p2": "bob"}) == []

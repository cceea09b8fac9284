from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edge.errors import DataError, UsageError
from trainer.data.crops import read_crops
from trainer.labelling.name import Named, name_crops


def content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.jpg")}


def test_crops_lie_by_animal_and_keep_their_session(
    tracklet: Callable, propose: Callable, tmp_path: Path
) -> None:
    proposal, root = propose(tracklet("pen-0001"), tracklet("b-0001", session="b"), tracklet("x"))
    out = tmp_path / "crops"
    named = name_crops(proposal, root, {"pen-0001": "cow-1", "b-0001": "cow-1"}, out)
    assert named == Named(4, 0)
    assert sorted(content(out)) == [
        "cow-1/b_000000.jpg",
        "cow-1/b_000009.jpg",
        "cow-1/pen_000000.jpg",
        "cow-1/pen_000009.jpg",
    ]
    assert set(read_crops(out).sessions) == {"pen", "b"}
    source = proposal.tracklets[0].folder(root) / "pen-0001_000000.jpg"
    assert content(out)["cow-1/pen_000000.jpg"] == source.read_bytes()
    assert not (out / "cow-1" / "pen_000000.jpg").samefile(source)


def test_links(tracklet: Callable, propose: Callable, tmp_path: Path) -> None:
    proposal, root = propose(tracklet("p1"))
    name_crops(proposal, root, {"p1": "cow-1"}, tmp_path / "crops", link=True)
    source = proposal.tracklets[0].folder(root) / "p1_000000.jpg"
    assert (tmp_path / "crops" / "cow-1" / "pen_000000.jpg").samefile(source)


def test_two_forced_tracklets_of_one_moment_both_stay(
    tracklet: Callable, propose: Callable, tmp_path: Path
) -> None:
    proposal, root = propose(tracklet("p1"), tracklet("p2"))
    name_crops(proposal, root, {"p1": "cow-1", "p2": "cow-1"}, tmp_path / "crops")
    assert sorted(content(tmp_path / "crops")) == [
        "cow-1/pen_000000-2.jpg",
        "cow-1/pen_000000.jpg",
        "cow-1/pen_000009-2.jpg",
        "cow-1/pen_000009.jpg",
    ]
    assert set(read_crops(tmp_path / "crops").sessions) == {"pen"}


def test_merge_adds_and_touches_nothing(
    tracklet: Callable, propose: Callable, tmp_path: Path
) -> None:
    proposal, root = propose(tracklet("p1"), tracklet("p2"))
    out = tmp_path / "crops"
    (out / "cow-1").mkdir(parents=True)
    (out / "cow-1" / "pen_000000.jpg").write_bytes(b"somebody's own")
    with pytest.raises(UsageError, match=r"exists already.*--merge"):
        name_crops(proposal, root, {"p1": "cow-1"}, out)
    assert name_crops(proposal, root, {"p1": "cow-1"}, out, merge=True) == Named(2, 0)
    first = content(out)
    assert sorted(first) == [
        "cow-1/pen_000000-2.jpg",
        "cow-1/pen_000000.jpg",
        "cow-1/pen_000009.jpg",
    ]
    assert first["cow-1/pen_000000.jpg"] == b"somebody's own"
    # Once more, and one more animal: what is there stays single.
    both = {"p1": "cow-1", "p2": "cow-2"}
    assert name_crops(proposal, root, both, out, merge=True) == Named(2, 2)
    assert {name: data for name, data in content(out).items() if "cow-1" in name} == first
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".crops")]


def test_merge_refuses_a_crop_that_is_another_animals_already(
    tracklet: Callable, propose: Callable, tmp_path: Path
) -> None:
    proposal, root = propose(tracklet("p1"), tracklet("p2"))
    out = tmp_path / "crops"
    name_crops(proposal, root, {"p1": "cow-1"}, out)
    before = content(out)
    with pytest.raises(DataError, match=r"cow-1/pen_0000.*is the same crop .* now 'cow-2'"):
        name_crops(proposal, root, {"p1": "cow-2", "p2": "cow-3"}, out, merge=True)
    assert content(out) == before


def test_merge_makes_a_new_folder_too(
    tracklet: Callable, propose: Callable, tmp_path: Path
) -> None:
    proposal, root = propose(tracklet("p1"))
    assert name_crops(proposal, root, {"p1": "cow-1"}, tmp_path / "new", merge=True).written == 2


def test_a_crop_that_is_gone_leaves_nothing_behind(
    tracklet: Callable, propose: Callable, tmp_path: Path
) -> None:
    proposal, root = propose(tracklet("p1"), tracklet("p2"))
    (proposal.tracklets[1].folder(root) / "p2_000009.jpg").unlink()
    both = {"p1": "cow-1", "p2": "cow-2"}
    with pytest.raises(DataError, match=r"p2_000009\.jpg: missing"):
        name_crops(proposal, root, both, tmp_path / "crops")
    assert not (tmp_path / "crops").exists()
    name_crops(proposal, root, {"p1": "cow-1"}, tmp_path / "crops")
    before = content(tmp_path / "crops")
    with pytest.raises(DataError, match="missing"):
        name_crops(proposal, root, both, tmp_path / "crops", merge=True)
    assert content(tmp_path / "crops") == before


def test_without_names_there_is_nothing_to_write(
    tracklet: Callable, propose: Callable, tmp_path: Path
) -> None:
    proposal, root = propose(tracklet("p1"))
    with pytest.raises(DataError, match="no tracklet has an animal's name"):
        name_crops(proposal, root, {}, tmp_path / "crops")

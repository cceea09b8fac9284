from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge.errors import BundleError, UsageError
from edge.identity.means import ClassMeans, load_means
from edge.release.bundle import Bundle, load_bundle
from trainer.means.edit import remove
from trainer.means.projector import Pair, means_of_pair
from trainer.means.storage import check_target, store, store_loose

DEMO = Path(__file__).parents[3] / "models" / "demo" / "bundle"
LATER = "2031-05-06T07:08:09Z"


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return load_bundle(Path(shutil.copytree(DEMO, tmp_path / "bundle")))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def fewer(bundle: Bundle) -> ClassMeans:
    return remove(bundle.means, [bundle.means.animals[0]])


def test_in_place_only_means_and_manifest_change(bundle: Bundle) -> None:
    (bundle.directory / "note.txt").write_text("not in the manifest")
    before = contents(bundle.directory)
    stored = store(bundle, fewer(bundle), None, created=LATER)
    after = contents(bundle.directory)
    assert {name for name in before if before[name] != after[name]} == {
        *("manifest.json", "means.npz")
    }
    assert before.keys() == after.keys()
    again = load_bundle(bundle.directory)
    assert stored.bundle_id == again.manifest.id != bundle.manifest.id
    assert again.manifest.seq == bundle.manifest.seq + 1
    assert again.means.header.seq == stored.seq == bundle.means.header.seq + 1
    assert again.manifest.created == again.means.header.created == LATER
    assert again.manifest.means.animals == stored.animals == len(bundle.means.animals) - 1
    assert again.manifest.training == bundle.manifest.training
    assert [path.name for path in bundle.directory.parent.iterdir()] == ["bundle"]


def test_another_folder_leaves_the_bundle_alone(bundle: Bundle, tmp_path: Path) -> None:
    before = contents(bundle.directory)
    store(bundle, fewer(bundle), tmp_path / "other", created=LATER)
    assert contents(bundle.directory) == before
    assert load_bundle(tmp_path / "other").manifest.seq == bundle.manifest.seq + 1


def test_a_loose_file_names_the_embedder(bundle: Bundle, tmp_path: Path) -> None:
    before = contents(bundle.directory)
    stored = store(bundle, fewer(bundle), tmp_path / "loose.npz", created=LATER)
    assert stored.bundle_id is None
    means = load_means(tmp_path / "loose.npz")
    assert means.header.embedder_sha256 == bundle.manifest.embedder.sha256
    assert means.header.seq == bundle.means.header.seq + 1
    assert contents(bundle.directory) == before


def test_seq_is_above_that_of_means_from_elsewhere(bundle: Bundle) -> None:
    means = bundle.means
    newer = replace(means, header=msgspec.structs.replace(means.header, seq=40))
    assert store(bundle, newer, None, created=LATER).seq == 41


def test_a_bundle_that_does_not_pass_its_checks_does_not_take_the_place(bundle: Bundle) -> None:
    path = bundle.directory / "embedder.tflite"
    path.write_bytes(path.read_bytes() + b"x")
    before = contents(bundle.directory)
    with pytest.raises(BundleError, match=r"embedder\.tflite"):
        store(bundle, fewer(bundle), None, created=LATER)
    assert contents(bundle.directory) == before
    assert [path.name for path in bundle.directory.parent.iterdir()] == ["bundle"]


def test_means_of_another_dimension_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    flat = means_of_pair(Pair(("cow1",), np.ones((1, 3))))
    for out in (None, tmp_path / "x.npz", tmp_path / "x"):
        with pytest.raises(BundleError, match="dimension 3"):
            store(bundle, flat, out, created=LATER)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_what_somebody_else_changed_meanwhile_is_not_lost(bundle: Bundle) -> None:
    store(bundle, fewer(bundle), None, created=LATER)
    before = contents(bundle.directory)
    with pytest.raises(BundleError, match="changed by somebody else"):
        store(bundle, bundle.means, None, created=LATER)
    assert contents(bundle.directory) == before


def test_a_link_to_the_bundle_is_followed(bundle: Bundle, tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to(bundle.directory)
    store(load_bundle(link), fewer(bundle), None, created=LATER)
    assert link.is_symlink()
    assert json.loads((bundle.directory / "manifest.json").read_bytes())["created"] == LATER


def test_places_that_are_taken_are_refused_before_the_work(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    check_target(tmp_path / "bundle", taken)
    (taken / "thesis.txt").write_text("years")
    with pytest.raises(UsageError, match="not empty"):
        check_target(tmp_path / "bundle", taken)
    check_target(taken, taken)
    with pytest.raises(UsageError, match="not empty"):
        check_target(tmp_path / "bundle", taken / "thesis.txt")
    with pytest.raises(UsageError, match="--bundle DIR or --out"):
        check_target(None, None)
    with pytest.raises(UsageError, match="only a loose file"):
        check_target(None, tmp_path / "new")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        check_target(None, tmp_path / "folder.npz")


def test_means_without_a_bundle_name_no_embedder(tmp_path: Path) -> None:
    means = means_of_pair(Pair(("15", "1"), np.eye(2)))
    stored = store_loose(means, tmp_path / "m.npz", created=LATER)
    assert (stored.bundle_id, stored.seq, stored.animals) == (None, 1, 2)
    header = load_means(tmp_path / "m.npz").header
    assert (header.embedder_sha256, header.created) == ("", LATER)


@pytest.mark.parametrize("place", ["means.npz", "selftest.npz", "sub", "sub/deep.npz"])
def test_nothing_is_written_into_a_bundle_but_in_place(tmp_path: Path, place: str) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "manifest.json").write_text("{}")
    for known in (bundle, None):
        with pytest.raises(UsageError, match="lies in the bundle"):
            check_target(known, bundle / place)
    check_target(bundle, bundle)
    check_target(bundle, tmp_path / "other")
    check_target(None, tmp_path / "loose.npz")

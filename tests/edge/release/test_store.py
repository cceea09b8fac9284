from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import msgspec
import pytest

from edge.errors import BundleError
from edge.release.manifest import content_id
from edge.release.store import DownloadError, Store, release_name
from tests.edge.release import acts
from tests.edge.release.acts import NEW, OLD, OTHER

HASH = hashlib.sha256(b"content").hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def running(store: Store) -> Store:
    """OLD is current, the content of NEW is there."""
    acts.given_fetched(store.root)
    return store


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_was_fetched_and_is_as_promised_becomes_a_blob(store: Store) -> None:
    assert not store.has_blob(HASH)
    store.part(HASH).write_bytes(b"content")
    path = store.adopt_part(HASH, 7)
    assert path == store.blob(HASH) == store.root / "blobs" / "sha256" / HASH[:2] / HASH
    assert path.read_bytes() == b"content"
    assert store.has_blob(HASH)
    assert names(path.parent) == [HASH]
    assert stat.S_IMODE(path.stat().st_mode) == 0o444


@pytest.mark.parametrize(
    ("data", "text"),
    [(b"conten", "6 bytes came, 7 were promised"), (b"comtent", "hash is not the promised one")],
)
def test_what_is_not_as_promised_is_removed(store: Store, data: bytes, text: str) -> None:
    store.part(HASH).write_bytes(data)
    with pytest.raises(DownloadError, match=text):
        store.adopt_part(HASH, 7)
    assert not store.part(HASH).exists()
    assert not store.has_blob(HASH)
    with pytest.raises(DownloadError, match="nothing was fetched"):
        store.adopt_part(HASH, 7)


@pytest.mark.parametrize("name", ["", "..", "../../etc/passwd", HASH[:-1], HASH + "\n", "A" * 64])
def test_no_other_name_is_a_path_in_the_store(store: Store, name: str) -> None:
    for ask in (store.blob, store.part, store.has_blob, store.release):
        with pytest.raises(ValueError, match="is no"):
            ask(name)


def test_content_made_here_is_kept_by_its_hash_once(store: Store) -> None:
    assert store.put_blob(b"content") == HASH
    inode = store.blob(HASH).stat().st_ino
    assert store.put_blob(b"content") == HASH
    assert store.blob(HASH).stat().st_ino == inode
    assert stat.S_IMODE(store.blob(HASH).stat().st_mode) == 0o444


def test_a_release_is_made_of_links_and_its_manifest(running: Store) -> None:
    folder = running.stage(NEW.name, NEW.manifest)
    assert folder == running.root / "releases" / NEW.name
    assert names(folder) == sorted([*NEW.files, "manifest.json"])
    for name, data in NEW.files.items():
        assert (folder / name).read_bytes() == data
        entry = NEW.manifest.files[name]
        assert (folder / name).stat().st_ino == running.blob(entry.sha256).stat().st_ino
    assert running.verify(NEW.name) == NEW.manifest
    assert running.whole(NEW.name)
    assert running.releases() == sorted([OLD.name, NEW.name])


def test_releases_share_the_models_that_are_the_same(running: Store) -> None:
    running.stage(NEW.name, NEW.manifest)
    one, other = (running.release(r.name) / "detector.tflite" for r in (OLD, NEW))
    assert one.stat().st_ino == other.stat().st_ino


def test_old_content_under_a_higher_seq_is_a_new_release(running: Store) -> None:
    name = release_name(OLD.manifest.id, 9)
    assert name == f"{OLD.manifest.id[:12]}-9"
    running.stage(name, OLD.manifest)
    running.commit(name)
    assert running.current() == running.release(name)


def test_staging_again_leaves_what_is_whole_and_replaces_what_is_not(running: Store) -> None:
    folder = running.stage(NEW.name, NEW.manifest)
    (folder / ".committed.json").write_bytes(b"{}")
    assert running.stage(NEW.name, NEW.manifest) == folder
    assert (folder / ".committed.json").exists()
    (folder / "means.npz").unlink()
    assert not running.whole(NEW.name)
    assert running.stage(NEW.name, NEW.manifest) == folder
    assert not (folder / ".committed.json").exists()
    assert running.whole(NEW.name)
    assert names(running.root / "releases") == sorted([OLD.name, NEW.name])


def test_a_release_without_all_its_content_is_not_staged(running: Store) -> None:
    with pytest.raises(BundleError, match="must be fetched first"):
        running.stage(OTHER.name, OTHER.manifest)
    assert names(running.root / "releases") == [OLD.name]


def test_a_blob_that_rotted_is_not_staged_and_fetched_again(running: Store) -> None:
    blob = running.blob(NEW.manifest.files["means.npz"].sha256)
    blob.chmod(0o644)
    blob.write_bytes(b"x" * blob.stat().st_size)
    with pytest.raises(BundleError, match=r"means\.npz: altered"):
        running.stage(NEW.name, NEW.manifest)
    assert names(running.root / "releases") == [OLD.name]
    assert not running.has_blob(blob.name)
    assert running.has_blob(NEW.manifest.files["embedder.tflite"].sha256)
    acts.fetch(running.root, NEW)
    running.stage(NEW.name, NEW.manifest)


def test_a_blob_that_is_a_link_is_none(running: Store, tmp_path: Path) -> None:
    blob = running.blob(NEW.manifest.files["means.npz"].sha256)
    (tmp_path / "elsewhere").write_bytes(blob.read_bytes())
    blob.unlink()
    blob.symlink_to(tmp_path / "elsewhere")
    assert not running.has_blob(blob.name)
    with pytest.raises(BundleError):
        running.stage(NEW.name, NEW.manifest)


def test_a_manifest_that_lies_about_itself_is_not_staged(running: Store) -> None:
    with pytest.raises(BundleError, match="the manifest's id is"):
        running.stage(OLD.name, NEW.manifest)
    files = {**NEW.manifest.files, "extra": NEW.manifest.files["means.npz"]}
    with pytest.raises(BundleError, match="the id does not match"):
        running.stage(NEW.name, msgspec.structs.replace(NEW.manifest, files=files))
    assert names(running.root / "releases") == [OLD.name]


def test_a_bundle_whose_file_is_called_as_its_manifest_is_not_staged(running: Store) -> None:
    entry = NEW.manifest.files["means.npz"]
    files = {**NEW.manifest.files, "manifest.json": entry}
    manifest = msgspec.structs.replace(NEW.manifest, files=files, id=content_id(files))
    with pytest.raises(BundleError, match="lists itself"):
        running.stage(release_name(manifest.id, 4), manifest)
    assert running.blob(entry.sha256).read_bytes() == NEW.files["means.npz"]


def test_committing_swaps_the_link_and_only_a_whole_release_is_committed(running: Store) -> None:
    running.stage(NEW.name, NEW.manifest)
    (running.release(NEW.name) / "means.npz").unlink()
    with pytest.raises(BundleError, match="missing"):
        running.commit(NEW.name)
    with pytest.raises(BundleError, match="cannot be read"):
        running.commit(OTHER.name)
    assert running.current() == running.release(OLD.name)
    running.stage(NEW.name, NEW.manifest)
    running.commit(NEW.name)
    assert (running.root / "current").readlink() == Path("releases") / NEW.name
    assert running.current() == running.release(NEW.name)


@pytest.mark.parametrize("target", [None, "releases/none-1", f"releases/{NEW.name}", "/etc"])
def test_without_a_release_nothing_is_current(store: Store, target: str | None) -> None:
    store.root.mkdir()
    if target is not None:
        (store.root / "current").symlink_to(target)
    assert store.current() is None


def test_cleaning_keeps_what_runs_what_is_asked_for_and_what_they_are_made_of(
    running: Store,
) -> None:
    acts.install_all(running.root, NEW)
    acts.fetch(running.root, OTHER)
    running.stage(OTHER.name, OTHER.manifest)
    running.put_blob(b"content")
    running.part("ab" * 32).write_bytes(b"half")
    running.part("cd" * 32).write_bytes(b"half")
    running.put_blob(b"more")
    more = hashlib.sha256(b"more").hexdigest()
    running.clean([OLD.name], ["cd" * 32, more])
    assert running.releases() == sorted([OLD.name, NEW.name])
    left = {path.name for path in (running.root / "blobs").rglob("*") if path.is_file()}
    files = [*OLD.manifest.files.values(), *NEW.manifest.files.values()]
    assert left == {*(entry.sha256 for entry in files), "cd" * 32 + ".part", more}
    running.clean([])
    assert running.releases() == [NEW.name]
    assert running.whole(NEW.name)
    assert not running.has_blob(more)


def test_sweeping_removes_what_a_kill_left(running: Store) -> None:
    releases = running.root / "releases"
    for name in (f".staging-{NEW.name}", f".gone-{OTHER.name}"):
        (releases / name).mkdir()
        (releases / name / "f").write_bytes(b"x")
    (running.root / ".current.0011aabb.new").symlink_to("releases")
    (releases / OLD.name / ".manifest.json.0011aabb.new").write_bytes(b"x")
    running.sweep()
    assert names(releases) == [OLD.name]
    assert running.whole(OLD.name)
    assert not os.path.lexists(running.root / ".current.0011aabb.new")
    assert names(releases / OLD.name) == sorted([".committed.json", *OLD.files, "manifest.json"])

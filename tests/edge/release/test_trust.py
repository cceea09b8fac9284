"""What a device learns from a repository that is in order."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge import durable
from edge.errors import TrustError
from edge.release.state import Floor
from edge.release.targets import content_path, means_target
from tests.edge.release.conftest import Asking
from tests.edge.release.repository import EMBEDDER, Repository

MODEL = {"embedder.tflite": b"a model", "detector.tflite": b"another"}


def test_nothing_is_wanted_before_anything_is_assigned(
    repository: Repository, device: Asking
) -> None:
    repository.publish_bundle(MODEL)
    assert device.ask(repository) is None
    repository.assign("device/barn-8", "a" * 64)
    assert device.ask(repository) is None


def test_a_device_learns_its_bundle_and_every_file_of_it(
    repository: Repository, device: Asking
) -> None:
    bundle = repository.publish_bundle(MODEL)
    seq = repository.assign("all", bundle)
    wanted = device.ask(repository)
    assert wanted is not None
    assert (wanted.bundle, wanted.assignment) == (bundle, seq)
    assert set(wanted.files) == {"manifest.json", *MODEL}
    blob = wanted.files["embedder.tflite"]
    assert blob.sha256 == hashlib.sha256(b"a model").hexdigest()
    assert blob.size == len(b"a model")
    assert repository.files[blob.path] == b"a model"
    assert wanted.means is None
    assert wanted.versions.timestamp == repository.timestamp.version


def test_class_means_come_with_their_seq_and_embedder(
    repository: Repository, device: Asking
) -> None:
    repository.assign("all", repository.publish_bundle(MODEL))
    seq = repository.publish_means(b"the herd")
    wanted = device.ask(repository)
    assert wanted is not None
    assert wanted.means is not None
    assert repository.files[wanted.means.path] == b"the herd"
    assert (wanted.means_seq, wanted.means_embedder) == (seq, EMBEDDER)


def test_a_devices_own_means_come_before_its_groups_and_all(
    repository: Repository, device: Asking
) -> None:
    repository.assign("all", repository.publish_bundle(MODEL))
    repository.group("cows", ["barn-7"])
    for scope in ("all", "group/cows", "device/barn-7"):
        repository.publish_means(scope.encode(), scope)
        wanted = device.ask(repository)
        assert wanted is not None
        assert wanted.means is not None
        assert repository.files[wanted.means.path] == scope.encode()
    own = wanted.means
    repository.publish_means(b"barn 8's", "device/barn-8")
    wanted = device.ask(repository)
    assert wanted is not None
    assert wanted.means == own


def test_old_content_under_a_higher_seq_is_wanted(repository: Repository, device: Asking) -> None:
    old = repository.publish_bundle(MODEL)
    repository.assign("all", old)
    device.runs(repository)
    repository.assign("all", repository.publish_bundle({"embedder.tflite": b"worse"}))
    device.runs(repository)
    back = repository.assign("all", old)
    wanted = device.runs(repository)
    assert (wanted.bundle, wanted.assignment) == (old, back)


def test_a_device_that_leaves_a_group_still_counts_up(
    repository: Repository, device: Asking
) -> None:
    everybodys = repository.publish_bundle(MODEL)
    repository.assign("all", everybodys)
    repository.publish_means(b"all", "all")
    repository.group("cows", ["barn-7"])
    repository.assign("group/cows", repository.publish_bundle({"embedder.tflite": b"cows"}))
    repository.publish_means(b"cows", "group/cows")
    device.runs(repository)
    moved = repository.count()
    repository.set_fleet(seq=moved, groups={}, moved={"barn-7": moved})
    wanted = device.runs(repository)
    assert (wanted.bundle, wanted.assignment, wanted.means_seq) == (everybodys, moved, moved)


def test_what_has_not_changed_is_not_fetched_again(repository: Repository, device: Asking) -> None:
    repository.assign("all", repository.publish_bundle(MODEL))
    first = device.ask(repository)
    repository.fetched.clear()
    assert device.ask(repository) == first
    assert repository.fetched == ["metadata/2.root.json", "metadata/timestamp.json"]


def test_what_was_fetched_is_on_the_disk_before_anything_is_said(
    repository: Repository, device: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.assign("all", repository.publish_bundle(MODEL))
    synced: set[Path] = set()

    def sync(path: Path, flags: int) -> None:
        synced.add(path)
        os.close(os.open(path, flags))

    monkeypatch.setattr(durable, "_sync", sync)
    device.ask(repository)
    tuf = device.folder / "tuf"
    names = ("timestamp.json", "snapshot.json", "models.json", "root_history/1.root.json")
    assert {tuf, tuf / "root_history", *(tuf / name for name in names)} <= synced


def test_three_root_rotations_while_away_take_one_refresh(
    repository: Repository, device: Asking
) -> None:
    bundle = repository.publish_bundle(MODEL)
    repository.assign("all", bundle)
    device.runs(repository)
    for role in ("root", "root", "timestamp", "root", "snapshot", "targets", "models", "means"):
        repository.rotate(role)
    wanted = device.runs(repository)
    assert wanted.versions.root == 7
    assert wanted.bundle == bundle


def test_a_new_timestamp_key_ends_what_a_thief_has_counted_up_to(
    repository: Repository, device: Asking
) -> None:
    repository.assign("all", repository.publish_bundle(MODEL))
    thief = repository.twin()
    thief.timestamp.version = 1 << 40
    thief.publish()
    device.runs(thief)
    with pytest.raises(TrustError, match="older"):
        device.ask(repository)
    repository.rotate("timestamp")
    assert device.runs(repository).versions.timestamp < 100


def test_a_new_key_of_another_role_lets_no_older_timestamp_in(
    repository: Repository, device: Asking
) -> None:
    repository.assign("all", repository.publish_bundle(MODEL))
    device.floor = Floor(root=1, timestamp=1000)
    repository.rotate("root")
    with pytest.raises(TrustError, match="timestamp"):
        device.ask(repository)


def test_metadata_tells_the_device_nothing_of_a_release_without_its_manifest(
    repository: Repository, device: Asking
) -> None:
    repository.assign("all", "b" * 64)
    with pytest.raises(TrustError, match="not published"):
        device.ask(repository)


def test_content_addresses_are_those_of_the_targets(repository: Repository) -> None:
    repository.publish_means(b"x", "group/cows")
    path = content_path(means_target("group/cows"), hashlib.sha256(b"x").hexdigest())
    assert path in repository.files


def test_running_a_release_needs_no_python_tuf() -> None:
    code = "import sys, edge.release.trust, edge.release.download; sys.exit('tuf' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_signatures_are_verified_without_the_cryptography_package(
    repository: Repository, device: Asking, tmp_path: Path
) -> None:
    """A device has python-tuf's own arithmetic only."""
    repository.assign("all", repository.publish_bundle(MODEL))
    folder = repository.write_to(tmp_path / "repository")
    code = f"""
import sys
sys.modules["cryptography"] = None
from datetime import datetime
from pathlib import Path
from edge.release.channels import open_channel
from edge.release.state import Floor
from edge.release.trust import Trust
now = datetime.fromisoformat({device.now.isoformat()!r})
trust = Trust(Path({str(device.folder)!r}), "barn-7", clock=lambda: now)
print(trust.refresh(open_channel("file://{folder}", inbox=Path("/nowhere")), Floor()).assignment)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("1\n", "")

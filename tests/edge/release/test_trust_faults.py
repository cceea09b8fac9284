"""Repositories that must be refused, before a byte of content is fetched."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from edge.errors import TrustError
from edge.release import state
from edge.release.channels import ChannelError, ChannelMissingError
from edge.release.state import Floor
from edge.release.store import Store, release_name
from edge.release.targets import FLEET, MAX_BUNDLE_FILES, MAX_SEQ, means_target
from tests.edge.release.conftest import Asking
from tests.edge.release.repository import NOW, TOP, Repository

MODEL = {"embedder.tflite": b"a model", "detector.tflite": b"another"}
EVIL = b"names every animal as the neighbour's"
SIGNING = ("timestamp", "snapshot", "targets", "models", "means", "assignments")


@pytest.fixture
def bundle(repository: Repository) -> str:
    """What everybody is to run; there are means for everybody as well."""
    bundle = repository.publish_bundle(MODEL)
    repository.assign("all", bundle)
    repository.publish_means(b"the herd")
    return bundle


def refuse(device: Asking, repository: Repository, reason: str) -> str:
    """Ask, expect a refusal with nothing fetched but metadata; return what it says."""
    repository.fetched.clear()
    with pytest.raises(TrustError) as caught:
        device.ask(repository)
    assert caught.value.reason == reason, caught.value
    assert repository.content_fetched == []
    text = str(caught.value)
    assert "\n" not in text
    assert repository.name in text
    return text


# Signatures.


@pytest.mark.parametrize("role", SIGNING)
def test_a_role_signed_by_a_stranger(
    repository: Repository, device: Asking, bundle: str, role: str
) -> None:
    device.runs(repository)
    repository.sign_with(role, key_of=None)
    assert role in refuse(device, repository, "signature")


@pytest.mark.parametrize(
    ("role", "other"),
    [
        ("models", "means"),
        ("means", "models"),
        ("assignments", "means"),
        ("assignments", "models"),
        ("targets", "models"),
        ("snapshot", "timestamp"),
        ("timestamp", "means"),
    ],
)
def test_a_role_signed_with_anothers_key(
    repository: Repository, device: Asking, bundle: str, role: str, other: str
) -> None:
    repository.sign_with(role, key_of=other)
    assert role in refuse(device, repository, "signature")


def test_a_model_that_the_means_key_signs_in_its_own_metadata_is_not_seen(
    repository: Repository, device: Asking, bundle: str
) -> None:
    before = device.ask(repository)
    assert before is not None
    for name in ("embedder.tflite", "more.tflite"):
        repository.put("means", f"models/{bundle}/{name}", EVIL)
    repository.publish()
    after = device.ask(repository)
    assert after is not None
    assert after.files == before.files


def test_means_that_the_models_key_signs_in_its_own_metadata_are_not_seen(
    repository: Repository, device: Asking, bundle: str
) -> None:
    before = device.ask(repository)
    assert before is not None
    custom = {"seq": 99, "embedder_sha256": "e" * 64}
    for target in (means_target("all"), means_target("device/barn-7")):
        repository.put("models", target, EVIL, custom)
    repository.publish()
    after = device.ask(repository)
    assert after is not None
    assert (after.means, after.means_seq) == (before.means, before.means_seq)


@pytest.mark.parametrize("role", ["models", "means"])
def test_assignments_are_taken_from_nobody_else(
    repository: Repository, device: Asking, bundle: str, role: str
) -> None:
    repository.put(role, FLEET, b'{"schema": 1, "seq": 99, "releases": {}}')
    repository.publish()
    wanted = device.ask(repository)
    assert wanted is not None
    assert wanted.bundle == bundle


@pytest.mark.parametrize("role", ["root", *SIGNING])
def test_too_few_signatures(repository: Repository, device: Asking, bundle: str, role: str) -> None:
    repository.need(role, signatures=2)
    assert "1/2" in refuse(device, repository, "signature")


@pytest.mark.parametrize("role", SIGNING)
def test_a_date_that_was_put_off(
    repository: Repository, device: Asking, bundle: str, role: str
) -> None:
    version = "" if role == "timestamp" else f"{repository.timestamp.version}."
    path = f"metadata/{version}{role}.json"
    data = repository.files[path]
    repository.files[path] = data.replace(b"2026-12-24", b"2036-12-24")
    assert repository.files[path] != data
    refuse(device, repository, "signature" if role == "timestamp" else "altered")


def test_a_foreign_repository(
    repository: Repository, device: Asking, bundle: str, provision: Callable[..., Asking]
) -> None:
    foreign = Repository()
    foreign.assign("all", foreign.publish_bundle({"embedder.tflite": EVIL}))
    refuse(device, foreign, "signature")
    foreign.rotate("root")
    refuse(device, foreign, "signature")


def test_a_root_that_its_predecessor_did_not_sign(
    repository: Repository, device: Asking, bundle: str
) -> None:
    device.runs(repository)
    thief = repository.twin()
    thief.signers["root"] = Repository().signers["root"]
    thief.root_md.signed.version += 1
    thief._sign_root()
    thief.publish()
    refuse(device, thief, "signature")


# Age.


@pytest.mark.parametrize("role", [*TOP, "models", "means", "assignments"])
def test_expired(repository: Repository, device: Asking, bundle: str, role: str) -> None:
    repository.expire(role, NOW - timedelta(seconds=1))
    text = refuse(device, repository, "expired")
    assert "renew" in text
    assert role in text


def test_a_repository_that_is_kept_as_it_was_is_noticed_when_it_expires(
    repository: Repository, device: Asking, bundle: str
) -> None:
    wanted = device.runs(repository)
    frozen = repository.copy()
    repository.assign("all", repository.publish_bundle({"embedder.tflite": b"a better one"}))
    repository.files = frozen
    device.now = NOW + timedelta(days=29)
    assert device.ask(repository) == wanted
    device.now = NOW + timedelta(days=31)
    refuse(device, repository, "expired")


def test_a_clock_two_months_ahead(repository: Repository, device: Asking, bundle: str) -> None:
    wanted = device.runs(repository)
    device.now = NOW + timedelta(days=60)
    assert "clock" in refuse(device, repository, "expired")
    device.now = NOW
    assert device.ask(repository) == wanted


def test_with_a_clock_in_2020_the_floors_hold_all_the_same(
    repository: Repository, device: Asking, bundle: str
) -> None:
    device.now = datetime(2020, 1, 1, tzinfo=NOW.tzinfo)
    old = repository.copy()
    assert device.ask(repository) is not None
    repository.assign("all", repository.publish_bundle({"embedder.tflite": b"better"}))
    device.runs(repository)
    repository.files = old
    refuse(device, repository, "older")


def test_an_old_repository_replayed(repository: Repository, device: Asking, bundle: str) -> None:
    old = repository.copy()
    repository.assign("all", repository.publish_bundle({"embedder.tflite": b"better"}))
    device.runs(repository)
    repository.files = old
    refuse(device, repository, "older")


def test_an_old_repository_replayed_after_the_trusted_metadata_was_lost(
    repository: Repository, device: Asking, bundle: str
) -> None:
    old = repository.copy()
    repository.assign("all", repository.publish_bundle({"embedder.tflite": b"better"}))
    device.runs(repository)
    repository.files = old
    shutil.rmtree(device.folder / "tuf")
    assert "ran here" in refuse(device, repository, "older")
    # It is the floor alone that tells: nothing else here remembers.
    device.floor = Floor()
    assert device.ask(repository) is not None


def test_old_keys_are_of_no_use_after_the_trusted_metadata_was_lost(
    repository: Repository, device: Asking, bundle: str
) -> None:
    thief = repository.twin()
    repository.rotate("models")
    repository.rotate("timestamp")
    repository.rotate("root")
    device.runs(repository)
    shutil.rmtree(device.folder / "tuf")
    for _ in range(20):
        thief.assign("all", thief.publish_bundle({"embedder.tflite": EVIL}))
    assert "root" in refuse(device, thief, "older")


@pytest.mark.parametrize("version", ["timestamp", "snapshot"])
def test_a_floor_of_each_version(
    repository: Repository, device: Asking, bundle: str, version: str
) -> None:
    device.floor = Floor(root=1, **{version: 1000})
    assert version in refuse(device, repository, "older")


def test_an_assignment_that_counts_down(
    repository: Repository, device: Asking, bundle: str
) -> None:
    repository.assign("all", bundle, seq=40)
    device.runs(repository)
    repository.assign("all", repository.publish_bundle({"embedder.tflite": b"x"}), seq=39)
    with pytest.raises(TrustError, match="assignment 39, not 40") as caught:
        device.ask(repository)
    assert caught.value.reason == "older"


def test_another_bundle_under_the_same_number(
    repository: Repository, device: Asking, bundle: str
) -> None:
    repository.assign("all", bundle, seq=40)
    device.runs(repository)
    repository.assign("all", repository.publish_bundle({"embedder.tflite": b"x"}), seq=40)
    with pytest.raises(TrustError, match="not what it was") as caught:
        device.ask(repository)
    assert caught.value.reason == "altered"


def test_means_that_count_down_or_change_under_their_number(
    repository: Repository, device: Asking, bundle: str
) -> None:
    device.runs(repository)
    custom = {"seq": device.floor.means, "embedder_sha256": "e" * 64}
    repository.put("means", means_target("all"), b"others", custom)
    repository.publish()
    with pytest.raises(TrustError, match="not what it was"):
        device.ask(repository)
    custom["seq"] -= 1
    repository.put("means", means_target("all"), b"others", custom)
    repository.publish()
    with pytest.raises(TrustError, match="class means"):
        device.ask(repository)


# Parts that do not belong together.


@pytest.mark.parametrize("role", ["snapshot", "targets", "models", "means", "assignments"])
def test_mix_and_match(repository: Repository, device: Asking, bundle: str, role: str) -> None:
    old = repository.timestamp.version
    repository.publish_means(b"a newcomer")
    new = repository.timestamp.version
    repository.files[f"metadata/{new}.{role}.json"] = repository.files[
        f"metadata/{old}.{role}.json"
    ]
    refuse(device, repository, "altered")


def test_a_snapshot_that_takes_one_role_back(
    repository: Repository, device: Asking, bundle: str
) -> None:
    """With the snapshot's and the timestamp's keys stolen, and those only."""
    device.runs(repository)
    thief = repository.twin()
    device.floor = Floor()
    repository.publish_bundle({"embedder.tflite": b"better"})
    device.ask(repository)
    for _ in range(3):
        thief.snapshot.version += 1
        thief.timestamp.version += 1
    old = thief.snapshot.meta
    thief._write("snapshot", thief.snapshot)
    data = thief.files[f"metadata/{thief.snapshot.version}.snapshot.json"]
    thief.timestamp.snapshot_meta = type(old["models.json"]).from_data(
        thief.snapshot.version, data, ["sha256"]
    )
    thief._write("timestamp", thief.timestamp)
    refuse(device, thief, "older")


# Names, sizes and shapes.


@pytest.mark.parametrize("name", ["..", ".", "..\\x", ".hidden", "a b", "x\n", "n" * 65])
def test_hostile_names(repository: Repository, device: Asking, bundle: str, name: str) -> None:
    repository.put("models", f"models/{bundle}/{name}", EVIL)
    repository.publish()
    with pytest.raises(TrustError, match="not the name") as caught:
        device.ask(repository)
    assert caught.value.reason == "format"
    assert not any(path.startswith("targets/models") for path in repository.fetched)


@pytest.mark.parametrize("name", ["../x", "../../../etc/passwd", "sub/x"])
def test_names_with_folders_in_them_are_beyond_what_the_models_key_signs(
    repository: Repository, device: Asking, bundle: str, name: str
) -> None:
    repository.put("models", f"models/{bundle}/{name}", EVIL)
    repository.publish()
    with pytest.raises(TrustError, match="not the name"):
        device.ask(repository)


def test_a_bundle_of_too_many_files(repository: Repository, device: Asking, bundle: str) -> None:
    for number in range(MAX_BUNDLE_FILES + 1):
        repository.put("models", f"models/{bundle}/{number}.bin", b"x")
    repository.publish()
    with pytest.raises(TrustError, match="too many"):
        device.ask(repository)


def test_a_bundle_larger_than_any_disk(repository: Repository, device: Asking, bundle: str) -> None:
    repository.roles["models"].targets[f"models/{bundle}/embedder.tflite"].length = 1 << 50
    repository.publish()
    with pytest.raises(TrustError, match="too many"):
        device.ask(repository)


def test_means_larger_than_any_herds(repository: Repository, device: Asking, bundle: str) -> None:
    repository.roles["means"].targets["means/all.npz"].length = 1 << 40
    repository.publish()
    with pytest.raises(TrustError, match="too many"):
        device.ask(repository)


def test_assignments_larger_than_any_fleets(
    repository: Repository, device: Asking, bundle: str
) -> None:
    repository.roles["assignments"].targets[FLEET].length = 1 << 40
    repository.publish()
    refuse(device, repository, "format")


def test_means_without_terms(repository: Repository, device: Asking, bundle: str) -> None:
    repository.put("means", means_target("all"), b"whose?")
    repository.publish()
    with pytest.raises(TrustError, match=r"means/all\.npz"):
        device.ask(repository)


def test_assignments_that_are_none(repository: Repository, device: Asking, bundle: str) -> None:
    repository.put("assignments", FLEET, b'{"schema": 1}')
    repository.publish()
    with pytest.raises(TrustError, match=r"fleet\.json"):
        device.ask(repository)


def test_assignments_damaged_on_the_way_are_asked_for_again(
    repository: Repository, device: Asking, bundle: str
) -> None:
    whole = repository.copy()
    for path in repository.files:
        if path.endswith(".fleet.json"):
            repository.files[path] = b"x" * len(repository.files[path])
    with pytest.raises(ChannelError, match="damaged on the way"):
        device.ask(repository)
    repository.files = whole
    assert device.ask(repository) is not None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 15_000,
        b'{"signed": {"_type": "timestamp", "version": ' + b"9" * 10_000 + b"}}",
        b'{"signed": null, "signatures": []}',
        b"<html>Please log in</html>",
    ],
)
def test_a_timestamp_that_is_none(
    repository: Repository, device: Asking, bundle: str, data: bytes
) -> None:
    repository.files["metadata/timestamp.json"] = data
    refuse(device, repository, "format")


def test_a_version_beyond_counting(repository: Repository, device: Asking, bundle: str) -> None:
    repository.timestamp.version = 1 << 60
    repository.publish()
    refuse(device, repository, "format")


def test_what_is_believed_can_be_kept(tmp_path: Path) -> None:
    # Else who has stolen the timestamp's key ends every updater, as often as it is started.
    state.prepare(tmp_path)
    state.write_floor(tmp_path, Floor(timestamp=MAX_SEQ, snapshot=MAX_SEQ, assignment=MAX_SEQ))
    assert Store(tmp_path).release(release_name("a" * 64, MAX_SEQ))


class Endless(Repository):
    """Sends one kind of metadata without an end."""

    endless = "timestamp.json"
    sent = 0

    def fetch(self, path: str, *, offset: int = 0, limit: int) -> Iterator[bytes]:
        if not path.endswith(self.endless):
            yield from super().fetch(path, offset=offset, limit=limit)
            return
        while True:
            self.sent += 1000
            yield b" " * 1000


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("2.root.json", 70_000),
        ("timestamp.json", 20_000),
        ("snapshot.json", 70_000),
        ("models.json", 4_300_000),
    ],
)
def test_metadata_without_an_end(
    provision: Callable[[Repository], Asking], name: str, most: int
) -> None:
    repository = Endless()
    repository.endless = name
    repository.assign("all", repository.publish_bundle(MODEL))
    assert "too long" in refuse(provision(repository), repository, "format")
    assert 0 < repository.sent < most


def test_a_folder_that_holds_no_repository(repository: Repository, device: Asking) -> None:
    repository.files = {}
    with pytest.raises(ChannelMissingError, match="is a repository there"):
        device.ask(repository)


# What lies in trust/.


@pytest.mark.parametrize("keep", [0, 0.5, -1])
@pytest.mark.parametrize("name", ["every", *SIGNING, "root_history/1.root", "root_history/2.root"])
def test_metadata_that_a_power_cut_has_torn(
    repository: Repository, device: Asking, bundle: str, name: str, keep: float
) -> None:
    repository.rotate("root")
    wanted = device.runs(repository)
    tuf = device.folder / "tuf"
    files = sorted(tuf.glob("**/*.json")) if name == "every" else [tuf / f"{name}.json"]
    for path in files:
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * keep) if keep >= 0 else -1])
    assert device.runs(repository) == wanted


@pytest.mark.parametrize("keep", [0, 0.5])
def test_torn_metadata_lets_no_older_repository_in(
    repository: Repository, device: Asking, bundle: str, keep: float
) -> None:
    old = repository.copy()
    repository.assign("all", repository.publish_bundle({"embedder.tflite": b"better"}))
    device.runs(repository)
    for path in (device.folder / "tuf").glob("**/*.json"):
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * keep)])
    repository.files = old
    refuse(device, repository, "older")


def test_torn_assignments_are_fetched_again(
    repository: Repository, device: Asking, bundle: str
) -> None:
    wanted = device.ask(repository)
    (device.folder / "fleet.json").write_bytes(b"")
    assert device.ask(repository) == wanted


@pytest.mark.parametrize("name", ["tuf", "tuf/timestamp.json", "tuf/root_history", "tuf/root.json"])
def test_something_else_in_the_place_of_metadata(
    repository: Repository, device: Asking, bundle: str, name: str
) -> None:
    wanted = device.ask(repository)
    path = device.folder / name
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
        path.write_bytes(b"")
    else:
        path.unlink()
        path.mkdir()
        (path / "x").write_bytes(b"")
    assert device.ask(repository) == wanted


def test_what_a_killed_refresh_left_behind_is_removed(
    repository: Repository, device: Asking, bundle: str
) -> None:
    (device.folder / "tuf").mkdir()
    (device.folder / "tuf" / "tmpabc123").write_bytes(b"half")
    device.ask(repository)
    assert not list((device.folder / "tuf").glob("tmp*"))


@pytest.mark.parametrize("data", [None, b"", b"{}", b"x" * 70_000])
def test_a_device_without_a_root_trusts_nobody(
    repository: Repository, device: Asking, bundle: str, data: bytes | None
) -> None:
    root = device.folder / "root.json"
    root.unlink() if data is None else root.write_bytes(data)
    with pytest.raises(TrustError, match=r"root\.json|memory") as caught:
        device.ask(repository)
    assert caught.value.reason in ("root", "format")
    assert repository.fetched == []


def test_a_full_disk(
    repository: Repository, device: Asking, bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tuf.ngclient.updater.os.replace", full)
    text = refuse(device, repository, "disk")
    assert "No space left" in text


def test_the_trusted_metadata_is_left_as_it_was_by_a_repository_that_is_refused(
    repository: Repository, device: Asking, bundle: str
) -> None:
    wanted = device.ask(repository)
    refuse(device, Repository(), "signature")
    assert device.ask(repository) == wanted


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.glob("**/*") if path.is_file()}


def test_a_foreign_repository_leaves_nothing_behind(
    repository: Repository, device: Asking, bundle: str
) -> None:
    device.ask(repository)
    before = files_below(device.folder)
    refuse(device, Repository(), "signature")
    assert files_below(device.folder) == before

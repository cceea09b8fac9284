"""What an operator does to a repository, and what a device makes of it."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.repo import change, checking
from deploy.repo.creating import create_repository
from deploy.repo.keys import KeyRing
from deploy.repo.passphrases import GivenPassphrases
from deploy.repo.repository import whole_id
from deploy.repo.state import RepositoryDamagedError
from edge.errors import BundleError, EarmarkError, TrustError, UsageError
from edge.release.channels.folder import FolderChannel
from edge.release.manifest import decode_manifest
from edge.release.signed import LIMITS
from edge.release.targets import ROLES, content_path, means_target
from tests.deploy.repo.conftest import PASSPHRASE, Operator, describe
from tests.edge.release.repository import NOW

TOP = ("root", "targets", "snapshot", "timestamp")
Bundles = Callable[..., Path]


def refuse(operator: Operator, act: Callable[[], object], says: str) -> None:
    """Expect one line, and nothing published that was not."""
    before = operator.files()
    with pytest.raises(EarmarkError, match=says) as caught:
        act()
    assert "\n" not in str(caught.value)
    assert operator.files() == before


# Publishing.


def test_a_device_gets_what_was_published_and_assigned(
    operator: Operator, bundle: Bundles, means: Bundles
) -> None:
    folder = bundle("first")
    published = operator.repository.publish(folder)
    operator.repository.assign("all", published[:12])
    seq = operator.repository.publish_means(means(), "device/barn-7")
    wanted = operator.runs()
    assert wanted.bundle == published
    assert wanted.means_seq == seq
    for name, blob in wanted.files.items():
        data = b"".join(operator.channel.fetch(blob.path, limit=blob.size))
        assert data == (folder / name).read_bytes()
    manifest = decode_manifest((folder / "manifest.json").read_bytes(), "it")
    assert wanted.means_embedder == manifest.embedder.sha256
    assert set(wanted.files) == {"manifest.json", *manifest.files}


def test_a_bundle_is_published_once(operator: Operator, bundle: Bundles) -> None:
    folder = bundle("first")
    first = operator.repository.publish(folder)
    models = [name for name in operator.files() if name.endswith("models.json")]
    assert operator.repository.publish(folder) == first
    assert [name for name in operator.files() if name.endswith("models.json")] == models


def test_a_manifest_alone_is_no_new_bundle(operator: Operator, bundle: Bundles) -> None:
    operator.repository.publish(bundle("first"))
    other = bundle("first", created="2027-01-01T00:00:00Z")
    refuse(operator, lambda: operator.repository.publish(other), "another manifest")


@pytest.mark.parametrize("name", ["embedder.tflite", "means.npz", "selftest.npz", "manifest.json"])
def test_a_bundle_that_no_device_would_take_is_not_published(
    operator: Operator, bundle: Bundles, name: str
) -> None:
    folder = bundle("first")
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])
    refuse(operator, lambda: operator.repository.publish(folder), name.replace(".", r"\."))


def test_a_bundle_for_newer_devices_is_not_published(operator: Operator, bundle: Bundles) -> None:
    folder = bundle("first", min_agent="99.0")
    refuse(operator, lambda: operator.repository.publish(folder), "99")


@pytest.mark.slow
def test_a_bundle_that_answers_its_golden_questions_wrongly_is_not_published(
    operator: Operator, bundle: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "has_runtime", lambda: True)
    operator.repository.publish(bundle("good"))
    folder = bundle("bad")
    with np.load(folder / "selftest.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["embeddings"] = arrays["embeddings"][::-1]
    np.savez(folder / "selftest.npz", **arrays)
    describe(folder)
    refuse(operator, lambda: operator.repository.publish(folder), "cosine")


def test_means_of_an_embedder_that_no_bundle_has(
    operator: Operator, bundle: Bundles, means: Bundles
) -> None:
    refuse(operator, lambda: operator.repository.publish_means(means(), "all"), "no published")
    operator.repository.publish(bundle("first"))
    foreign = means(0.1, embedder_sha256="a" * 64)
    refuse(operator, lambda: operator.repository.publish_means(foreign, "all"), "aaaaaaaaaaaa")


def test_means_that_are_none(operator: Operator, bundle: Bundles, tmp_path: Path) -> None:
    operator.repository.publish(bundle("first"))
    file = tmp_path / "x.npz"
    refuse(operator, lambda: operator.repository.publish_means(file, "all"), "cannot be read")
    file.write_bytes(b"PK\x03\x04")
    refuse(operator, lambda: operator.repository.publish_means(file, "all"), f"{file}: not a")


def test_metadata_longer_than_devices_read_is_not_published(
    operator: Operator, bundle: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LIMITS, "targets_max_length", 1000)
    folder = bundle("first")
    refuse(operator, lambda: operator.repository.publish(folder), "withdraw bundles")


def test_a_bundle_that_nobody_runs_can_be_withdrawn(operator: Operator, bundle: Bundles) -> None:
    old, new = (operator.repository.publish(bundle(word)) for word in ("old", "new"))
    operator.repository.assign("all", old)
    refuse(operator, lambda: operator.repository.withdraw(old), "all runs it")
    operator.repository.assign("all", new)
    operator.repository.withdraw(old[:8])
    assert operator.repository.state().bundles() == [new]
    assert not any(old in name for name in operator.files())
    assert operator.runs().bundle == new


# Assigning.


def test_bundles_are_named_by_the_beginning_of_their_ids() -> None:
    first, second = "abcdef" + "0" * 58, "abcdef" + "1" * 58
    assert whole_id([first, second], "abcdef0") == first
    for beginning, why in (
        ("abcdef", "several published bundles begin so"),
        ("fedcba", "no published bundle has such an id"),
        ("abcdef2", "no published bundle has such an id"),
        ("abc", "at least 6 characters"),
        ("", "at least 6 characters"),
    ):
        with pytest.raises(UsageError, match=why):
            whole_id([first, second], beginning)


def test_what_is_not_published_or_not_known_cannot_be_assigned(
    operator: Operator, bundle: Bundles
) -> None:
    published = operator.repository.publish(bundle("first"))
    assign = operator.repository.assign
    refuse(operator, lambda: assign("all", "0" * 64), "status")
    refuse(operator, lambda: assign("group/cows", published), "no such group")
    refuse(operator, lambda: assign("herd/cows", published), "write all")
    refuse(operator, lambda: assign("device/../x", published), "write all")
    refuse(operator, lambda: assign("device/barn-7", None), "no bundle of its own")
    refuse(operator, lambda: operator.repository.regroup("cows", add=["../x"]), "use 2 to 48")


def test_going_back_counts_up(operator: Operator, bundle: Bundles) -> None:
    old, new = (operator.repository.publish(bundle(word)) for word in ("old", "new"))
    seqs = []
    for one in (old, new, old):
        operator.repository.assign("all", one)
        wanted = operator.runs()
        assert wanted.bundle == one
        seqs.append(wanted.assignment)
    assert seqs == sorted(set(seqs))


def test_who_is_put_into_a_group_that_changes_nothing_is_told_nothing_new(
    operator: Operator, bundle: Bundles, means: Bundles
) -> None:
    operator.repository.assign("all", operator.repository.publish(bundle("first")))
    operator.repository.publish_means(means(), "all")
    before = operator.runs()
    operator.repository.regroup("cows", add=["barn-7"])
    after = operator.runs()
    assert (after.assignment, after.means_seq) == (before.assignment, before.means_seq)


def test_a_number_is_never_used_twice(operator: Operator, bundle: Bundles, means: Bundles) -> None:
    """Also when what had it is withdrawn, and when a change has failed after counting."""
    operator.repository.assign("all", operator.repository.publish(bundle("first")))
    first = operator.repository.publish_means(means(), "device/barn-7")
    operator.repository.withdraw_means("device/barn-7")
    assert operator.open().publish_means(means(), "device/barn-7") > first + 1


SCOPES = st.sampled_from(["all", "group/cows", "group/pigs", "device/barn-7"])
ACTS = st.one_of(
    st.tuples(st.just("assign"), SCOPES, st.sampled_from([0, 1, None])),
    st.tuples(st.just("means"), SCOPES, st.sampled_from([0, 1])),
    st.tuples(st.just("withdraw"), SCOPES, st.none()),
    st.tuples(st.just("join"), st.sampled_from(["group/cows", "group/pigs"]), st.none()),
    st.tuples(st.just("leave"), st.sampled_from(["group/cows", "group/pigs"]), st.none()),
)


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(ACTS, min_size=4, max_size=10))
@pytest.mark.slow
def test_whatever_an_operator_does_no_device_is_told_to_count_down(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    acts: list[tuple[str, str, int | None]],
) -> None:
    """And it runs what the scopes say, by a book of our own."""
    monkeypatch.setattr(checking, "has_runtime", lambda: False)
    operator = Operator(tmp_path_factory.mktemp("farm") / "repo")
    repository = operator.repository
    monkeypatch.setattr(
        "deploy.repo.repository.checked_means", lambda file, state: (file.encode(), "e" * 64)
    )
    ids = ["a" * 64, "b" * 64]
    with repository._change() as (_, published):
        for one in ids:
            published.put("models", f"models/{one}/manifest.json", b"{}")
    runs: dict[str, int] = {}
    has: dict[str, str] = {}
    groups: set[str] = set()
    for number, (act, scope, which) in enumerate(acts):
        group = scope.removeprefix("group/")
        try:
            if act == "assign":
                repository.assign(scope, None if which is None else ids[which])
                runs.pop(scope, None) if which is None else runs.update({scope: which})
            elif act == "means":
                text = f"{which} {number}"
                repository.publish_means(text, scope)  # type: ignore[arg-type]
                has[scope] = text
            elif act == "withdraw":
                repository.withdraw_means(scope)
                del has[scope]
            elif act == "join":
                repository.regroup(group, add=["barn-7"])
                groups.add(scope)
            else:
                repository.regroup(group, remove=["barn-7"])
                groups.discard(scope)
                runs.pop(scope, None)
        except UsageError:
            pass
        order = ["device/barn-7", *sorted(groups), "all"]
        bundle = next((ids[runs[one]] for one in order if one in runs), None)
        text = next((has[one] for one in order if one in has), None)
        wanted = operator.device.ask(operator.channel)
        if bundle is None:
            assert wanted is None
            continue
        told = operator.runs()
        assert told.bundle == bundle
        data = None
        if told.means is not None:
            data = b"".join(operator.channel.fetch(told.means.path, limit=100)).decode()
        assert data == text


# Keys.


@pytest.mark.parametrize("role", [*TOP, *ROLES])
def test_a_role_gets_new_keys_and_devices_go_on(
    operator: Operator, bundle: Bundles, role: str
) -> None:
    first = operator.repository.publish(bundle("first"))
    operator.repository.assign("all", first)
    operator.runs()
    old = operator.repository.rotate(role)
    keyids, _ = operator.repository.state().keys_of(role)
    assert not set(old) & set(keyids)
    assert operator.runs().bundle == first
    for keyid in old:
        path = operator.repository.ring.find(role, keyid)
        assert path is not None
        path.unlink()
    second = operator.open().publish(bundle("second"))
    operator.open().assign("all", second)
    assert operator.runs().bundle == second


def test_a_device_that_was_away_for_all_of_it_comes_along(
    operator: Operator, bundle: Bundles
) -> None:
    operator.repository.assign("all", operator.repository.publish(bundle("first")))
    operator.runs()
    for role in ("root", "timestamp", "root", "targets", "snapshot", "models", "root"):
        operator.open().rotate(role)
    assert operator.runs().versions.root > 7


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "models"])
def test_a_lost_key_is_replaced_with_the_roots(
    operator: Operator, bundle: Bundles, role: str
) -> None:
    operator.repository.assign("all", operator.repository.publish(bundle("first")))
    operator.runs()
    keyids, _ = operator.repository.state().keys_of(role)
    path = operator.repository.ring.find(role, keyids[0])
    assert path is not None
    path.unlink()
    refuse(operator, lambda: operator.open().renew([role]), f"signing {role} needs 1 of {role}-")
    operator.open().rotate(role)
    operator.open().renew([role])
    operator.runs()


def test_a_lost_root_key_cannot_be_replaced(operator: Operator) -> None:
    for path in operator.keys.glob("root-*"):
        path.unlink()
    refuse(operator, lambda: operator.open().rotate("root"), "signing root needs 1 of root-")


def test_two_of_three_root_keys_replace_a_lost_one(tmp_path: Path) -> None:
    ring = KeyRing([tmp_path / "keys"], GivenPassphrases(PASSPHRASE), cost=2)
    repository = create_repository(
        tmp_path / "repo", ring, root_keys=3, root_threshold=2, clock=lambda: NOW
    )
    first, second, _ = sorted((tmp_path / "keys").glob("root-*"))
    first.unlink()
    fresh = KeyRing([tmp_path / "keys"], GivenPassphrases(PASSPHRASE), cost=2)
    repository.ring = fresh
    repository.rotate("root")
    assert len(repository.state().keys_of("root")[0]) == 3
    second.unlink()
    repository.rotate("timestamp")


def test_keys_may_lie_in_several_places(
    operator: Operator, bundle: Bundles, means: Bundles, tmp_path: Path
) -> None:
    """The models' and the root's on a stick in a drawer; the herd is tended without."""
    operator.repository.assign("all", operator.repository.publish(bundle("first")))
    drawer = tmp_path / "drawer"
    drawer.mkdir()
    for role in ("root", "targets", "models"):
        for path in operator.keys.glob(f"{role}-*"):
            path.rename(drawer / path.name)
    second = bundle("second")
    refuse(operator, lambda: operator.open().publish(second), "--keys DIR")
    refuse(operator, lambda: operator.open().rotate("means"), "targets-")
    operator.open().publish_means(means(), "all")
    operator.open().renew(["timestamp"])
    published = operator.open(operator.keys, drawer).publish(second)
    operator.open().assign("all", published)
    assert operator.runs().bundle == published


def test_the_timestamps_key_alone_keeps_it_young(operator: Operator, tmp_path: Path) -> None:
    server = tmp_path / "server"
    server.mkdir()
    for path in operator.keys.glob("timestamp-*"):
        shutil.copy(path, server)
    before = operator.open().state().timestamp.expires
    operator.now += timedelta(days=30)
    operator.open(server).renew(["timestamp"])
    assert operator.open().state().timestamp.expires == before + timedelta(days=30)


def test_nothing_is_made_where_something_is(operator: Operator, tmp_path: Path) -> None:
    refuse(operator, lambda: create_repository(operator.folder, operator.ring()), "is there")


@pytest.mark.parametrize(("keys", "threshold"), [(1, 2), (0, 0), (10, 1), (3, 0)])
def test_roots_that_could_never_sign(tmp_path: Path, keys: int, threshold: int) -> None:
    ring = KeyRing([tmp_path / "keys"], GivenPassphrases(PASSPHRASE), cost=2)
    with pytest.raises(UsageError, match="1 to 9"):
        create_repository(
            tmp_path / "repo", ring, root_keys=keys, root_threshold=threshold, clock=lambda: NOW
        )


def test_a_repository_that_could_not_be_made_leaves_no_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(change, "write_durably", fail)
    ring = KeyRing([tmp_path / "stick"], GivenPassphrases(PASSPHRASE), cost=2)
    with pytest.raises(OSError, match="No space"):
        create_repository(tmp_path / "repo", ring, clock=lambda: NOW)
    assert not (tmp_path / "repo").exists()
    assert list((tmp_path / "stick").iterdir()) == []


# What lies in public/ is believed only as far as it is signed.


@pytest.mark.parametrize("name", ["timestamp.json", "2.models.json", "2.snapshot.json"])
def test_a_public_folder_that_somebody_else_has_changed_is_not_signed(
    operator: Operator, bundle: Bundles, name: str
) -> None:
    operator.repository.publish(bundle("first"))
    path = operator.folder / "public" / "metadata" / name
    path.write_bytes(path.read_bytes().replace(b'"version":', b'"version" :', 1)[:-20])
    second = bundle("second")
    refuse(operator, lambda: operator.open().publish(second), "signed")
    path.unlink()
    refuse(operator, lambda: operator.open().publish(second), "restore it")


def test_a_root_that_somebody_else_has_made_is_not_followed(
    operator: Operator, tmp_path: Path
) -> None:
    (tmp_path / "thief").mkdir()
    thief = Operator(tmp_path / "thief" / "repo")
    thief.repository.rotate("root")
    root = Path("public", "metadata", "2.root.json")
    shutil.copy(thief.folder / root, operator.folder / root)
    with pytest.raises(RepositoryDamagedError, match="signed"):
        operator.open().renew(["timestamp"])


def test_assignments_that_somebody_else_has_changed_are_not_signed(
    operator: Operator, bundle: Bundles
) -> None:
    operator.repository.assign("all", operator.repository.publish(bundle("first")))
    path = next((operator.folder / "public" / "targets" / "assignments").iterdir())
    path.write_bytes(path.read_bytes().replace(b"all", b"All"))
    refuse(operator, lambda: operator.open().regroup("cows", add=["barn-7"]), "altered")


def test_an_old_copy_is_not_gone_on_with_unknowingly(
    operator: Operator, bundle: Bundles, tmp_path: Path
) -> None:
    operator.repository.assign("all", operator.repository.publish(bundle("first")))
    shutil.copytree(operator.folder / "public", tmp_path / "old")
    operator.repository.renew(["timestamp", "snapshot"])
    shutil.rmtree(operator.folder / "public")
    (tmp_path / "old").rename(operator.folder / "public")
    with pytest.raises(RepositoryDamagedError, match="older than what was published"):
        operator.open().renew(["timestamp"])


def test_a_restored_repository_goes_on_beyond_what_devices_have_seen(
    operator: Operator, bundle: Bundles, tmp_path: Path
) -> None:
    first = operator.repository.publish(bundle("first"))
    operator.repository.assign("all", first)
    shutil.copytree(operator.folder, tmp_path / "old")
    for _ in range(5):
        operator.repository.assign("all", first)
    lost = operator.runs()
    shutil.rmtree(operator.folder)
    (tmp_path / "old").rename(operator.folder)
    operator.open().assign("all", first)
    with pytest.raises(TrustError, match="older"):
        operator.runs()
    operator.open().renew([], beyond=1000)
    with pytest.raises(TrustError, match="assignment"):
        operator.runs()
    operator.open().assign("all", first)
    assert operator.runs().assignment > lost.assignment


def test_a_new_repository_takes_the_place_of_one_whose_root_was_lost(
    operator: Operator, bundle: Bundles, tmp_path: Path
) -> None:
    operator.repository.assign("all", operator.repository.publish(bundle("first")))
    operator.repository.rotate("timestamp")
    operator.repository.rotate("root")
    lost = operator.runs()
    shutil.rmtree(operator.folder)
    create_repository(operator.folder, operator.ring(), beyond=1000, clock=lambda: operator.now)
    shutil.copy(operator.folder / "root.json", tmp_path / "trust")
    new = operator.open()
    new.assign("all", new.publish(bundle("first")))
    found = operator.runs()
    assert found.assignment > 1000 > lost.assignment
    assert found.versions.root == 1001
    new.rotate("root")
    new.rotate("models")
    assert operator.runs().versions.root == 1002
    new.copy(tmp_path / "stick")
    roots = {path.name for path in tmp_path.glob("stick/metadata/*.root.json")}
    assert roots == {"1001.root.json", "1002.root.json"}
    assert operator.device.ask(FolderChannel(tmp_path / "stick")) == operator.runs()


def test_two_operators_at_once(operator: Operator) -> None:
    handle = os.open(operator.folder / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    refuse(operator, lambda: operator.open().renew(["timestamp"]), "somebody else")
    os.close(handle)
    operator.open().renew(["timestamp"])


@pytest.mark.parametrize("data", [b"", b"{}", b'{"schema": 2, "days": {}}', b'{"days": {"x": 1}}'])
def test_settings_that_are_none(operator: Operator, data: bytes) -> None:
    (operator.folder / "repository.json").write_bytes(data)
    refuse(operator, operator.open, r"repository\.json")


def test_a_folder_that_is_no_repository(operator: Operator, tmp_path: Path) -> None:
    operator.folder = tmp_path / "elsewhere"
    with pytest.raises(UsageError, match="repo init"):
        operator.open()


def test_what_a_bundle_has_changed_into_meanwhile_is_not_published(
    operator: Operator, bundle: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = bundle("first")
    verify = checking.verify_bundle

    def then_change(directory: Path) -> object:
        manifest = verify(directory)
        (directory / "report.html").write_text("<script>")
        return manifest

    monkeypatch.setattr(checking, "verify_bundle", then_change)
    with pytest.raises(BundleError, match="changed while"):
        operator.repository.publish(folder)


def test_names_of_content_are_those_that_devices_ask_for(
    operator: Operator, bundle: Bundles, means: Bundles
) -> None:
    operator.repository.publish(bundle("first"))
    operator.repository.publish_means(means(), "all")
    info = operator.repository.state().roles["means"].targets[means_target("all")]
    assert content_path(info.path, info.hashes["sha256"]) in operator.files()

"""An agent at the heels of its store: what it runs, when it changes, and what it says of that."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge.errors import AcceleratorError, BundleError, EarmarkError
from edge.identity.means import load_means
from edge.release import install
from edge.release.bundle import Bundle, read_manifest
from edge.release.follow import Follower, FrameCount
from edge.release.heartbeat import Heartbeat, read_heartbeat
from edge.release.manifest import decode_manifest
from edge.release.state import read_boot
from edge.release.store import Store, release_name
from tests.edge.release.barn import bundle_files


def load(directory: Path) -> Bundle:
    """Load a bundle, but for its models."""
    model: Any = object()
    means = load_means(directory / "means.npz")
    return Bundle(directory, read_manifest(directory), None, model, means, "cpu")


class Device:
    """A store, and what is put into it. release: of an embedder's name and its animals."""

    def __init__(self, root: Path) -> None:
        self.root, self.store, self.seq = root, Store(root), 0
        self.now_s = 100.0
        install.finish(root)
        self.first = self.stage("one", "cow001")
        self.commit(self.first)
        self.follower = self.start_agent()

    def stage(self, embedder: str, *animals: str) -> str:
        self.seq += 1
        files, _ = bundle_files(embedder, *animals)
        manifest = decode_manifest(files["manifest.json"], "test")
        for file in manifest.files:
            self.store.put_blob(files[file])
        name = release_name(manifest.id, self.seq)
        self.store.stage(name, manifest)
        return name

    def commit(self, name: str) -> None:
        install.commit(self.root, name, self.seq, 0)

    def start_agent(self) -> Follower:
        return Follower(self.root, "boot-1", lambda: self.now_s)

    def beat(self) -> Heartbeat:
        self.follower.beat(backend="cpu", degraded=False)
        beat = read_heartbeat(self.root)
        assert beat is not None
        return beat


@pytest.fixture
def device(memory: Path) -> Device:
    return Device(memory / "store")


def test_it_starts_what_is_current_and_stays_there(device: Device) -> None:
    bundle = device.follower.start(load)
    assert bundle.directory.name == device.first
    assert device.follower.directory == device.store.release(device.first)
    assert device.follower.look(bundle) is None
    assert not device.follower.changed()
    beat = device.beat()
    assert (beat.release, beat.trial, beat.error, beat.pid) == (
        device.first,
        False,
        None,
        os.getpid(),
    )


def test_other_class_means_on_trial_are_taken_over_and_counted(device: Device) -> None:
    bundle = device.follower.start(load)
    name = device.stage("one", "cow001", "cow002")
    install.begin_trial(device.root, name)
    assert device.follower.changed()
    device.now_s += 10
    device.follower.count.frames = 70
    found = device.follower.look(bundle)
    assert isinstance(found, Bundle)
    assert found.means.animals == ("cow001", "cow002")
    assert found.embedder is bundle.embedder
    assert read_boot(device.root).tries == 1
    device.follower.took()
    beat = device.beat()
    assert (beat.release, beat.trial, beat.frames, beat.since_s) == (name, True, 0, 0.0)
    # Committed, it is a release like any other; nothing is loaded again.
    device.commit(name)
    assert device.follower.look(found) is None
    assert (device.beat().release, device.beat().trial) == (name, False)
    assert not device.follower.changed()


def test_class_means_that_are_taken_back_are_taken_over_too(device: Device) -> None:
    bundle = device.follower.start(load)
    install.begin_trial(device.root, device.stage("one", "cow009"))
    found = device.follower.look(bundle)
    assert isinstance(found, Bundle)
    device.follower.took()
    install.roll_back(device.root, "too-slow: no good")
    back = device.follower.look(found)
    assert isinstance(back, Bundle)
    assert back.directory.name == device.first
    device.follower.took()
    assert device.beat().release == device.first


def test_what_was_not_taken_over_is_offered_again(device: Device) -> None:
    bundle = device.follower.start(load)
    install.begin_trial(device.root, device.stage("one", "cow009"))
    assert isinstance(device.follower.look(bundle), Bundle)
    assert device.follower.changed()
    assert isinstance(device.follower.look(bundle), Bundle)
    assert read_boot(device.root).tries == 2
    # Nobody tries for ever.
    assert device.follower.look(bundle) is None
    assert device.beat().release == device.first


def test_other_models_want_a_restart_and_cost_no_try_before_it(device: Device) -> None:
    bundle = device.follower.start(load)
    name = device.stage("two", "cow001")
    install.begin_trial(device.root, name)
    assert device.follower.look(bundle) == "restart"
    assert read_boot(device.root).tries == 0
    follower = device.start_agent()
    assert follower.start(load).directory.name == name
    assert (follower.release, follower.trial, read_boot(device.root).tries) == (name, True, 1)


def test_a_release_that_cannot_be_loaded_is_told_of_and_current_runs(device: Device) -> None:
    name = device.stage("two", "cow001")
    install.begin_trial(device.root, name)

    def choosy(directory: Path) -> Bundle:
        if directory.name == name:
            raise AcceleratorError("no Edge TPU\nis plugged in")
        return load(directory)

    bundle = device.follower.start(choosy)
    assert bundle.directory.name == device.first
    beat = device.beat()
    assert (beat.release, beat.trial) == (device.first, False)
    assert beat.error == f"{name}: no Edge TPU is plugged in"
    # It is not tried again by this agent, and no restart helps.
    assert device.follower.look(bundle) is None
    assert not device.follower.changed()
    assert read_boot(device.root).tries == 1
    install.roll_back(device.root, "not-loaded: no Edge TPU")
    assert device.follower.look(bundle) is None


def test_a_release_that_is_not_whole_any_more_is_passed_over(device: Device) -> None:
    bundle = device.follower.start(load)
    name = device.stage("one", "cow009")
    install.begin_trial(device.root, name)
    torn = device.store.release(name) / "means.npz"
    torn.unlink()
    torn.write_bytes(b"torn")
    assert device.follower.look(bundle) is None
    assert device.beat().release == device.first
    assert read_boot(device.root).tries == 0


def test_what_is_refused_by_who_wanted_to_take_it_over_is_told_of(device: Device) -> None:
    bundle = device.follower.start(load)
    name = device.stage("one", "cow009")
    install.begin_trial(device.root, name)
    assert isinstance(device.follower.look(bundle), Bundle)
    device.follower.refuse(EarmarkError("animal id 'Cow 9' cannot be published"))
    assert device.beat().error == f"{name}: animal id 'Cow 9' cannot be published"
    assert device.follower.look(bundle) is None


def test_no_release_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no release was installed"):
        Follower(tmp_path, "boot").start(load)


def test_a_store_that_loses_its_current_release_stops_nobody(device: Device) -> None:
    bundle = device.follower.start(load)
    (device.root / "current").unlink()
    assert device.follower.look(bundle) is None
    assert device.beat().release == device.first


# -- frames ----------------------------------------------------------------------------------------


@pytest.fixture
def count() -> Callable[..., tuple[FrameCount, Callable[..., None]]]:
    def make() -> tuple[FrameCount, Callable[..., None]]:
        counter = FrameCount()

        def frame(camera: str, tracks: dict[int, str | None], *ended: int) -> None:
            alive = [SimpleNamespace(id=n, settled=True, animal=a) for n, a in tracks.items()]
            gone = [SimpleNamespace(id=n, settled=True, animal=None) for n in ended]
            shown: Any = SimpleNamespace(camera=camera)
            result: Any = SimpleNamespace(tracks=alive, ended=gone)
            counter(shown, result)

        return counter, frame

    return make


def test_frames_and_tracks_are_counted_once_each(count: Callable[..., Any]) -> None:
    counter, frame = count()
    frame("a", {1: None, 2: "cow001"})
    frame("a", {1: "cow002", 2: "cow001"})
    frame("b", {1: None})
    frame("a", {2: "cow001"}, 1)
    assert counter.frames == 4
    assert counter.tracks() == (2, 1)
    counter.reset()
    assert (counter.frames, counter.tracks()) == (0, (0, 0))


def test_tracks_that_never_end_do_not_fill_the_memory(count: Callable[..., Any]) -> None:
    counter, frame = count()
    for number in range(5000):
        frame("a", {number: "cow001"})
    assert counter.tracks() == (5000, 0)
    assert len(counter._alive) <= 4096

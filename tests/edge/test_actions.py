"""What commands do to a running agent: class means, settings, pictures, log level."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from edge import camera_watch
from edge.actions import (
    STILL_LIMIT_BYTES,
    Reloaded,
    carry_out,
    give_means,
    identify,
    plan_reload,
    set_log_level,
    snapshot,
)
from edge.camera_watch import CameraWatch, pipeline_options
from edge.config import (
    AgentConfig,
    CameraConfig,
    LogConfig,
    NamingConfig,
    SightingsConfig,
)
from edge.errors import BundleError, EarmarkError
from edge.files import sha256_file
from edge.identity.means import ClassMeans, load_means, save_means
from edge.messaging import Sighting, SightingLog
from edge.messaging.commands import LevelArguments, Order, Outcome, SnapshotArguments
from edge.messaging.events import Reply, decode, encode
from edge.pipeline import Pipeline
from edge.release.bundle import Bundle, read_manifest, with_other_means
from edge.release.manifest import content_id, decode_manifest, encode_manifest
from edge.vision.types import Frame, Image

DEMO = Path(__file__).parents[2] / "models" / "demo" / "bundle"


class FakeMessenger:
    def __init__(self) -> None:
        self.events: list[Sighting] = []

    def publish(self, events: list[Sighting]) -> None:
        self.events += events


class Barn:
    """Cameras on the herd of coloured blocks, without threads."""

    def __init__(self, bundle: Bundle, picture: Callable[[int], Image], *names: str) -> None:
        self._picture = picture
        self._next = 0
        self.messenger = FakeMessenger()
        self.models = threading.Lock()
        self.watches = {name: self._watch(bundle, name) for name in names}

    def _watch(self, bundle: Bundle, name: str) -> CameraWatch:
        assert bundle.detector is not None
        log = SightingLog(
            device="barn-7",
            camera=name,
            boot="b7",
            release="ab" * 6,
            means_seq=7,
            update_every_s=1000.0,
        )
        pipeline = Pipeline(
            bundle.detector, bundle.embedder, bundle.means, pipeline_options(NamingConfig())
        )
        messenger: Any = self.messenger
        return CameraWatch(pipeline, log, messenger, self.models, keep_last=True)

    def run(self, frames: int) -> None:
        for index in range(self._next, self._next + frames):
            for name, watch in self.watches.items():
                at = datetime.fromtimestamp(1_800_000_000 + index / 10, UTC)
                watch.work(Frame(self._picture(index), name, index, index / 10, at))
        self._next += frames

    def take(self) -> list[Sighting]:
        events, self.messenger.events = self.messenger.events, []
        return events


@pytest.fixture
def barn(herd_bundle: Bundle, herd_frame: Callable[[int], Image]) -> Barn:
    barn = Barn(herd_bundle, herd_frame, "pen")
    barn.run(15)
    return barn


def config(**changes: Any) -> AgentConfig:
    fields: dict[str, Any] = {
        "bundle": "herd",
        "cameras": [CameraConfig(name="pen", source="rtsp://x")],
    }
    return AgentConfig(**{**fields, **changes})


def order(name: str, arguments: Any) -> Order:
    return Order("a-1", name, arguments)


# -- identify --------------------------------------------------------------------------------------


def test_identify_tells_every_open_sighting_again(barn: Barn) -> None:
    before = {event.track: event for event in barn.take() if event.type == "start"}
    barn.run(5)
    assert barn.take() == []
    outcome = identify(barn.watches)
    again = barn.take()
    assert {event.animal for event in again} == {"pig01", "pig02"}
    assert {event.type for event in again} == {"update"}
    assert outcome.result == {"sightings": 2, "animals": 2}
    for event in again:
        assert event.first_seen == before[event.track].first_seen
        assert event.monotonic > before[event.track].monotonic
        assert event.box != before[event.track].box


def test_identify_of_an_empty_barn_tells_nothing(barn: Barn) -> None:
    barn.watches["pen"].end()
    barn.take()
    assert identify(barn.watches).result == {"sightings": 0, "animals": 0}
    assert barn.take() == []


def test_a_camera_that_hangs_is_not_waited_for(
    barn: Barn, monkeypatch: pytest.MonkeyPatch, herd_frame: Callable[[int], Image]
) -> None:
    monkeypatch.setattr(camera_watch, "_TURN_S", 0.05)
    with barn.models:  # as a model that does not answer
        frame = Frame(herd_frame(99), "pen", 99, 9.9, None)
        thread = threading.Thread(target=barn.watches["pen"].work, args=(frame,))
        thread.start()
        while not barn.watches["pen"]._turn.locked():
            pass
        with pytest.raises(EarmarkError, match="a frame has been worked on"):
            identify(barn.watches)
    thread.join()


# -- reload ----------------------------------------------------------------------------------------


def renamed(means: ClassMeans) -> ClassMeans:
    header = msgspec.structs.replace(means.header, seq=8)
    return replace(means, animals=("pig91", "pig92"), header=header)


def test_other_means_name_the_tracks_that_go_on(barn: Barn, herd_bundle: Bundle) -> None:
    tracks = {event.track for event in barn.take()}
    manifest: Any = SimpleNamespace(id="cd" * 32)
    bundle = replace(herd_bundle, manifest=manifest, means=renamed(herd_bundle.means))
    outcome = carry_out(Reloaded(config(), bundle, ("bundle",)), barn.watches)
    assert outcome.result == {"changed": ["bundle"], "release": "cd" * 6, "means_seq": 8}
    barn.run(1)
    events = barn.take()
    assert {event.type for event in events} == {"update"}
    assert {event.animal for event in events} == {"pig91", "pig92"}
    assert {event.track for event in events} == tracks
    assert {(event.release, event.means_seq) for event in events} == {("cd" * 6, 8)}


def test_other_settings_are_taken_over(barn: Barn, herd_bundle: Bundle) -> None:
    barn.take()
    often = config(sightings=SightingsConfig(update_every_s=0.5))
    carry_out(Reloaded(often, herd_bundle, ("sightings",)), barn.watches)
    barn.run(10)
    assert len(barn.take()) >= 2
    never = config(naming=NamingConfig(min_votes=100, unknown_after_s=0.5))
    carry_out(Reloaded(never, herd_bundle, ("naming",)), barn.watches)
    barn.watches["pen"].end()
    barn.take()
    barn.run(20)
    starts = [event for event in barn.take() if event.type == "start"]
    assert starts
    assert {event.animal for event in starts} == {None}


@pytest.fixture
def root_level() -> Iterator[None]:
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)


def test_the_log_level_changes_by_command_and_by_reload(
    barn: Barn, herd_bundle: Bundle, root_level: None
) -> None:
    set_log_level(order("set_log_level", LevelArguments(level="debug")))
    assert logging.getLogger().level == logging.DEBUG
    carry_out(Reloaded(config(), herd_bundle, ("naming",)), barn.watches)
    assert logging.getLogger().level == logging.DEBUG
    quiet = config(log=LogConfig(level="error"))
    carry_out(Reloaded(quiet, herd_bundle, ("log",)), barn.watches)
    assert logging.getLogger().level == logging.ERROR


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"threads": 4}, "threads"),
        ({"cameras": [CameraConfig(name="pen", source="rtsp://y")]}, "cameras"),
        ({"log": LogConfig(format="json")}, "log.format"),
        ({"naming": NamingConfig(min_votes=5), "device": "barn-8"}, "device"),
    ],
)
def test_what_cannot_change_while_running_changes_nothing(
    herd_bundle: Bundle, changes: dict[str, Any], named: str
) -> None:
    plan = plan_reload(config(), config(**changes), herd_bundle)
    assert isinstance(plan, Outcome)
    assert plan.error == "needs-restart"
    assert named in plan.text


def sign_again(bundle: Path) -> None:
    """Make the manifest agree with the files."""
    path = bundle / "manifest.json"
    raw = json.loads(path.read_bytes())
    for name, entry in raw["files"].items():
        entry["sha256"] = sha256_file(bundle / name)
        entry["size"] = (bundle / name).stat().st_size
    manifest = decode_manifest(json.dumps(raw).encode(), "test")
    raw["id"] = content_id(manifest.files)
    path.write_bytes(encode_manifest(decode_manifest(json.dumps(raw).encode(), "test")))


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEMO, tmp_path / "release"))


def running(directory: Path) -> Bundle:
    """The bundle of a folder as if its models were loaded."""
    model: Any = object()
    means = load_means(directory / "means.npz")
    return Bundle(directory, read_manifest(directory), model, model, means, "cpu")


def test_class_means_are_loaded_again_for_the_models_that_run(release: Path) -> None:
    before = running(DEMO)
    same = with_other_means(release, before)
    assert same is not None
    assert same.manifest.id == before.manifest.id
    header = msgspec.structs.replace(before.means.header, seq=before.means.header.seq + 1)
    save_means(replace(before.means, header=header), release / "means.npz")
    sign_again(release)
    plan = plan_reload(config(bundle=str(release)), config(bundle=str(release)), before)
    assert isinstance(plan, Reloaded)
    assert plan.changed == ("bundle",)
    assert plan.bundle.means.header.seq == header.seq
    assert (plan.bundle.detector, plan.bundle.embedder) == (before.detector, before.embedder)


def test_other_models_need_a_restart(release: Path) -> None:
    before = running(DEMO)
    with (release / "detector.tflite").open("ab") as model:
        model.write(b"\0")
    sign_again(release)
    plan = plan_reload(config(), config(bundle=str(release)), before)
    assert isinstance(plan, Outcome)
    assert plan.error == "needs-restart"


def test_a_bundle_that_was_altered_is_refused(release: Path) -> None:
    with (release / "means.npz").open("ab") as means:
        means.write(b"\0")
    with pytest.raises(BundleError, match=r"means\.npz"):
        with_other_means(release, running(DEMO))


def test_class_means_that_the_manifest_does_not_list_are_refused(release: Path) -> None:
    path = release / "manifest.json"
    raw = json.loads(path.read_bytes())
    del raw["files"]["means.npz"]
    path.write_text(json.dumps(raw))
    sign_again(release)
    with pytest.raises(BundleError, match=r"does not list means\.npz"):
        with_other_means(release, running(DEMO))


# -- means -----------------------------------------------------------------------------------------


def test_the_class_means_that_run_are_given_as_they_lie_on_the_disk(release: Path) -> None:
    outcome = give_means(running(release))
    assert outcome.error is None
    data = base64.b64decode(str(outcome.result["npz"]))
    assert data == (release / "means.npz").read_bytes()
    assert outcome.result["digest"] == hashlib.sha256(data).hexdigest()
    said = Reply(schema=1, device="barn-1", boot="b", id="1", ok=True, result=outcome.result)
    assert decode(encode(said), Reply) == said


def test_class_means_that_are_too_large_for_a_reply_go_another_way(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = running(release)
    monkeypatch.setattr("edge.actions.MEANS_LIMIT_BYTES", 1000)
    outcome = give_means(bundle)
    assert outcome.error == "failed"
    assert "over SSH" in outcome.text
    assert outcome.result == {}


def test_class_means_that_were_replaced_meanwhile_are_not_given(release: Path) -> None:
    bundle = running(release)
    (release / "means.npz").write_bytes(b"others")
    outcome = give_means(bundle)
    assert outcome.error == "failed"
    assert "replaced meanwhile" in outcome.text


# -- snapshot --------------------------------------------------------------------------------------


def test_a_snapshot_is_a_small_picture_with_names(barn: Barn) -> None:
    outcome = snapshot(barn.watches, order("snapshot", SnapshotArguments(width=160)))
    assert outcome.error is None
    result = outcome.result
    assert (result["camera"], result["width"], result["height"]) == ("pen", 160, 120)
    assert str(result["at"]).startswith("2027-01-15T")
    data = base64.b64decode(str(result["jpeg"]))
    assert len(data) <= STILL_LIMIT_BYTES
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (120, 160, 3)
    last = barn.watches["pen"].last
    assert last is not None
    bare = cv2.resize(last[0].image, (160, 120), interpolation=cv2.INTER_AREA)
    assert np.abs(picture[..., ::-1].astype(int) - bare).max() > 100  # boxes and names


def test_a_snapshot_of_which_camera(
    herd_bundle: Bundle, herd_frame: Callable[[int], Image]
) -> None:
    barn = Barn(herd_bundle, herd_frame, "pen-1", "pen-2")
    which = snapshot(barn.watches, order("snapshot", SnapshotArguments()))
    assert (which.error, which.text) == ("bad-arguments", "name one of the cameras pen-1, pen-2")
    none = snapshot(barn.watches, order("snapshot", SnapshotArguments(camera="pen-9")))
    assert none.error == "bad-arguments"
    early = snapshot(barn.watches, order("snapshot", SnapshotArguments(camera="pen-2")))
    assert early.error == "failed"
    barn.run(1)
    taken = snapshot(barn.watches, order("snapshot", SnapshotArguments(camera="pen-2")))
    assert taken.result["camera"] == "pen-2"


def test_frames_are_kept_only_where_snapshots_are_allowed(
    barn: Barn, herd_frame: Callable[[int], Image]
) -> None:
    watch = barn.watches["pen"]
    assert watch.last is not None
    assert watch.last[0].index == 14
    watch._keep_last, watch._last = False, None
    barn.run(1)
    assert watch.last is None

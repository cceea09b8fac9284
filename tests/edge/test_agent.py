"""The whole agent with the demo's models: what a subscriber hears of a run and of its end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest

import edge.agent
from edge.agent import Agent, RunSummary
from edge.camera_watch import pipeline_options
from edge.capture.source import SourceOptions
from edge.capture.video import VideoFile
from edge.config import AgentConfig, BrokerConfig, CameraConfig, NamingConfig
from edge.errors import BrokerError, BundleError, EarmarkError, SourceError, UsageError
from edge.messaging import Outbox
from edge.messaging.discovery import ALARM_KINDS
from edge.messaging.events import (
    Alarm,
    Availability,
    LastSeen,
    Sighting,
    StateReport,
    decode,
)
from edge.messaging.local_broker import Mosquitto, free_port
from edge.pipeline import FrameResult
from edge.release.manifest import Manifest, decode_manifest
from edge.video import write_video
from edge.vision.types import Frame

MODELS_DEMO = Path(__file__).parents[2] / "models" / "demo"
FRAMES = 60
ENTRY = "from edge.cli import entry; entry()"

slow = pytest.mark.slow


@pytest.fixture(scope="session")
def short_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first five seconds of the demo's clip."""
    path = tmp_path_factory.mktemp("clip") / "short.mp4"
    clip = VideoFile(MODELS_DEMO / "pen.mp4", "pen", SourceOptions())
    pictures = (frame.image for frame in islice(clip.frames(), FRAMES))
    assert write_video(path, pictures, clip.clip_fps, crf=18) == FRAMES
    return path


def manifest() -> Manifest:
    path = MODELS_DEMO / "bundle" / "manifest.json"
    return decode_manifest(path.read_bytes(), str(path))


def settings(
    state: Path, url: str, cameras: Sequence[tuple[str, Path | str]], **camera: Any
) -> AgentConfig:
    return AgentConfig(
        bundle=str(MODELS_DEMO / "bundle"),
        cameras=[CameraConfig(name=name, source=str(path), **camera) for name, path in cameras],
        device="barn-1",
        state_dir=str(state),
        broker=BrokerConfig(url=url),
    )


def sightings_of(subscriber: Any) -> list[Sighting]:
    return [decode(payload, Sighting) for payload in subscriber.payloads("sighting")]


def statuses_of(subscriber: Any) -> list[str]:
    return [decode(payload, Availability).status for payload in subscriber.payloads("availability")]


def check_pairs(events: Sequence[Sighting]) -> None:
    """Every track begins with its one start and ends with its one end, in the order of seq."""
    assert [event.seq for event in events] == sorted(event.seq for event in events)
    tracks: dict[tuple[str, int], list[str]] = defaultdict(list)
    for event in events:
        tracks[event.camera, event.track].append(event.type)
    assert tracks
    for types in tracks.values():
        assert types[0] == "start"
        assert types[-1] == "end"
        assert set(types[1:-1]) <= {"update"}


class Running:
    """An agent in a thread of its own, as a test needs it that acts while the agent runs."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.summary: RunSummary | None = None
        self.error: EarmarkError | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.summary = self.agent.run()
        except EarmarkError as error:
            self.error = error

    def stop(self) -> None:
        self.agent.stop()
        self._thread.join(60)
        assert not self._thread.is_alive()


@slow
def test_a_subscriber_hears_the_whole_run(
    short_clip: Path,
    tmp_path: Path,
    mosquitto: Mosquitto,
    subscribe: Callable[..., Any],
    wait_until: Callable[..., None],
) -> None:
    subscriber = subscribe(mosquitto.port)
    frames: list[int] = []
    said: list[str] = []
    config = settings(tmp_path / "state", mosquitto.url, [("pen", short_clip)])
    summary = Agent(
        config, observers=[lambda frame, result: frames.append(frame.index)], say=said.append
    ).run()
    wait_until(lambda: "stopped" in statuses_of(subscriber))

    assert frames == list(range(FRAMES))
    assert (summary.frames, summary.dropped, summary.undelivered) == (FRAMES, 0, 0)
    assert summary.protocol == 5
    assert summary.busy_s > 0
    assert said == []

    # Every event that the outbox numbered has arrived, once and in order.
    events = sightings_of(subscriber)
    with Outbox(tmp_path / "state" / "outbox.db") as outbox:
        assert outbox.depth == 0
        assert [event.seq for event in events] == list(range(1, outbox.last_seq + 1))
        assert {event.stream for event in events} == {outbox.stream}
    check_pairs(events)
    animals = set(json.loads((MODELS_DEMO / "truth.json").read_bytes())["animals"])
    named = {event.animal for event in events if event.animal is not None}
    assert named
    assert named <= animals
    for event in events:
        assert (event.device, event.camera, event.replayed) == ("barn-1", "pen", False)
        assert event.release == manifest().id[:12]
        assert 0 <= event.monotonic <= FRAMES / 12
        x1, y1, x2, y2 = event.box
        assert x1 < x2
        assert y1 < y2
    assert statuses_of(subscriber) == ["online", "stopped"]

    # Who comes later still finds how the device is and where everybody was, but no old events.
    later = subscribe(mosquitto.port)
    assert all(message.retained for message in later.messages)
    assert statuses_of(later) == ["stopped"]
    (state,) = (decode(payload, StateReport) for payload in later.payloads("state"))
    # The retained word tells whoever comes later when it was so, and what room there is.
    assert (state.at is None) == (state.clock == "unsynced")
    assert (state.at or ":00.000Z").endswith(":00.000Z")
    assert state.disk_free_mb is not None
    assert state.disk_free_mb % 10 == 0
    assert state.cameras["pen"].status == "ended"
    assert (state.protocol, state.degraded, state.outbox.depth) == ("5", False, 0)
    assert later.payloads("sighting") == []
    boards = {
        message.topic.rpartition("/")[2]: decode(message.payload, LastSeen)
        for message in later.messages
        if "/up/animal/" in message.topic
    }
    assert set(boards) == named
    for animal, board in boards.items():
        assert board.animal == animal
        assert not board.present


@slow
def test_stop_ends_what_is_open(
    short_clip: Path,
    tmp_path: Path,
    mosquitto: Mosquitto,
    subscribe: Callable[..., Any],
    wait_until: Callable[..., None],
) -> None:
    subscriber = subscribe(mosquitto.port)
    config = settings(tmp_path, mosquitto.url, [("pen", short_clip)], loop=True, realtime=True)
    running = Running(Agent(config))
    try:
        wait_until(lambda: sightings_of(subscriber), timeout_s=60)
    finally:
        running.stop()
    assert running.error is None
    assert running.summary is not None
    assert running.summary.undelivered == 0
    wait_until(lambda: "stopped" in statuses_of(subscriber))
    check_pairs(sightings_of(subscriber))


@slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_in_order(
    number: signal.Signals,
    short_clip: Path,
    tmp_path: Path,
    mosquitto: Mosquitto,
    subscribe: Callable[..., Any],
    wait_until: Callable[..., None],
) -> None:
    subscriber = subscribe(mosquitto.port)
    config = tmp_path / "agent.yaml"
    config.write_text(
        f"bundle: {MODELS_DEMO / 'bundle'}\n"
        "device: barn-1\n"
        "state_dir: state\n"
        f"broker: {{url: '{mosquitto.url}'}}\n"
        f"cameras: [{{name: pen, source: {short_clip}, loop: true, realtime: true}}]\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", ENTRY, "run", "--config", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: sightings_of(subscriber), timeout_s=60)
        process.send_signal(number)
        out, complaints = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, complaints
    assert "frames" in out
    assert "Traceback" not in complaints
    wait_until(lambda: "stopped" in statuses_of(subscriber))
    check_pairs(sightings_of(subscriber))


@slow
def test_a_camera_that_breaks_does_not_stop_the_other(
    short_clip: Path,
    tmp_path: Path,
    mosquitto: Mosquitto,
    subscribe: Callable[..., Any],
    wait_until: Callable[..., None],
) -> None:
    yard = tmp_path / "yard"
    yard.mkdir()
    (yard / "a.jpg").write_bytes(b"no picture")
    subscriber = subscribe(mosquitto.port)
    seen: list[tuple[str, int]] = []
    said: list[str] = []
    config = settings(tmp_path, mosquitto.url, [("yard", yard), ("pen", short_clip)])
    agent = Agent(
        config,
        observers=[lambda frame, result: seen.append((frame.camera, frame.index))],
        say=said.append,
    )
    with pytest.raises(SourceError, match=r"a\.jpg"):
        agent.run()
    wait_until(lambda: "stopped" in statuses_of(subscriber))

    assert seen == [("pen", index) for index in range(FRAMES)]
    (alarm,) = (decode(payload, Alarm) for payload in subscriber.payloads("alarm"))
    assert alarm.kind == "camera-lost"
    assert alarm.kind in ALARM_KINDS
    assert "a.jpg" in alarm.text
    assert any("a.jpg" in text for text in said)
    check_pairs(sightings_of(subscriber))
    state = decode(subscriber.payloads("state")[-1], StateReport)
    assert state.degraded
    assert {name: camera.status for name, camera in state.cameras.items()} == {
        "yard": "lost",
        "pen": "ended",
    }


@slow
def test_a_network_camera_that_is_away_raises_the_alarm(
    short_clip: Path,
    tmp_path: Path,
    mosquitto: Mosquitto,
    subscribe: Callable[..., Any],
    wait_until: Callable[..., None],
) -> None:
    subscriber = subscribe(mosquitto.port)
    away = f"http://reader:hay-and-straw@127.0.0.1:{free_port()}/yard"
    frames: list[str] = []
    said: list[str] = []
    config = settings(tmp_path, mosquitto.url, [("yard", away), ("pen", short_clip)])
    running = Running(
        Agent(
            config,
            observers=[lambda frame, result: frames.append(frame.camera)],
            say=said.append,
        )
    )
    try:
        wait_until(lambda: len(frames) == FRAMES and subscriber.payloads("alarm"), timeout_s=90)
    finally:
        running.stop()
    assert running.error is None
    assert set(frames) == {"pen"}
    (alarm,) = (decode(payload, Alarm) for payload in subscriber.payloads("alarm"))
    assert alarm.kind == "camera-lost"
    assert alarm.kind in ALARM_KINDS
    assert "yard" in alarm.text
    assert "hay-and-straw" not in alarm.text + "".join(said)
    wait_until(lambda: "stopped" in statuses_of(subscriber))
    check_pairs(sightings_of(subscriber))


@slow
def test_an_observer_that_fails_is_left_out(
    short_clip: Path,
    tmp_path: Path,
    mosquitto: Mosquitto,
) -> None:
    asked: list[int] = []
    said: list[str] = []

    def failing(frame: Frame, result: FrameResult) -> None:
        asked.append(frame.index)
        raise EarmarkError("no room for pictures")

    config = settings(tmp_path, mosquitto.url, [("pen", short_clip)])
    summary = Agent(config, observers=[failing], say=said.append).run()
    assert summary.frames == FRAMES
    assert asked == [0]
    assert said == ["no room for pictures"]


@slow
def test_what_a_camera_sees_while_the_broker_is_away_is_told_later(
    short_clip: Path,
    tmp_path: Path,
    start_mosquitto: Callable[..., Mosquitto],
    subscribe: Callable[..., Any],
    wait_until: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mosquitto = start_mosquitto()
    mosquitto.stop()
    monkeypatch.setattr(edge.agent, "_CONNECT_S", 0.2)
    monkeypatch.setattr(edge.agent, "_DRAIN_S", 0.2)
    said: list[str] = []
    config = settings(tmp_path, mosquitto.url, [("pen", short_clip)], loop=True)
    with Outbox(tmp_path / "outbox.db"):
        pass
    settled = threading.Event()

    def look(frame: Frame, result: FrameResult) -> None:
        if any(track.settled for track in result.tracks):
            settled.set()

    running = Running(Agent(config, observers=[look], say=said.append))
    try:
        wait_until(settled.is_set, timeout_s=60)
    finally:
        running.stop()
    assert isinstance(running.error, BrokerError)
    assert "not delivered" in str(running.error)
    assert any(f":{mosquitto.port}" in text and "outbox" in text for text in said)
    with Outbox(tmp_path / "outbox.db") as outbox:
        waiting = outbox.last_seq
        assert outbox.depth == waiting >= 2

    mosquitto.start()
    subscriber = subscribe(mosquitto.port)
    monkeypatch.undo()
    Agent(settings(tmp_path, mosquitto.url, [("pen", short_clip)])).run()
    wait_until(lambda: "stopped" in statuses_of(subscriber))
    events = sightings_of(subscriber)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert all(event.replayed for event in events[:waiting])
    assert not any(event.replayed for event in events[waiting:])
    check_pairs(events[:waiting])
    with Outbox(tmp_path / "outbox.db", device="barn-8") as outbox:
        assert "'barn-1'" in str(outbox.foreign)


def test_a_bundle_without_a_detector_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.jpg").touch()
    config = settings(tmp_path, "mqtt://127.0.0.1:1", [("pen", folder)])

    class NoDetector:
        detector = None

    with pytest.raises(BundleError, match="has no detector"):
        Agent(config, load=lambda path, threads: NoDetector()).run()  # type: ignore[arg-type,return-value]
    assert not (tmp_path / "outbox.db").exists()


def test_a_missing_file_is_told_before_models_are_loaded(tmp_path: Path) -> None:
    def load(path: Path, threads: int) -> Any:
        raise AssertionError("loaded")

    config = settings(tmp_path, "mqtt://127.0.0.1:1", [("pen", tmp_path / "no.mp4")])
    with pytest.raises(UsageError, match=r"no\.mp4"):
        Agent(config, load=load).run()


def test_the_settings_reach_the_pipeline() -> None:
    naming = NamingConfig(min_votes=7, min_share=0.9, unknown_after_s=2.5, max_crops=3)
    config = AgentConfig(bundle="b", cameras=[CameraConfig(name="pen", source="x")], naming=naming)
    options = pipeline_options(config.naming)
    evidence = options.evidence
    assert (evidence.min_votes, evidence.min_share, evidence.unknown_after_s) == (7, 0.9, 2.5)
    assert options.embedding.max_crops == 3


@slow
def test_another_tracker_can_be_chosen_by_name(
    short_clip: Path, tmp_path: Path, mosquitto: Mosquitto
) -> None:
    results: list[FrameResult] = []
    config = msgspec.structs.replace(
        settings(tmp_path / "state", mosquitto.url, [("pen", short_clip)]), tracker="nearest-box"
    )
    Agent(config, observers=[lambda frame, result: results.append(result)]).run()
    # It reports what it finds at once, and nothing votes.
    assert results[0].tracks
    assert all(track.animal and not track.votes for track in results[0].tracks)

"""The agent's own part, with models that see colours and a messenger that only listens."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest

import edge.agent
import edge.camera_watch
import edge.correspondence
from edge.agent import Agent, Observer, RunSummary
from edge.camera_watch import pipeline_options
from edge.capture import Link, open_source
from edge.capture.source import StatusListener
from edge.config import (
    AgentConfig,
    CameraConfig,
    NamingConfig,
    OutboxConfig,
    SightingsConfig,
)
from edge.errors import BrokerError, BundleError, EarmarkError, SourceError, UsageError
from edge.messaging import BrokerRefused, BrokerUnreachable, DeviceState, Outbox, Sighting
from edge.pipeline import FrameResult
from edge.release.bundle import Bundle
from edge.vision.types import Detections, Frame, Image

Make = Callable[..., Path]


class FakeMessenger:
    """Keeps what the agent says. `refusal` is raised by wait_connected; `undelivered` by stop."""

    made: list[FakeMessenger] = []  # noqa: RUF012
    refusal: Exception | None = None
    undelivered = 0

    def __init__(
        self, broker: Any, device: str, boot: str, outbox: Any, say: Any, **options: Any
    ) -> None:
        self.device, self.boot = device, boot
        self.events: list[Sighting] = []
        self.alarms: list[tuple[str, str]] = []
        self.states: list[DeviceState] = []
        self.stopped: list[float] = []
        self.protocol: int | None = None
        self.made.append(self)

    def start(self) -> None:
        self.protocol = 5

    def wait_connected(self, timeout_s: float) -> None:
        if self.refusal is not None:
            raise self.refusal

    def publish(self, events: Sequence[Sighting]) -> None:
        self.events += events

    def alarm(self, kind: str, text: str) -> None:
        self.alarms.append((kind, text))

    def set_state(self, state: DeviceState) -> None:
        self.states.append(state)

    def stop(self, timeout_s: float) -> int:
        self.stopped.append(timeout_s)
        self.protocol = None
        return self.undelivered

    def of(self, kind: str, camera: str = "pen") -> list[Sighting]:
        return [e for e in self.events if e.type == kind and e.camera == camera]


@pytest.fixture
def messenger(monkeypatch: pytest.MonkeyPatch) -> type[FakeMessenger]:
    class Fresh(FakeMessenger):
        made: list[FakeMessenger] = []  # noqa: RUF012

    monkeypatch.setattr(edge.correspondence, "Messenger", Fresh)
    return Fresh


class Harness:
    """Builds agents on one state folder, and remembers what they say."""

    def __init__(self, folder: Path, bundle: Bundle) -> None:
        self.said: list[str] = []
        self.bundle = bundle
        self._folder = folder

    def config(self, *cameras: CameraConfig, **changes: Any) -> AgentConfig:
        fields: dict[str, Any] = {
            "bundle": "herd",
            "cameras": list(cameras),
            "device": "barn-7",
            "state_dir": str(self._folder / "state"),
            "sightings": SightingsConfig(update_every_s=1.0),
        }
        return AgentConfig(**{**fields, **changes})

    def agent(
        self, *cameras: CameraConfig, observers: Sequence[Observer] = (), **changes: Any
    ) -> Agent:
        return Agent(
            self.config(*cameras, **changes),
            observers=observers,
            say=self.said.append,
            load=lambda path, threads: self.bundle,
        )


@pytest.fixture
def harness(tmp_path: Path, herd_bundle: Bundle) -> Harness:
    return Harness(tmp_path, herd_bundle)


def camera(source: object, name: str = "pen", **changes: Any) -> CameraConfig:
    return CameraConfig(name=name, source=str(source), **changes)


# -- a file -------------------------------------------------------------------------------------


def test_a_clip_becomes_named_sightings(
    make_herd: Make, harness: Harness, messenger: type[FakeMessenger]
) -> None:
    clip = make_herd(frames=30) / "pen.mp4"
    summary = harness.agent(camera(clip)).run()
    said = messenger.made[0]
    assert {event.animal for event in said.of("start")} == {"pig01", "pig02"}
    assert {event.animal for event in said.of("end")} == {"pig01", "pig02"}
    assert len(said.of("update")) >= 2
    first = said.of("start")[0]
    assert (first.device, first.boot, first.means_seq) == ("barn-7", said.boot, 7)
    assert first.release == "ab" * 6
    assert summary == RunSummary(30, summary.busy_s, 0, 0, 5)
    assert 0 < summary.busy_s < 30
    assert said.states[-1].cameras["pen"].status == "ended"
    assert said.states[-1].backend == "cpu (test)"
    assert said.alarms == []
    assert len(said.stopped) == 1


def test_the_boxes_and_times_are_those_of_the_clip(
    make_herd: Make, harness: Harness, messenger: type[FakeMessenger]
) -> None:
    harness.agent(camera(make_herd(frames=30) / "pen.mp4")).run()
    for event in messenger.made[0].events:
        frame = round(event.monotonic * 10)
        left = 20 + 2 * frame if event.animal == "pig01" else 250 - 2 * frame
        assert event.box[0] * 320 == pytest.approx(left, abs=6)


def test_observers_get_every_frame_with_its_result(
    make_herd: Make, harness: Harness, messenger: type[FakeMessenger]
) -> None:
    seen: list[tuple[Frame, FrameResult]] = []
    clip = make_herd(frames=12) / "pen.mp4"
    harness.agent(camera(clip), observers=[lambda *given: seen.append(given)]).run()
    assert [frame.index for frame, _ in seen] == list(range(12))
    assert all(frame.index == result.index for frame, result in seen)


def test_an_observer_that_fails_is_left_out_and_told(
    make_herd: Make, harness: Harness, messenger: type[FakeMessenger]
) -> None:
    calls = []

    def broken(frame: Frame, result: FrameResult) -> None:
        calls.append(frame.index)
        raise EarmarkError("out.mp4: disk full")

    summary = harness.agent(camera(make_herd(frames=12) / "pen.mp4"), observers=[broken]).run()
    assert summary.frames == 12
    assert calls == [0]
    assert harness.said == ["out.mp4: disk full"]


def test_a_live_camera_is_graded_and_a_file_is_not(
    make_herd: Make,
    harness: Harness,
    messenger: type[FakeMessenger],
    herd_frame: Callable[[int], Image],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Graded(FakeCamera):
        link = Link()

        def frames(self) -> Iterator[Frame]:
            self.link.frame()
            self.link.lost()
            self.link.frame()
            yield self._frame(0)

    monkeypatch.setattr(
        edge.agent,
        "open_source",
        lambda url, name, options, listener: (
            Graded(name, listener, herd_frame)
            if "://" in url
            else open_source(url, name, options, listener)
        ),
    )
    clip = make_herd(frames=3) / "pen.mp4"
    harness.agent(camera("rtsp://camera/x", "yard"), camera(clip)).run()
    cameras = messenger.made[0].states[-1].cameras
    assert (cameras["yard"].grade, cameras["yard"].reconnects) == ("good", 1)
    assert (cameras["pen"].grade, cameras["pen"].reconnects) == (None, 0)


def test_the_rate_of_a_camera_begins_anew_after_an_outage(
    harness: Harness,
    messenger: type[FakeMessenger],
    herd_frame: Callable[[int], Image],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = [100.0]
    clock = SimpleNamespace(monotonic=lambda: now_s[0], perf_counter=time.perf_counter)
    monkeypatch.setattr(edge.camera_watch, "time", clock)
    told: list[tuple[str, float | None]] = []

    class Paced(FakeCamera):
        finite = True

        def frames(self) -> Iterator[Frame]:
            self.listener("up", f"{self.camera}: frames arrive")
            yield from self._paced(0)
            self.listener("lost", f"{self.camera}: no frame for 20 s; trying again")
            now_s[0] += 300
            self.listener("up", f"{self.camera}: frames arrive again")
            yield from self._paced(30)

        def _paced(self, first: int) -> Iterator[Frame]:
            for index in range(first, first + 30):
                now_s[0] += 0.25
                yield self._frame(index)
                state = agent._cameras.states()["pen"]
                told.append((state.status, state.fps))

    monkeypatch.setattr(
        edge.agent,
        "open_source",
        lambda url, name, options, listener: Paced(name, listener, herd_frame),
    )
    agent = harness.agent(camera("rtsp://camera/x"))
    agent.run()
    assert {status for status, _ in told} == {"up"}
    # Four a second before and after; nothing is said of the first seconds, and never "0.0".
    assert {fps for _, fps in told} == {None, 4.0}
    assert (told[29][1], told[30][1], told[59][1]) == (4.0, None, 4.0)


# -- several cameras ----------------------------------------------------------------------------


def test_a_camera_that_fails_does_not_stall_another(
    make_herd: Make, harness: Harness, messenger: type[FakeMessenger], tmp_path: Path
) -> None:
    clip = make_herd(frames=20) / "pen.mp4"
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"not an image")
    agent = harness.agent(camera(clip), camera(folder, "barn"))
    with pytest.raises(SourceError, match=r"a\.png"):
        agent.run()
    said = messenger.made[0]
    assert {event.animal for event in said.of("end", "pen")} == {"pig01", "pig02"}
    assert [kind for kind, _ in said.alarms] == ["camera-lost"]
    assert said.states[-1].cameras["barn"].status == "lost"
    assert said.states[-1].cameras["pen"].status == "ended"
    assert said.states[-1].degraded


def test_a_bug_in_one_camera_is_told_as_its_failure(
    make_herd: Make, harness: Harness, messenger: type[FakeMessenger]
) -> None:
    class Broken:
        score_threshold = 0.5

        def detect(self, image: Image, score_threshold: float | None = None) -> Any:
            raise ZeroDivisionError("odd")

    broken: Any = Broken()
    harness.bundle = replace(harness.bundle, detector=broken)
    with pytest.raises(SourceError, match="camera pen: odd"):
        harness.agent(camera(make_herd(frames=3) / "pen.mp4")).run()
    assert messenger.made[0].alarms == [("camera-lost", "ZeroDivisionError: odd")]


class FakeCamera:
    """A live source whose test hands it frames and losses."""

    live, finite, fps, dropped, link = True, False, None, 3, None

    def __init__(self, name: str, listener: StatusListener, picture: Callable[[int], Image]):
        self.camera, self.listener = name, listener
        self._picture = picture
        self._closed = threading.Event()
        self.now_s = 0.0

    def frames(self) -> Iterator[Frame]:
        self.listener("up", f"{self.camera}: frames arrive")
        for index in range(30):
            yield self._frame(index)
        self.listener("lost", f"{self.camera}: no frame for 20 s; trying again")
        self.now_s += 3600
        self.listener("up", f"{self.camera}: frames arrive again")
        for index in range(30, 60):
            yield self._frame(index)
        self._closed.wait()

    def _frame(self, index: int) -> Frame:
        self.now_s += 0.1
        return Frame(self._picture(index), self.camera, index, self.now_s)

    def close(self) -> None:
        self._closed.set()


def test_sightings_end_when_their_camera_is_lost(
    harness: Harness,
    messenger: type[FakeMessenger],
    herd_frame: Callable[[int], Image],
    monkeypatch: pytest.MonkeyPatch,
    wait_until: Callable[..., None],
) -> None:
    monkeypatch.setattr(
        edge.agent,
        "open_source",
        lambda url, name, options, listener: FakeCamera(name, listener, herd_frame),
    )
    agent = harness.agent(camera("rtsp://camera/x"))
    result: list[RunSummary] = []
    thread = threading.Thread(target=lambda: result.append(agent.run()))
    thread.start()
    wait_until(lambda: messenger.made and len(messenger.made[0].of("start")) == 4, timeout_s=30)
    agent.stop()
    thread.join(30)
    assert not thread.is_alive()
    said = messenger.made[0]
    kinds = [(event.type, event.animal) for event in said.events if event.type != "update"]
    before, after = sorted(kinds[:4]), sorted(kinds[4:])
    assert before == after == [(k, a) for k in ("end", "start") for a in ("pig01", "pig02")]
    # The loss ends them then and there, an hour before the camera is back.
    assert all(event.monotonic < 10 for event in said.of("end")[:2])
    assert said.alarms == [("camera-lost", "pen: no frame for 20 s; trying again")]
    assert len({event.track for event in said.of("start")}) == 4
    assert result[0].dropped == 3


def test_stop_ends_an_endless_source(
    make_herd: Make,
    harness: Harness,
    messenger: type[FakeMessenger],
    wait_until: Callable[..., None],
) -> None:
    agent = harness.agent(camera(make_herd(frames=30) / "pen.mp4", loop=True, realtime=True))
    thread = threading.Thread(target=agent.run)
    thread.start()
    wait_until(lambda: messenger.made and len(messenger.made[0].of("start")) >= 2, timeout_s=30)
    agent.stop()
    thread.join(10)
    assert not thread.is_alive()
    said = messenger.made[0]
    opened = {event.track for event in said.of("start")}
    assert {event.track for event in said.of("end")} == opened
    assert len(said.stopped) == 1


def test_stop_before_the_start_is_not_forgotten(
    make_herd: Make, harness: Harness, messenger: type[FakeMessenger]
) -> None:
    agent = harness.agent(camera(make_herd(frames=30) / "pen.mp4", loop=True))
    agent.stop()
    assert agent.run().frames <= 1


# -- what must not run --------------------------------------------------------------------------


def test_a_bundle_without_a_detector_is_refused(
    make_herd: Make, harness: Harness, messenger: type[FakeMessenger]
) -> None:
    harness.bundle = replace(harness.bundle, detector=None)
    with pytest.raises(BundleError, match="has no detector"):
        harness.agent(camera(make_herd(frames=3) / "pen.mp4")).run()
    assert messenger.made == []


def test_an_animal_that_cannot_be_a_topic_is_refused(
    make_herd: Make, harness: Harness, messenger: type[FakeMessenger]
) -> None:
    means = replace(harness.bundle.means, animals=("pig01", "Pig #2"))
    harness.bundle = replace(harness.bundle, means=means)
    with pytest.raises(UsageError, match="Pig #2"):
        harness.agent(camera(make_herd(frames=3) / "pen.mp4")).run()


def test_a_missing_video_is_told_before_anything_connects(
    harness: Harness, messenger: type[FakeMessenger], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.mp4"):
        harness.agent(camera(tmp_path / "nowhere.mp4")).run()
    assert messenger.made == []


@pytest.mark.parametrize("refusal", [BrokerRefused("no login"), BrokerUnreachable("nobody")])
def test_a_broker_that_says_no_ends_a_run_over_files(
    make_herd: Make, harness: Harness, messenger: type[FakeMessenger], refusal: Exception
) -> None:
    messenger.refusal = refusal
    with pytest.raises(BrokerError, match=str(refusal)):
        harness.agent(camera(make_herd(frames=3) / "pen.mp4")).run()
    assert messenger.made[0].stopped == [0.0]
    assert messenger.made[0].events == []


@pytest.mark.parametrize("kind", [BrokerUnreachable, BrokerRefused])
def test_cameras_go_on_without_a_broker(
    make_herd: Make,
    harness: Harness,
    messenger: type[FakeMessenger],
    wait_until: Callable[..., None],
    kind: type[BrokerError],
) -> None:
    messenger.refusal = kind("broker x: not as you wish")
    agent = harness.agent(camera(make_herd(frames=30) / "pen.mp4", loop=True))
    thread = threading.Thread(target=agent.run)
    thread.start()
    wait_until(lambda: messenger.made and messenger.made[0].of("start"), timeout_s=30)
    agent.stop()
    thread.join(10)
    assert harness.said == ["broker x: not as you wish; sightings wait in the outbox meanwhile"]


def test_undelivered_events_are_a_failure_that_says_where_they_are(
    make_herd: Make, harness: Harness, messenger: type[FakeMessenger]
) -> None:
    messenger.undelivered = 5
    with pytest.raises(BrokerError, match=r"5 events were not delivered.*outbox\.db"):
        harness.agent(camera(make_herd(frames=3) / "pen.mp4")).run()


def test_the_settings_reach_the_pipeline() -> None:
    naming = NamingConfig(min_votes=5, min_share=0.8, unknown_after_s=9.0, max_crops=3)
    config = AgentConfig(bundle="b", cameras=[camera("x.mp4")], naming=naming)
    options = pipeline_options(config.naming)
    evidence = options.evidence
    assert (evidence.min_votes, evidence.min_share, evidence.unknown_after_s) == (5, 0.8, 9.0)
    assert options.embedding.max_crops == 3


def test_the_defaults_are_the_pipeline_s_own() -> None:
    from edge.pipeline import PipelineOptions

    assert pipeline_options(NamingConfig()) == PipelineOptions()


def test_importing_the_agent_loads_no_models_and_no_tensorflow() -> None:
    program = (
        "import sys, edge.agent\n"
        "heavy = {'tensorflow', 'keras', 'ai_edge_litert', 'tflite_runtime'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_camera_lost_while_its_frame_is_worked_on_is_not_up_again(
    harness: Harness,
    messenger: type[FakeMessenger],
    herd_frame: Callable[[int], Image],
    monkeypatch: pytest.MonkeyPatch,
    wait_until: Callable[..., None],
) -> None:
    told = threading.Event()

    class OneFrame(FakeCamera):
        def frames(self) -> Iterator[Frame]:
            self.listener("up", "pen: frames arrive")
            yield self._frame(0)
            self._closed.wait()

    sources: list[OneFrame] = []
    losing: list[threading.Thread] = []

    def open_one(url: str, name: str, options: Any, listener: StatusListener) -> OneFrame:
        sources.append(OneFrame(name, listener, herd_frame))
        return sources[-1]

    class Loses:
        """A detector whose camera is lost, in the camera's thread, before it answers."""

        score_threshold = 0.5

        def detect(self, image: Image, score_threshold: float | None = None) -> Detections:
            losing.append(threading.Thread(target=lambda: sources[0].listener("lost", "pen: lost")))
            losing[0].start()
            wait_until(lambda: "pen: lost" in harness.said)
            told.set()
            return Detections.empty()

    detector: Any = Loses()
    harness.bundle = replace(harness.bundle, detector=detector)
    monkeypatch.setattr(edge.agent, "open_source", open_one)
    agent = harness.agent(camera("rtsp://camera/x"))
    thread = threading.Thread(target=agent.run)
    thread.start()
    assert told.wait(20)
    losing[0].join(20)
    # The states told from now on are those after the frame was done.
    since = len(messenger.made[0].states)
    wait_until(lambda: len(messenger.made[0].states) > since + 1, timeout_s=20)
    assert messenger.made[0].states[-1].cameras["pen"].status == "lost"
    assert messenger.made[0].states[-1].degraded
    agent.stop()
    thread.join(20)


@pytest.mark.parametrize(
    ("ack", "who"), [("broker", "the broker"), ("ingest", "the ingest service")]
)
def test_who_must_take_what_waits_is_told(
    harness: Harness, tmp_path: Path, ack: Literal["broker", "ingest"], who: str
) -> None:
    agent = harness.agent(camera("x.mp4"), outbox=OutboxConfig(ack=ack))
    agent._served.take(harness.bundle)
    with Outbox(tmp_path / "outbox.db") as outbox:
        assert agent._facts(outbox).waits_for == who

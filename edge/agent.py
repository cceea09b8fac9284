"""The agent: sources → pipelines → sightings → outbox and broker, until told to stop."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edge import __version__
from edge.capture import Source, SourceOptions, Status, open_source
from edge.capture.clock import wall_time
from edge.config import AgentConfig, CameraConfig
from edge.errors import BrokerError, BundleError, EarmarkError, SourceError
from edge.identity.evidence import EvidenceOptions
from edge.messaging import (
    BrokerUnreachable,
    CameraState,
    DeviceState,
    Messenger,
    Outbox,
    SightingLog,
    check_animals,
)
from edge.pipeline import EmbeddingOptions, FrameResult, Pipeline, PipelineOptions
from edge.release.bundle import Bundle, load_bundle
from edge.vision.types import Frame

LOG = logging.getLogger("earmark.agent")
_CONNECT_S = 12.0
_DRAIN_S = 15.0
_STATE_EVERY_S = 1.0
_THERMAL = Path("/sys/class/thermal/thermal_zone0/temp")

# Told of every frame that was worked through, in the thread of its camera.
Observer = Callable[[Frame, FrameResult], None]


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What an agent did. busy_s: seconds its pipelines worked. dropped: frames nobody had time for.

    undelivered: events that are still in the outbox. protocol: last MQTT level, 5 or 4 (3.1.1).
    """

    frames: int
    busy_s: float
    dropped: int
    undelivered: int
    protocol: int | None


class Agent:
    """Runs every camera of a device in a thread of its own; the models are shared, one at a time.

    A camera that is lost or fails never stalls another. `run` blocks; `stop` ends it from any
    thread or signal handler.
    """

    def __init__(
        self,
        config: AgentConfig,
        *,
        observers: Sequence[Observer] = (),
        say: Callable[[str], None] = LOG.warning,
        load: Callable[[Path, int], Bundle] = lambda path, threads: load_bundle(
            path, threads=threads
        ),
    ) -> None:
        self._config = config
        self._observers = tuple(observers)
        self._say = say
        self._load = load
        self._device = config.device_id()
        self._boot = uuid.uuid4().hex[:16]
        self._stopping = threading.Event()
        self._models = threading.Lock()
        self._lock = threading.Lock()
        self._cameras: dict[str, CameraState] = {}
        self._failures: list[EarmarkError] = []
        self._frames, self._busy_s, self._dropped = 0, 0.0, 0

    def stop(self) -> None:
        """End `run` soon: open sightings get their end, and the outbox is sent."""
        self._stopping.set()

    def run(self) -> RunSummary:
        """Work until every source has ended or `stop` is called.

        Raises BundleError for a bundle that must not run, SourceError or UsageError for a source
        that cannot be opened, BrokerError when the broker refuses us (or cannot be reached while
        all sources are files), and when events stay undelivered at the end.
        """
        bundle = self._load(Path(self._config.bundle), self._config.threads)
        if bundle.detector is None:
            raise BundleError(
                f"{self._config.bundle}: has no detector, so it names crops only; "
                "use `earmark-edge identify`, or train with frames"
            )
        check_animals(bundle.means.animals)
        sources = [self._open(camera) for camera in self._config.cameras]
        try:
            folder = self._config.state_folder()
            folder.mkdir(parents=True, exist_ok=True)
            with Outbox(folder / "outbox.db") as outbox:
                messenger = Messenger(
                    self._config.broker.options(), self._device, self._boot, outbox, self._say
                )
                messenger.start()
                try:
                    self._connect(messenger, finite=all(source.finite for source in sources))
                    self._work(bundle, sources, messenger)
                finally:
                    # The level is asked for first: a stopped messenger has none.
                    protocol = messenger.protocol
                    undelivered = messenger.stop(_DRAIN_S)
        finally:
            for source in sources:
                source.close()
        if self._failures:
            raise self._failures[0]
        if undelivered:
            raise BrokerError(
                f"{undelivered} events were not delivered; they are kept in "
                f"{folder / 'outbox.db'} and are sent by the next run"
            )
        return RunSummary(self._frames, self._busy_s, self._dropped, undelivered, protocol)

    def _open(self, camera: CameraConfig) -> Source:
        options = SourceOptions(fps=camera.fps, realtime=camera.realtime, loop=camera.loop)
        self._cameras[camera.name] = CameraState(status="up")

        def listener(status: Status, text: str) -> None:
            self._camera_changed(camera.name, status, text)

        return open_source(camera.source, camera.name, options, listener)

    def _connect(self, messenger: Messenger, *, finite: bool) -> None:
        try:
            messenger.wait_connected(_CONNECT_S)
        except BrokerUnreachable as error:
            # Files end, and nobody would hear of them. A barn's cameras go on: events wait on disk.
            if finite:
                raise
            self._say(f"{error}; sightings wait in the outbox meanwhile")

    def _work(self, bundle: Bundle, sources: Sequence[Source], messenger: Messenger) -> None:
        self._messenger = messenger
        threads = [
            threading.Thread(
                target=self._camera, args=(bundle, source), name=f"camera-{source.camera}"
            )
            for source in sources
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            self._tell_state(bundle)
            if self._stopping.wait(_STATE_EVERY_S if len(threads) > 1 else 0.2):
                for source in sources:
                    source.close()
                break
            if len(threads) == 1:
                threads[0].join(_STATE_EVERY_S - 0.2)
        for thread in threads:
            thread.join()
        self._tell_state(bundle)

    def _camera(self, bundle: Bundle, source: Source) -> None:
        """Work through one source; whatever goes wrong stays this camera's."""
        try:
            self._follow(bundle, source)
            self._set_camera(source.camera, CameraState(status="ended"))
        except EarmarkError as error:
            self._camera_changed(source.camera, "lost", str(error))
            self._failures.append(error)
        except Exception as error:
            LOG.exception("camera %s", source.camera)
            self._camera_changed(source.camera, "lost", f"{type(error).__name__}: {error}")
            self._failures.append(SourceError(f"camera {source.camera}: {error}"))

    def _follow(self, bundle: Bundle, source: Source) -> None:
        assert bundle.detector is not None
        pipeline = Pipeline(
            bundle.detector, bundle.embedder, bundle.means, pipeline_options(self._config)
        )
        log = SightingLog(
            device=self._device,
            camera=source.camera,
            boot=self._boot,
            release=bundle.manifest.id[:12],
            means_seq=bundle.means.header.seq,
            update_every_s=self._config.sightings.update_every_s,
            hold_s=self._config.sightings.hold_s,
        )
        rate = _Rate()
        try:
            for frame in source.frames():
                with self._models:
                    started = time.perf_counter()
                    result = pipeline.process(frame)
                    busy_s = time.perf_counter() - started
                self._messenger.publish(log.observe(frame, result.tracks, result.ended))
                self._count(source, busy_s, rate)
                for observer in self._observers:
                    observer(frame, result)
                if self._stopping.is_set():
                    break
        finally:
            self._messenger.publish(log.close(pipeline.finish()))
            self._dropped += source.dropped

    def _count(self, source: Source, busy_s: float, rate: _Rate) -> None:
        with self._lock:
            self._frames += 1
            self._busy_s += busy_s
        self._set_camera(source.camera, CameraState(status="up", fps=rate.tick()))

    def _set_camera(self, camera: str, state: CameraState) -> None:
        with self._lock:
            self._cameras[camera] = state

    def _camera_changed(self, camera: str, status: Status, text: str) -> None:
        """Note that a camera came or went; tell it, and raise the alarm when it went."""
        self._set_camera(camera, CameraState(status=status))
        self._say(text)
        messenger = getattr(self, "_messenger", None)
        if status == "lost" and messenger is not None:
            messenger.alarm("camera-lost", text[:500])

    def _tell_state(self, bundle: Bundle) -> None:
        with self._lock:
            cameras = dict(self._cameras)
        self._messenger.set_state(
            DeviceState(
                agent=__version__,
                release=bundle.manifest.id[:12],
                means_seq=bundle.means.header.seq,
                backend=bundle.backend,
                degraded=any(camera.status == "lost" for camera in cameras.values()),
                cameras=cameras,
                clock="synced" if wall_time() is not None else "unsynced",
                temperature=_temperature(),
            )
        )


class _Rate:
    """Frames per second over the last few seconds, rounded so that the state seldom changes."""

    def __init__(self) -> None:
        self._since_s = time.monotonic()
        self._frames = 0
        self._fps: float | None = None

    def tick(self) -> float | None:
        self._frames += 1
        elapsed_s = time.monotonic() - self._since_s
        if elapsed_s >= 5:
            self._fps = round(self._frames / elapsed_s, 1)
            self._since_s, self._frames = time.monotonic(), 0
        return self._fps


def pipeline_options(config: AgentConfig) -> PipelineOptions:
    """Return the pipeline's options as the settings want them."""
    naming, usual = config.naming, PipelineOptions()
    evidence: EvidenceOptions = replace(
        usual.evidence,
        min_votes=naming.min_votes,
        min_share=naming.min_share,
        unknown_after_s=naming.unknown_after_s,
    )
    embedding: EmbeddingOptions = replace(usual.embedding, max_crops=naming.max_crops)
    return replace(usual, evidence=evidence, embedding=embedding)


def _temperature() -> float | None:
    """Return the processor's temperature in whole degrees Celsius, where the system tells it."""
    try:
        return float(round(int(_THERMAL.read_text()) / 1000))
    except (OSError, ValueError):
        return None

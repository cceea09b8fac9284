"""The agent: sources → pipelines → sightings → outbox and broker, until told to stop."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from edge import __version__
from edge.actions import carry_out, identify, plan_reload, set_log_level, snapshot
from edge.camera_watch import CameraWatch, FrameRate, pipeline_options
from edge.capture import Link, Source, SourceOptions, Status, open_source
from edge.capture.clock import believe_system, wall_time
from edge.comparison import make_tracker
from edge.config import AgentConfig, CameraConfig
from edge.correspondence import Correspondence
from edge.errors import BrokerError, BundleError, EarmarkError, SourceError
from edge.health import CommandNumbers, Facts, Release, Watch, parse_listen
from edge.inference import Inference
from edge.inference.supervised import Event
from edge.messaging import (
    CameraState,
    DeviceState,
    Messenger,
    Outbox,
    SightingLog,
    check_animals,
)
from edge.messaging.commands import Order, Outcome
from edge.orders import Action
from edge.pipeline import FrameResult
from edge.release.bundle import Bundle
from edge.serving import serve_bundle
from edge.vision.types import Frame
from edge.vision.view import ViewedDetector

LOG = logging.getLogger("earmark.agent")
_CONNECT_S = 12.0
_DRAIN_S = 15.0
_STATE_EVERY_S = 1.0
# What a frame in hand may take after `stop`; an accelerator that hangs takes for ever.
_LAST_FRAME_S = 5.0
_TAKERS = {"broker": "the broker", "ingest": "the ingest service"}
_THERMAL = Path("/sys/class/thermal/thermal_zone0/temp")

# Told of every frame that was worked through, in the thread of its camera.
Observer = Callable[[Frame, FrameResult], None]


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What an agent did. busy_s: seconds its pipelines worked. dropped: frames nobody had time for.

    undelivered: events that are still in the outbox. protocol: last MQTT level, 5 or 4 (3.1.1).
    restart: a command asked for it; whoever started the agent should start it again.
    """

    frames: int
    busy_s: float
    dropped: int
    undelivered: int
    protocol: int | None
    restart: bool = False


class Agent:
    """Runs every camera of a device in a thread of its own; the models are shared, one at a time.

    A camera that is lost or fails never stalls another; its open sightings end, and an alarm says
    so. An observer that fails is told of and left out. `run` blocks, once; `stop` ends it from any
    thread or signal handler.

    reread: returns the settings as they are on disk now, for the command `reload`; without it
    only class means are loaded again. check_update: what the command of that name calls; returns
    what it found, for people.
    """

    def __init__(
        self,
        config: AgentConfig,
        *,
        observers: Sequence[Observer] = (),
        say: Callable[[str], None] = LOG.warning,
        load: Callable[[Path, int], Bundle] | None = None,
        reread: Callable[[], AgentConfig] | None = None,
        check_update: Callable[[], str] | None = None,
    ) -> None:
        self._config = config
        self._reread = reread
        self._check_update = check_update
        self._bundle: Bundle | None = None
        self._letters: Correspondence | None = None
        self._restart = False
        self._observers = list(observers)
        self._say = say
        self._load = load
        self._inference: Inference | None = None
        self._health: Watch | None = None
        self._early_alarms: list[tuple[str, str]] = []
        self._device = config.device_id()
        self._boot = uuid.uuid4().hex[:16]
        self._stopping = False
        # Unlike an event's, its `put` may interrupt its own `get`, as a signal handler does.
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._models = threading.Lock()
        self._lock = threading.Lock()
        self._messenger: Messenger | None = None
        self._watches: dict[str, CameraWatch] = {}
        self._cameras: dict[str, CameraState] = {}
        self._links: dict[str, Link | None] = {}
        self._rates: dict[str, FrameRate] = {}
        self._failures: list[EarmarkError] = []
        self._connecting = True
        self._held_back: list[str] = []
        self._frames, self._busy_s, self._dropped = 0, 0.0, 0

    def stop(self) -> None:
        """End `run` soon: open sightings get their end, and the outbox is sent."""
        self._stopping = True
        self._wake.put(None)
        # Nothing that is being loaded is worth waiting for; a frame in hand is, see `_join`.
        if self._messenger is None and self._inference is not None:
            self._inference.stop()

    def run(self) -> RunSummary:
        """Work until every source has ended or `stop` is called.

        Raises BundleError for a bundle that must not run, SourceError or UsageError for a source
        that cannot be opened, BrokerError when the broker cannot be reached or refuses us while all
        sources are files, and when events stay undelivered at the end.
        """
        if self._config.clock == "system":
            believe_system()
        # Sources first: a mistyped file name is told at once, before models are loaded.
        sources = [self._open(camera) for camera in self._config.cameras]
        try:
            try:
                self._bundle = bundle = self._checked_bundle()
            except EarmarkError:
                # Whoever asked for the end while models were being loaded wants no error.
                if not self._stopping:
                    raise
                return RunSummary(0, 0.0, 0, 0, None)
            folder = self._config.state_folder()
            folder.mkdir(parents=True, exist_ok=True)
            with Outbox(
                folder / "outbox.db", device=self._device, **self._config.outbox.limits()
            ) as outbox:
                letters = self._letters = Correspondence(
                    self._config,
                    self._boot,
                    folder,
                    outbox,
                    self._actions(),
                    wake=lambda: self._wake.put(None),
                    hear=self._hear,
                )
                messenger = letters.messenger
                # Before anything connects: a port that is taken ends the run in one line.
                self._health = self._watch_over(folder, outbox)
                messenger.start()
                drain_s = 0.0
                try:
                    self._connect(messenger, finite=all(source.finite for source in sources))
                    drain_s = _DRAIN_S
                    self._work(bundle, sources, letters)
                finally:
                    # The level is asked for first: a stopped messenger has none.
                    protocol = messenger.protocol
                    self._health.close()
                    undelivered = letters.close(drain_s)
        finally:
            for source in sources:
                source.close()
            if self._inference is not None:
                self._inference.close()
        summary = RunSummary(
            self._frames, self._busy_s, self._dropped, undelivered, protocol, self._restart
        )
        if self._restart:
            # What went wrong has been told; what waits is sent by the next run, which comes now.
            return summary
        if self._failures:
            raise self._failures[0]
        if undelivered:
            raise BrokerError(
                f"{undelivered} events were not delivered; they are kept in "
                f"{folder / 'outbox.db'} and are sent by the next run"
            )
        return summary

    def _actions(self) -> dict[str, Action]:
        actions: dict[str, Action] = {
            "identify": lambda order: identify(self._watches),
            "restart": self._restart_ordered,
            "reload": lambda order: self._reload(),
            "set_log_level": set_log_level,
            "snapshot": lambda order: snapshot(self._watches, order),
        }
        check = self._check_update
        if check is not None:
            actions["check_update"] = lambda order: Outcome(text=check())
        return actions

    def _restart_ordered(self, order: Order) -> Outcome:
        assert self._letters is not None
        self._letters.note_restart(order)
        self._restart = True
        self.stop()
        return Outcome(text="the agent ends and is started again")

    def _reload(self) -> Outcome:
        config = self._config if self._reread is None else self._reread()
        plan = plan_reload(self._config, config, self._running)
        if isinstance(plan, Outcome):
            return plan
        outcome = carry_out(plan, self._watches)
        self._config, self._bundle = plan.config, plan.bundle
        assert self._letters is not None
        self._letters.announce(plan.bundle.means.animals)
        return outcome

    @property
    def _running(self) -> Bundle:
        assert self._bundle is not None
        return self._bundle

    @property
    def _release(self) -> Release:
        return Release(self._running.manifest.id[:12], self._running.means.header.seq)

    def _checked_bundle(self) -> Bundle:
        bundle = self._loaded_bundle(Path(self._config.bundle))
        if bundle.detector is None:
            raise BundleError(
                f"{self._config.bundle}: has no detector, so it names crops only; "
                "use `earmark-edge identify`, or train with frames"
            )
        check_animals(bundle.means.animals)
        return bundle

    def _loaded_bundle(self, directory: Path) -> Bundle:
        if self._load is not None:
            return self._load(directory, self._config.threads)
        settings = self._config.inference
        serving = serve_bundle(
            directory,
            accelerator=settings.accelerator,
            require=settings.require,
            threads=self._config.threads,
            stuck_s=settings.stuck_s,
            listener=self._inference_changed,
            begun=self._inference_begun,
        )
        self._inference = serving.inference
        return serving.bundle

    def _inference_begun(self, inference: Inference) -> None:
        self._inference = inference
        if self._stopping:
            inference.stop()

    def _inference_changed(self, event: Event, text: str) -> None:
        """Tell that inference was interrupted and goes on; frames wait meanwhile."""
        self._say(text)
        if event == "failed":  # what comes of it is told as well
            return
        code = "inference-restarted" if event == "restarted" else "accelerator-lost"
        if self._messenger is None:
            self._early_alarms.append((code, text[:500]))
        else:
            self._messenger.alarm(code, text[:500])

    def _open(self, camera: CameraConfig) -> Source:
        options = SourceOptions(
            fps=camera.fps, realtime=camera.realtime, loop=camera.loop, stall_s=camera.stall_s
        )
        self._cameras[camera.name] = CameraState(status="up")

        def listener(status: Status, text: str) -> None:
            self._camera_changed(camera.name, status, text)

        source = open_source(camera.source, camera.name, options, listener)
        self._links[camera.name] = source.link
        return source

    def _connect(self, messenger: Messenger, *, finite: bool) -> None:
        try:
            messenger.wait_connected(_CONNECT_S)
        except BrokerError as error:
            # Files end, and nobody would hear of them. A barn's cameras go on: events wait on disk,
            # and what is refused after a power cut may be allowed when all of it is up again.
            if finite:
                raise
            self._held_back.clear()
            self._say(f"{error}; sightings wait in the outbox meanwhile")
        self._connecting = False
        for text in self._held_back:
            self._say(text)

    def _watch_over(self, folder: Path, outbox: Outbox) -> Watch:
        settings = self._config.health
        listen = parse_listen(settings.listen, remote=True) if settings.listen else None
        watch = Watch(
            folder,
            [camera.name for camera in self._config.cameras],
            lambda: self._facts(outbox),
            lambda: self._release,
            listen=listen,
            keep_crops=self._config.crops.keep,
            warn=self._say,
        )
        if watch.crops is not None:
            self._observers.append(watch.crops)
        return watch

    def _facts(self, outbox: Outbox) -> Facts:
        inference = self._inference
        oldest, now = outbox.oldest, wall_time()
        waited = None if oldest is None or now is None else now - datetime.fromisoformat(oldest)
        return Facts(
            backend=self._running.backend if inference is None else inference.backend,
            degraded=inference is not None and inference.degraded,
            release=self._release.bundle,
            agent=__version__,
            inference_restarts=0 if inference is None else inference.restarted,
            outbox_depth=outbox.depth,
            outbox_share=outbox.share,
            waits_for=_TAKERS[self._config.outbox.ack],
            outbox_age_s=None if waited is None else max(0.0, waited.total_seconds()),
            temperature_c=_temperature(),
            commands=CommandNumbers() if self._letters is None else self._letters.commands,
        )

    def _hear(self, text: str) -> None:
        """Pass on what the MQTT client says; what leads to an error is told by the error alone."""
        if self._connecting:
            self._held_back.append(text)
        else:
            self._say(text)

    def _work(self, bundle: Bundle, sources: Sequence[Source], letters: Correspondence) -> None:
        self._messenger = messenger = letters.messenger
        for code, text in self._early_alarms:
            messenger.alarm(code, text)
        for source in sources:
            self._watches[source.camera] = self._watch(bundle, source.camera, messenger)
        letters.announce(bundle.means.animals)
        threads = [
            threading.Thread(target=self._camera, args=(source,), name=f"camera-{source.camera}")
            for source in sources
        ]
        for thread in threads:
            thread.start()
        assert self._health is not None
        self._health.ready(f"watching {len(sources)} cameras")
        period_s = min(_STATE_EVERY_S, self._health.period_s or _STATE_EVERY_S)
        while any(thread.is_alive() for thread in threads) and not self._stopping:
            messenger.set_state(self._state())
            self._health.tick()
            letters.work()
            with contextlib.suppress(queue.Empty):
                self._wake.get(timeout=period_s)
        for source in sources:
            source.close()
        self._join(threads)
        messenger.set_state(self._state())

    def _join(self, threads: Sequence[threading.Thread]) -> None:
        """Wait for the cameras' threads to end, and for inference only so long."""
        end_s = time.monotonic() + _LAST_FRAME_S
        for thread in threads:
            thread.join(max(0.0, end_s - time.monotonic()))
        if self._inference is not None:
            self._inference.stop()
        for thread in threads:
            thread.join()

    def _watch(self, bundle: Bundle, camera: str, messenger: Messenger) -> CameraWatch:
        assert bundle.detector is not None
        options = pipeline_options(self._config.naming)
        (view,) = (one.view() for one in self._config.cameras if one.name == camera)
        eye = bundle.detector if view.whole else ViewedDetector(bundle.detector, view)
        pipeline = make_tracker(self._config.tracker, eye, bundle.embedder, bundle.means, options)
        log = SightingLog(
            device=self._device,
            camera=camera,
            boot=self._boot,
            release=bundle.manifest.id[:12],
            means_seq=bundle.means.header.seq,
            update_every_s=self._config.sightings.update_every_s,
            hold_s=self._config.sightings.hold_s,
        )
        keep = self._config.commands.enabled and self._config.commands.snapshots
        return CameraWatch(pipeline, log, messenger, self._models, keep_last=keep)

    def _camera(self, source: Source) -> None:
        """Work through one source; whatever goes wrong stays this camera's."""
        try:
            self._follow(source, self._watches[source.camera])
            self._set_camera(source.camera, CameraState(status="ended"))
        except EarmarkError as error:
            if self._inference is not None and self._inference.stopped:
                self._set_camera(source.camera, CameraState(status="ended"))
                return
            self._camera_changed(source.camera, "lost", str(error))
            self._failures.append(error)
            if self._inference is not None and self._inference.failure is not None:
                # Cameras that wait for frames would never hear of it.
                self._stopping = True
        except Exception as error:
            LOG.exception("camera %s", source.camera)
            self._camera_changed(source.camera, "lost", f"{type(error).__name__}: {error}")
            self._failures.append(SourceError(f"camera {source.camera}: {error}"))
        finally:
            self._wake.put(None)

    def _follow(self, source: Source, watch: CameraWatch) -> None:
        self._rates[source.camera] = FrameRate()
        try:
            for frame in source.frames():
                assert self._health is not None
                self._health.begin(source.camera)
                result, busy_s, told = watch.work(frame)
                self._health.done(source.camera, busy_s, told, source.dropped)
                self._count(source, busy_s)
                self._show(frame, result)
                if self._stopping:
                    break
        finally:
            assert self._health is not None
            self._health.idle(source.camera)
            watch.end()
            self._dropped += source.dropped

    def _count(self, source: Source, busy_s: float) -> None:
        fps = self._rates[source.camera].tick()
        with self._lock:
            self._frames += 1
            self._busy_s += busy_s
            # A camera that was lost while its last frame was worked on stays lost.
            if self._cameras[source.camera].status == "up":
                self._cameras[source.camera] = CameraState(status="up", fps=fps)

    def _show(self, frame: Frame, result: FrameResult) -> None:
        for observer in list(self._observers):
            try:
                observer(frame, result)
            except Exception as error:
                LOG.debug("observer", exc_info=True)
                # What people look at is worth less than what the broker hears.
                with self._lock, contextlib.suppress(ValueError):
                    self._observers.remove(observer)
                self._say(str(error) or type(error).__name__)

    def _set_camera(self, camera: str, state: CameraState) -> None:
        with self._lock:
            self._cameras[camera] = state

    def _camera_changed(self, camera: str, status: Status, text: str) -> None:
        """Note that a camera came or went; tell it, and raise the alarm when it went."""
        self._set_camera(camera, CameraState(status=status))
        # The time away is no time of few frames.
        self._rates[camera] = FrameRate()
        if self._health is not None:
            self._health.camera(camera, up=status == "up")
        self._say(text)
        if status == "lost" and self._messenger is not None:
            # Nobody is seen by a camera that is away, for however long that may be.
            self._watches[camera].end()
            self._messenger.alarm("camera-lost", text[:500])

    def _graded(self, camera: str, state: CameraState) -> CameraState:
        link = self._links.get(camera)
        if link is None:
            return state
        report = link.report()
        return CameraState(
            status=state.status,
            fps=state.fps,
            grade=report.grade,
            reconnects=report.reconnects,
            stalls=report.stalls,
        )

    def _state(self) -> DeviceState:
        with self._lock:
            cameras = {name: self._graded(name, state) for name, state in self._cameras.items()}
        inference = self._inference
        return DeviceState(
            agent=__version__,
            release=self._release.bundle,
            means_seq=self._release.means_seq,
            backend=self._running.backend if inference is None else inference.backend,
            degraded=(inference is not None and inference.degraded)
            or any(camera.status == "lost" for camera in cameras.values()),
            cameras=cameras,
            clock="synced" if wall_time() is not None else "unsynced",
            temperature=_temperature(),
            animals=len(frozenset().union(*(w.animals for w in self._watches.values()))),
        )


def _temperature() -> float | None:
    """Return the processor's temperature in whole degrees Celsius, where the system tells it."""
    try:
        return float(round(int(_THERMAL.read_text()) / 1000))
    except (OSError, ValueError):
        return None

"""The agent: sources → pipelines → sightings → outbox and broker, until told to stop."""

from __future__ import annotations

import contextlib
import logging
import queue
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from edge import __version__
from edge.actions import carry_out, give_means, identify, plan_reload, set_log_level, snapshot
from edge.camera_board import CameraBoard
from edge.camera_watch import CameraWatch, pipeline_options
from edge.capture import Source, SourceOptions, Status, open_source
from edge.capture.clock import believe_system, wall_time
from edge.comparison import make_tracker
from edge.config import MQTT_CHANNEL, AgentConfig, CameraConfig
from edge.correspondence import Correspondence
from edge.errors import BrokerError, EarmarkError, SourceError
from edge.health import CommandNumbers, Facts, Watch, parse_listen
from edge.inference.supervised import Event
from edge.messaging import (
    DeviceState,
    Messenger,
    Outbox,
    SightingLog,
)
from edge.messaging.commands import Order, Outcome
from edge.messaging.events import timestamp
from edge.orders import Action
from edge.pipeline import FrameResult
from edge.releases import Releases
from edge.served import Load, Served
from edge.vision.look import CropEmbedder
from edge.vision.types import Frame
from edge.vision.view import ViewedDetector

LOG = logging.getLogger("earmark.agent")
_CONNECT_S = 12.0
_DRAIN_S = 15.0
_STATE_EVERY_S = 1.0
# How soon another release that the store selects is taken note of.
_RELEASE_EVERY_S = 0.25
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
    only class means are loaded again. load: what loads bundles, instead of the settings.
    """

    def __init__(
        self,
        config: AgentConfig,
        *,
        observers: Sequence[Observer] = (),
        say: Callable[[str], None] = LOG.warning,
        load: Load | None = None,
        reread: Callable[[], AgentConfig] | None = None,
    ) -> None:
        self._config = config
        self._reread = reread
        self._letters: Correspondence | None = None
        self._restart = False
        self._observers = list(observers)
        self._say = say
        self._served = Served(
            config.inference, config.threads, load=load, listener=self._inference_changed
        )
        self._health: Watch | None = None
        self._early_alarms: list[tuple[str, str]] = []
        self._device = config.device_id()
        self._boot = uuid.uuid4().hex[:16]
        root = config.updates.root()
        self._releases = None
        if root is not None:
            spool = MQTT_CHANNEL in config.updates.channels
            self._releases = Releases(root, self._device, self._boot, say, spool=spool)
        self._stopping = False
        # Unlike an event's, its `put` may interrupt its own `get`, as a signal handler does.
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._models = threading.Lock()
        self._lock = threading.Lock()
        self._messenger: Messenger | None = None
        self._watches: dict[str, CameraWatch] = {}
        self._cameras = CameraBoard()
        self._failures: list[EarmarkError] = []
        self._connecting = True
        self._held_back: list[str] = []
        self._frames, self._busy_s, self._dropped = 0, 0.0, 0

    def stop(self) -> None:
        """End `run` soon: open sightings get their end, and the outbox is sent."""
        self._stopping = True
        self._wake.put(None)
        # Nothing that is being loaded is worth waiting for; a frame in hand is, see `_join`.
        if self._messenger is None:
            self._served.hurry()

    def run(self) -> RunSummary:
        """Work until every source has ended or `stop` is called.

        Raises BundleError for a bundle that must not run, SourceError or UsageError for a source
        that cannot be opened, BrokerError when the broker cannot be reached or refuses us while all
        sources are files, and when events stay undelivered at the end.
        """
        if self._config.clock == "system":
            believe_system()
        alone = contextlib.nullcontext() if self._releases is None else self._releases.alone()
        with alone:
            return self._run()

    def _run(self) -> RunSummary:
        # Sources first: a mistyped file name is told at once, before models are loaded.
        sources = [self._open(camera) for camera in self._config.cameras]
        try:
            try:
                self._load()
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
                    handlers={} if self._releases is None else self._releases.handlers,
                )
                messenger = letters.messenger
                # Before anything connects: a port that is taken ends the run in one line.
                self._health = self._watch_over(folder, outbox)
                messenger.start()
                drain_s = 0.0
                try:
                    self._connect(messenger, finite=all(source.finite for source in sources))
                    drain_s = _DRAIN_S
                    self._work(sources, letters)
                finally:
                    # The level is asked for first: a stopped messenger has none.
                    protocol = messenger.protocol
                    self._health.close()
                    undelivered = letters.close(drain_s)
        finally:
            for source in sources:
                source.close()
            self._served.close()
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

    def _load(self) -> None:
        if self._releases is None:
            self._served.load(Path(self._config.bundle))
        else:
            self._releases.start(self._served)
            self._observers.append(self._releases.observe)

    def _actions(self) -> dict[str, Action]:
        actions: dict[str, Action] = {
            "identify": lambda order: identify(self._watches),
            "restart": self._restart_ordered,
            "reload": lambda order: self._reload(),
            "set_log_level": set_log_level,
            "snapshot": lambda order: snapshot(self._watches, order),
            "means": lambda order: give_means(self._served.bundle),
        }
        if (releases := self._releases) is not None:
            actions["check_update"] = lambda order: Outcome(text=releases.check_update())
        return actions

    def _restart_ordered(self, order: Order) -> Outcome:
        assert self._letters is not None
        self._letters.note_restart(order)
        self._restart = True
        self.stop()
        return Outcome(text="the agent ends and is started again")

    def _reload(self) -> Outcome:
        config = self._config if self._reread is None else self._reread()
        directory = None if self._releases is None else self._releases.directory
        plan = plan_reload(self._config, config, self._served.bundle, directory)
        if isinstance(plan, Outcome):
            return plan
        outcome = carry_out(plan, self._watches)
        self._config = plan.config
        self._served.take(plan.bundle)
        self._announce()
        return outcome

    def _follow_releases(self) -> None:
        """Go on by what the store says: other class means at once, other models by a restart."""
        if self._releases is None or not self._releases.changed():
            return
        found = self._releases.follow(self._config, self._served, self._watches)
        if found == "restart":
            self._say("another release is to run: the agent ends and is started again")
            self._restart = True
            self.stop()
        elif found is not None:
            self._announce()

    def _announce(self) -> None:
        assert self._letters is not None
        self._letters.announce(self._served.bundle.means.animals)

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
        self._cameras.add(camera.name)

        def listener(status: Status, text: str) -> None:
            self._camera_changed(camera.name, status, text)

        source = open_source(camera.source, camera.name, options, listener)
        self._cameras.connect(camera.name, source.link)
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
            lambda: self._served.release,
            listen=listen,
            keep_crops=self._config.crops.keep,
            warn=self._say,
        )
        if watch.crops is not None:
            self._observers.append(watch.crops)
        return watch

    def _facts(self, outbox: Outbox) -> Facts:
        served = self._served
        oldest, now = outbox.oldest, wall_time()
        waited = None if oldest is None or now is None else now - datetime.fromisoformat(oldest)
        return Facts(
            backend=served.backend,
            degraded=served.degraded,
            release=served.release.bundle,
            agent=__version__,
            inference_restarts=served.restarted,
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

    def _work(self, sources: Sequence[Source], letters: Correspondence) -> None:
        self._messenger = messenger = letters.messenger
        for code, text in self._early_alarms:
            messenger.alarm(code, text)
        for source in sources:
            self._watches[source.camera] = self._watch(source.camera, messenger)
        self._announce()
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
            self._follow_releases()
            if self._releases is not None:
                self._releases.tick(messenger, self._served)
            self._rest(period_s)
        for source in sources:
            source.close()
        self._join(threads)
        messenger.set_state(self._state())

    def _rest(self, period_s: float) -> None:
        """Wait until there is something to do, `period_s` at most."""
        end_s = time.monotonic() + period_s
        step_s = period_s if self._releases is None else min(period_s, _RELEASE_EVERY_S)
        while time.monotonic() < end_s:
            with contextlib.suppress(queue.Empty):
                self._wake.get(timeout=step_s)
                return
            if self._releases is not None and self._releases.changed():
                return

    def _join(self, threads: Sequence[threading.Thread]) -> None:
        """Wait for the cameras' threads to end, and for inference only so long."""
        end_s = time.monotonic() + _LAST_FRAME_S
        for thread in threads:
            thread.join(max(0.0, end_s - time.monotonic()))
        if self._served.inference is not None:
            self._served.inference.stop()
        for thread in threads:
            thread.join()

    def _watch(self, camera: str, messenger: Messenger) -> CameraWatch:
        bundle = self._served.bundle
        assert bundle.detector is not None
        options = pipeline_options(self._config.naming)
        (view,) = (one.view() for one in self._config.cameras if one.name == camera)
        eye = bundle.detector if view.whole else ViewedDetector(bundle.detector, view)
        embedder: CropEmbedder = bundle.embedder
        if self._releases is not None:
            embedder = self._releases.remembering(embedder)
        pipeline = make_tracker(self._config.tracker, eye, embedder, bundle.means, options)
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
            self._cameras.set(source.camera, "ended")
        except EarmarkError as error:
            inference = self._served.inference
            if inference is not None and inference.stopped:
                self._cameras.set(source.camera, "ended")
                return
            self._camera_changed(source.camera, "lost", str(error))
            self._failures.append(error)
            if inference is not None and inference.failure is not None:
                # Cameras that wait for frames would never hear of it.
                self._stopping = True
        except Exception as error:
            LOG.exception("camera %s", source.camera)
            self._camera_changed(source.camera, "lost", f"{type(error).__name__}: {error}")
            self._failures.append(SourceError(f"camera {source.camera}: {error}"))
        finally:
            self._wake.put(None)

    def _follow(self, source: Source, watch: CameraWatch) -> None:
        self._cameras.begin(source.camera)
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
        self._cameras.count(source.camera)
        with self._lock:
            self._frames += 1
            self._busy_s += busy_s

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

    def _camera_changed(self, camera: str, status: Status, text: str) -> None:
        """Note that a camera came or went; tell it, and raise the alarm when it went."""
        self._cameras.set(camera, status)
        self._cameras.begin(camera)
        if self._health is not None:
            self._health.camera(camera, up=status == "up")
        self._say(text)
        if status == "lost" and self._messenger is not None:
            # Nobody is seen by a camera that is away, for however long that may be.
            self._watches[camera].end()
            self._messenger.alarm("camera-lost", text[:500])

    def _state(self) -> DeviceState:
        cameras = self._cameras.states()
        served, now = self._served, wall_time()
        return DeviceState(
            agent=__version__,
            release=served.release.bundle,
            means_seq=served.release.means_seq,
            backend=served.backend,
            degraded=served.degraded or any(camera.status == "lost" for camera in cameras.values()),
            cameras=cameras,
            clock="synced" if now is not None else "unsynced",
            temperature=_temperature(),
            animals=len(frozenset().union(*(w.animals for w in self._watches.values()))),
            # A state that is as it was is not told again: once a minute it is not.
            at=timestamp(now and now.replace(second=0, microsecond=0)),
            disk_free_mb=_disk_free_mb(self._config.state_folder()),
        )


def _disk_free_mb(folder: Path) -> int | None:
    """Return the room on a folder's disk in whole tens of megabytes; None when it is gone."""
    try:
        return shutil.disk_usage(folder).free // 10_000_000 * 10
    except OSError:
        return None


def _temperature() -> float | None:
    """Return the processor's temperature in whole degrees Celsius, where the system tells it."""
    try:
        return float(round(int(_THERMAL.read_text()) / 1000))
    except (OSError, ValueError):
        return None

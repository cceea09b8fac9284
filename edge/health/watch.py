"""All that watches over a running agent: numbers, condition, pages, systemd, crops."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from edge.errors import EarmarkError
from edge.health.crops import CropRing, Release
from edge.health.metrics import CameraNumbers, CommandNumbers, Numbers, render
from edge.health.notify import Notifier
from edge.health.pulse import Condition, Pulse
from edge.health.server import HealthServer
from edge.memory import shares_mb


@dataclass(frozen=True, slots=True)
class Facts:
    """What only the agent knows, asked for when somebody wants to see it.

    waits_for: who must take what is in the outbox, in words.
    """

    backend: str
    degraded: bool
    release: str
    agent: str
    inference_restarts: int
    outbox_depth: int
    outbox_age_s: float | None
    outbox_share: float
    temperature_c: float | None
    waits_for: str = "the broker"
    commands: CommandNumbers = field(default_factory=CommandNumbers)


class Watch:
    """What the agent tells of its cameras and frames, and everyone who wants to know of it.

    folder: where events wait. facts: see `Facts`; it may ask the disk and raise EarmarkError.
    release: what names the animals now, asked for by the cameras' threads. Methods may be called
    from any thread.
    """

    def __init__(
        self,
        folder: Path,
        cameras: list[str],
        facts: Callable[[], Facts],
        release: Callable[[], Release],
        *,
        listen: tuple[str, int] | None = None,
        keep_crops: int = 0,
        notifier: Notifier | None = None,
        pulse: Pulse | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self._facts = facts
        self._pulse = pulse or Pulse(folder)
        self._notifier = notifier or Notifier()
        self._lock = threading.Lock()
        self._cameras = {name: CameraNumbers() for name in cameras}
        self._sightings = 0
        self.crops: CropRing | None = None
        if keep_crops:
            options = {} if warn is None else {"warn": warn}
            self.crops = CropRing(folder / "crops", keep_crops, release, **options)
        self._server = HealthServer(listen, self.condition, self.metrics) if listen else None

    @property
    def port(self) -> int | None:
        """Where the pages are, None where they are not."""
        return None if self._server is None else self._server.port

    @property
    def period_s(self) -> float | None:
        """How often `tick` must be called, None for whenever."""
        return self._notifier.watchdog_s

    def camera(self, name: str, *, up: bool) -> None:
        """Note that a camera came or went."""
        self._pulse.camera(name, up=up)
        with self._lock:
            numbers = self._cameras[name]
            numbers.lost += numbers.up and not up
            numbers.up = up

    def begin(self, camera: str) -> None:
        """Note that a frame is being worked on."""
        self._pulse.begin(camera)

    def done(self, camera: str, seconds: float, sightings: int, dropped: int) -> None:
        """Note a frame that is done. dropped: of the camera, so far."""
        self._pulse.end(camera)
        with self._lock:
            numbers = self._cameras[camera]
            # Files never say that they came, and one that went stays away, whatever was underway.
            numbers.up = not self._pulse.is_away(camera)
            numbers.frame(seconds)
            numbers.dropped = dropped
            self._sightings += sightings

    def idle(self, camera: str) -> None:
        """Note that nobody works on frames of a camera any more."""
        self._pulse.end(camera)

    def ready(self, text: str) -> None:
        """Tell systemd that the agent works."""
        self._notifier.ready(text)

    def tick(self) -> None:
        """Tell systemd how the agent is, and that it lives unless a restart would help it."""
        condition = self.condition()
        lines = (*condition.problems, *condition.warnings)
        self._notifier.status("; ".join(lines) if lines else "well")
        if not self._pulse.stuck:
            self._notifier.alive()

    def condition(self) -> Condition:
        """Return how the agent is."""
        try:
            facts = self._facts()
        except EarmarkError as error:  # the outbox's disk: a problem to tell, none to die of
            return self._pulse.condition(trouble=str(error))
        missed = f"no accelerator: {facts.backend} serves" if facts.degraded else ""
        return self._pulse.condition(
            degraded=missed, outbox_share=facts.outbox_share, waits_for=facts.waits_for
        )

    def metrics(self) -> bytes:
        """Return all numbers in Prometheus' text format; UsageError without its library,
        EarmarkError while the outbox cannot be read."""
        facts = self._facts()
        memory_mb, children_mb = shares_mb()
        with self._lock:
            cameras = {
                name: replace(one, buckets=list(one.buckets)) for name, one in self._cameras.items()
            }
            sightings = self._sightings
        return render(
            Numbers(
                cameras=cameras,
                sightings=sightings,
                outbox_depth=facts.outbox_depth,
                outbox_age_s=facts.outbox_age_s,
                waits_for=facts.waits_for,
                commands=facts.commands,
                inference_restarts=facts.inference_restarts,
                backend=facts.backend,
                release=facts.release,
                agent=facts.agent,
                degraded=facts.degraded,
                healthy=self.condition().well,
                temperature_c=facts.temperature_c,
                memory_mb=memory_mb,
                children_mb=children_mb,
            )
        )

    def close(self) -> None:
        """Say goodbye, stop serving, write the last crops."""
        self._notifier.stopping()
        if self._server is not None:
            self._server.close()
        if self.crops is not None:
            self.crops.close()

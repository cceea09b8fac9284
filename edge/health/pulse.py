"""Whether the agent is well: one answer for systemd, for `/healthz` and for people."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Limits:
    """From when on something is wrong.

    camera_s: a camera that is away for so long. stuck_s: no frame is worked through for so long,
    though one was begun. disk_mb: less is free where events wait. outbox_share: so much of the
    outbox is full; beyond 1 it drops the oldest.
    """

    camera_s: float = 300.0
    stuck_s: float = 60.0
    disk_mb: float = 100.0
    outbox_share: float = 0.9


@dataclass(frozen=True, slots=True)
class Condition:
    """problems: what makes the agent unwell, a line each. warnings: what it can live with."""

    problems: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def well(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


class Pulse:
    """Keeps what the cameras do; all methods may be called from any thread.

    folder: where events wait. free_mb: how much room there is, to be asked with a folder.
    """

    def __init__(
        self,
        folder: Path,
        limits: Limits | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        free_mb: Callable[[Path], float] = lambda folder: shutil.disk_usage(folder).free / 1e6,
    ) -> None:
        self._folder, self._limits = folder, limits or Limits()
        self._clock, self._free_mb = clock, free_mb
        self._lock = threading.Lock()
        self._away: dict[str, float] = {}
        self._begun: dict[str, float] = {}

    def camera(self, name: str, *, up: bool) -> None:
        """Note that a camera came or went."""
        with self._lock:
            if up:
                self._away.pop(name, None)
            else:
                self._away.setdefault(name, self._clock())

    def is_away(self, name: str) -> bool:
        """Return whether a camera went and has not come back."""
        with self._lock:
            return name in self._away

    def begin(self, camera: str) -> None:
        """Note that a frame of a camera is being worked on."""
        with self._lock:
            self._begun[camera] = self._clock()

    def end(self, camera: str) -> None:
        """Note that it is done, or that nobody works on it any more."""
        with self._lock:
            self._begun.pop(camera, None)

    def condition(
        self,
        *,
        degraded: str = "",
        outbox_share: float = 0.0,
        waits_for: str = "the broker",
        trouble: str = "",
    ) -> Condition:
        """Return how the agent is.

        degraded: an accelerator that is missed, in words. outbox_share: how full the outbox is.
        waits_for: who must take what is in it. trouble: another problem, in words.
        """
        now_s, limits = self._clock(), self._limits
        with self._lock:
            away = {name: now_s - since_s for name, since_s in self._away.items()}
            begun = {name: now_s - since_s for name, since_s in self._begun.items()}
        problems = [
            f"camera {name}: a frame has been worked on for {seconds:.0f} s"
            for name, seconds in sorted(begun.items())
            if seconds > limits.stuck_s
        ]
        if trouble:
            problems.append(trouble)
        if outbox_share >= limits.outbox_share:
            problems.append(f"outbox: {outbox_share:.0%} full; {waits_for} takes nothing")
        warnings = [degraded] if degraded else []
        for name, seconds in sorted(away.items()):
            text = f"camera {name}: away for {seconds:.0f} s"
            (problems if seconds > limits.camera_s else warnings).append(text)
        try:
            free_mb = self._free_mb(self._folder)
        except OSError as error:
            problems.append(f"{self._folder}: {error.strerror}")
        else:
            if free_mb < limits.disk_mb:
                problems.append(f"{self._folder}: {free_mb:.0f} MB free")
        return Condition(tuple(problems), tuple(warnings))

    @property
    def stuck(self) -> bool:
        """Whether a restart would help: a camera that is away or a full disk needs a person."""
        now_s = self._clock()
        with self._lock:
            return any(now_s - since_s > self._limits.stuck_s for since_s in self._begun.values())

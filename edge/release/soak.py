"""The last question of a trial: does the agent work as well by the new release as it did before?

Pure. It judges by what the agent says of itself every second, and by how often it was started.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from edge.release.heartbeat import Heartbeat
from edge.release.state import MOST_TRIES, Boot

# An agent that was silent for longer is away: it is loading, has died, or nobody started it.
FRESH_S = 15.0
# Of less time no rate is concluded.
_RATE_S = 5.0

Outcome = Literal["passed", "failed", "deferred"]
Code = Literal["not-loaded", "dies", "no-word", "no-agent", "no-frames", "degraded", "too-slow", ""]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a trial ended; code and text say why it failed or could not be judged."""

    outcome: Outcome
    code: Code = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class SoakTerms:
    """What an agent must show. seconds, frames: of work by the release, both.

    patience_s: how long it may be away; models are loaded meanwhile, perhaps twice. still_s: how
    long no frame may come. least_rate: share of the frame rate before, 0 where it does not matter.
    """

    seconds: float
    frames: int
    patience_s: float = 300.0
    still_s: float = 60.0
    least_rate: float = 0.5


class Baseline(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the agent worked before the trial. fps: None when that cannot be told."""

    fps: float | None
    degraded: bool


def is_fresh(heartbeat: Heartbeat | None, now_s: float) -> bool:
    """Say whether a heartbeat is of a running agent; before a restart of the machine it is not."""
    return heartbeat is not None and 0 <= now_s - heartbeat.at_monotonic_s <= FRESH_S


def baseline(first: Heartbeat | None, last: Heartbeat) -> Baseline:
    """Return how an agent works: since an earlier heartbeat, or since its release began."""
    frames, seconds = last.frames, last.since_s
    if first is not None and (first.boot, first.release) == (last.boot, last.release):
        apart_s = last.at_monotonic_s - first.at_monotonic_s
        if apart_s >= _RATE_S:
            frames, seconds = last.frames - first.frames, apart_s
    fps = frames / seconds if seconds >= _RATE_S else None
    return Baseline(fps=fps, degraded=last.degraded)


class Soak:
    """Judges the trial of the release `name`. before: None when that is not known any more."""

    def __init__(self, name: str, terms: SoakTerms, before: Baseline | None, now_s: float) -> None:
        self._name, self._terms, self._before = name, terms, before
        self._word_s = self._frame_s = now_s
        self._frames = 0
        self._tries, self._tries_s = 0, now_s

    def judge(self, heartbeat: Heartbeat | None, boot: Boot, now_s: float) -> Verdict | None:
        """Return how it ended, None while it goes on."""
        if boot.tries != self._tries:
            self._tries, self._tries_s = boot.tries, now_s
        if heartbeat is None or not is_fresh(heartbeat, now_s):
            self._frame_s = now_s
            return self._away(boot, now_s)
        if heartbeat.error is not None and heartbeat.error.startswith(f"{self._name}: "):
            return Verdict("failed", "not-loaded", heartbeat.error.partition(": ")[2])
        if heartbeat.release != self._name:
            self._frame_s = now_s
            # What was said before the last start was counted is of an agent that is gone.
            if boot.tries >= MOST_TRIES and heartbeat.at_monotonic_s > self._tries_s:
                return Verdict("failed", "dies", f"the agent did not survive {boot.tries} starts")
            return self._away(boot, now_s)
        self._word_s = now_s
        return self._working(heartbeat, now_s)

    def _away(self, boot: Boot, now_s: float) -> Verdict | None:
        away_s = now_s - self._word_s
        if away_s < self._terms.patience_s:
            return None
        if not boot.tries:
            return Verdict("deferred", "no-agent", "no agent runs that could try it")
        return Verdict("failed", "no-word", f"the agent has been silent by it for {away_s:.0f} s")

    def _working(self, heartbeat: Heartbeat, now_s: float) -> Verdict | None:
        terms, before = self._terms, self._before
        if heartbeat.frames != self._frames:
            self._frames, self._frame_s = heartbeat.frames, now_s
        if heartbeat.degraded and before is not None and not before.degraded:
            return Verdict("failed", "degraded", f"{heartbeat.backend} serves, no accelerator")
        if now_s - self._frame_s >= terms.still_s:
            text = f"no frame came for {terms.still_s:.0f} s"
            if before is not None and before.fps:
                return Verdict("failed", "no-frames", text)
            return Verdict("deferred", "no-frames", text)
        if heartbeat.frames < terms.frames or heartbeat.since_s < terms.seconds:
            return None
        rate = self._rate(heartbeat)
        if rate is not None and rate < terms.least_rate:
            return Verdict("failed", "too-slow", f"{rate:.0%} of the frames a second of before")
        return Verdict("passed")

    def _rate(self, heartbeat: Heartbeat) -> float | None:
        """Return the frame rate as a share of the one before."""
        before = self._before
        if before is None or not before.fps or heartbeat.since_s < _RATE_S:
            return None
        return heartbeat.frames / heartbeat.since_s / before.fps

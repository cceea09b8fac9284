"""What to draw: the herd, its sessions, and how much of it is written."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge.errors import UsageError

Light = Literal["day", "dusk", "night"]
LIGHTS: tuple[Light, ...] = ("day", "dusk", "night")
CAMERAS = (1, 2)
MOST_ANIMALS = 200
_PREFIX = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")
_SESSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}")


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """One camera during one stretch of time.

    name: of files and folders. camera: 1 or 2; more have views of their own. light: day, dusk or
    (infrared) night. seed: of the motion; two cameras with the same seed and light watch the same
    moment. frames: how many.
    """

    name: str
    camera: int
    light: Light
    seed: int
    frames: int


@dataclass(frozen=True, slots=True)
class HerdOptions:
    """A herd in its pen; the same options give the same pixels.

    animals: how many. seed: of coats, bodies and the pen. prefix, first_number: ids are pig01, ...
    frames: of each session when `sessions` is None. fps: frames a second. width, height: pixels.
    sprites: folder with a folder of real crops per animal, or None for drawn coats.
    crop_every, frame_every: every n-th frame gives crops, or is written as a picture; None: about
    two a second and one a second. sessions: what is filmed; None: day, dusk and night by two
    cameras. video: write a video of each session. pace: factor on how fast animals walk.
    """

    animals: int = 16
    seed: int = 0
    prefix: str = "pig"
    first_number: int = 1
    frames: int = 240
    fps: float = 12.0
    width: int = 1280
    height: int = 720
    sprites: Path | None = None
    crop_every: int | None = None
    frame_every: int | None = None
    sessions: tuple[SessionPlan, ...] | None = None
    video: bool = True
    pace: float = 1.0

    def plans(self) -> tuple[SessionPlan, ...]:
        """Return the sessions to film."""
        if self.sessions is not None:
            return self.sessions
        return tuple(
            SessionPlan(f"cam{camera}-{light}-0", camera, light, seed, self.frames)
            for seed, light in enumerate(LIGHTS)
            for camera in CAMERAS
        )

    def animal_ids(self) -> tuple[str, ...]:
        """Return the ids of all animals, in order."""
        return tuple(
            f"{self.prefix}{number:02d}"
            for number in range(self.first_number, self.first_number + self.animals)
        )

    def crop_step(self) -> int:
        """Return that every so many frames give crops."""
        return self.crop_every or max(1, round(self.fps / 2))

    def frame_step(self) -> int:
        """Return that every so many frames are written as pictures."""
        return self.frame_every or max(1, round(self.fps))


def check_options(options: HerdOptions) -> None:
    """Raise UsageError, naming the option, for a herd that cannot be drawn."""
    if not 1 <= options.animals <= MOST_ANIMALS:
        raise UsageError(f"animals must be 1 to {MOST_ANIMALS}, not {options.animals}")
    if options.seed < 0:
        raise UsageError(f"seed must be 0 or more, not {options.seed}")
    if options.first_number < 0:
        raise UsageError(f"first_number must be 0 or more, not {options.first_number}")
    if not _PREFIX.fullmatch(options.prefix):
        raise UsageError(
            f"prefix {options.prefix!r} must be lower-case letters, digits and dashes, such as pig"
        )
    for name, size in (("width", options.width), ("height", options.height)):
        if size % 2 or not 128 <= size <= 4096:
            raise UsageError(f"{name} must be an even number from 128 to 4096, not {size}")
    for name, value in (("fps", options.fps), ("pace", options.pace)):
        if not (math.isfinite(value) and value > 0):
            raise UsageError(f"{name} must be more than 0, not {value}")
    for name, step in (("crop_every", options.crop_every), ("frame_every", options.frame_every)):
        if step is not None and step < 1:
            raise UsageError(f"{name} must be 1 or more, not {step}")
    if options.sessions is None and options.frames < 1:
        raise UsageError(f"frames must be 1 or more, not {options.frames}")
    _check_sessions(options.plans())


def check_plan(plan: SessionPlan) -> None:
    """Raise UsageError, naming the session, for one that cannot be filmed."""
    if not _SESSION.fullmatch(plan.name):
        raise UsageError(f"session name {plan.name!r} must be letters, digits, dots and dashes")
    if plan.frames < 1:
        raise UsageError(f"session {plan.name}: frames must be 1 or more, not {plan.frames}")
    if plan.light not in LIGHTS:
        raise UsageError(f"session {plan.name}: light must be one of {', '.join(LIGHTS)}")
    if plan.seed < 0 or plan.camera < 0:
        raise UsageError(f"session {plan.name}: camera and seed must be 0 or more")


def _check_sessions(plans: tuple[SessionPlan, ...]) -> None:
    if not plans:
        raise UsageError("there is no session to film")
    seen: set[str] = set()
    for plan in plans:
        check_plan(plan)
        if plan.name in seen:
            raise UsageError(f"two sessions are named {plan.name}; give each its own name")
        seen.add(plan.name)

"""How the cameras of a running agent are: status, rate, and the grade of their connections."""

from __future__ import annotations

import threading
from typing import Literal

import msgspec

from edge.camera_watch import FrameRate
from edge.capture import Link
from edge.messaging import CameraState

CameraStatus = Literal["up", "lost", "ended"]


class CameraBoard:
    """What is known of every camera, by name; any thread may ask and tell."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: dict[str, CameraState] = {}
        self._links: dict[str, Link | None] = {}
        self._rates: dict[str, FrameRate] = {}

    def add(self, camera: str) -> None:
        """Note a camera that is about to be opened: it is up until it says otherwise."""
        self.set(camera, "up")

    def connect(self, camera: str, link: Link | None) -> None:
        """Note what a camera's connection is graded by, None for a file."""
        self._links[camera] = link

    def begin(self, camera: str) -> None:
        """Count the rate of a camera's frames anew: the time away is no time of few frames."""
        self._rates[camera] = FrameRate()

    def set(self, camera: str, status: CameraStatus) -> None:
        """Note how a camera is."""
        with self._lock:
            self._states[camera] = CameraState(status=status)

    def count(self, camera: str) -> None:
        """Count a frame that was worked through."""
        fps = self._rates[camera].tick()
        with self._lock:
            # A camera that was lost while its last frame was worked on stays lost.
            if self._states[camera].status == "up":
                self._states[camera] = CameraState(status="up", fps=fps)

    def states(self) -> dict[str, CameraState]:
        """Return how each is now."""
        with self._lock:
            return {name: self._graded(name, state) for name, state in self._states.items()}

    def _graded(self, camera: str, state: CameraState) -> CameraState:
        link = self._links.get(camera)
        if link is None:
            return state
        report = link.report()
        return msgspec.structs.replace(
            state, grade=report.grade, reconnects=report.reconnects, stalls=report.stalls
        )

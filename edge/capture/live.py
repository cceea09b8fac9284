"""Live cameras: the newest frame wins, and a lost camera is connected again and again."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from edge.capture.clock import wall_time
from edge.capture.link import Link
from edge.capture.source import StatusListener
from edge.errors import SourceError
from edge.vision.types import Frame, Image

# A connection that held for so long was a good one: the next loss is retried quickly.
_HEALTHY_S = 10.0


class Grabber(Protocol):
    """One connection to a camera. All but `kill` belong to the thread that made it."""

    def read(self) -> Image:
        """Wait for the next picture, RGB; SourceError when it ended or stalled."""

    def kill(self) -> None:
        """Make `read` fail soon where that is possible; from any thread."""

    def close(self) -> None:
        """Let go of the camera."""


class BackOff:
    """Waiting times between attempts: doubling from `first_s` to `most_s`, with jitter.

    The jitter (half to the whole of the time) keeps the cameras of a barn from coming back all at
    once after a power cut.
    """

    def __init__(
        self, first_s: float = 1.0, most_s: float = 60.0, rng: random.Random | None = None
    ) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._rng = rng or random.Random()
        self._attempts = 0

    def next_s(self) -> float:
        """Return how long to wait before the next attempt."""
        whole = min(self._first_s * 2.0 ** min(self._attempts, 32), self._most_s)
        self._attempts += 1
        return whole * self._rng.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Begin again with the shortest time."""
        self._attempts = 0


class LiveSource:
    """A camera behind `connect`, read by a thread that keeps only its newest frame.

    monotonic_s is the time of arrival on `clock`. The listener hears of the first frame (`up`), of
    every loss (`lost`, once however many attempts fail) and of every return.
    """

    live = True
    finite = False

    def __init__(
        self,
        camera: str,
        connect: Callable[[], Grabber],
        listener: StatusListener,
        *,
        fps: float | None = None,
        back_off: BackOff | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.camera = camera
        self.fps = fps
        self.dropped = 0
        self.link = Link(clock)
        self._connect = connect
        self._listener = listener
        self._back_off = back_off or BackOff()
        self._clock = clock
        self._period_s = 1 / fps if fps else 0.0
        self._due_s = float("-inf")
        self._index = 0
        self._delivered = False
        self._up: bool | None = None
        self._newest: Frame | None = None
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._grabber: Grabber | None = None
        self._thread = threading.Thread(target=self._run, name=f"capture {camera}", daemon=True)

    def frames(self) -> Iterator[Frame]:
        """Yield the newest frame whenever one is asked for, until closed."""
        self._thread.start()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._newest is not None or self._closed.is_set())
                frame, self._newest = self._newest, None
            if self._closed.is_set() or frame is None:
                return
            yield frame

    def close(self) -> None:
        """End `frames` soon and let go of the camera."""
        with self._changed:
            self._closed.set()
            self._changed.notify_all()
            if self._grabber is not None:
                self._grabber.kill()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout=2.0)

    # -- the reading thread ----------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closed.is_set():
            begun_s = self._clock()
            try:
                self._read_until_lost()
            except SourceError as error:
                self._tell_lost(str(error))
            except Exception as error:  # A camera's thread that died would be lost for good.
                self._tell_lost(f"{type(error).__name__}: {error}")
            if self._delivered and self._clock() - begun_s > _HEALTHY_S:
                self._back_off.reset()
            self._closed.wait(self._back_off.next_s())

    def _read_until_lost(self) -> None:
        self._delivered = False
        grabber = self._connect()
        try:
            with self._changed:
                self._grabber = grabber
                if self._closed.is_set():
                    return
            while not self._closed.is_set():
                image = grabber.read()
                self._delivered = True
                self.link.frame()
                self._tell_up()
                self._offer(image)
        finally:
            with self._changed:
                self._grabber = None
            grabber.close()

    def _offer(self, image: Image) -> None:
        now_s = self._clock()
        index, self._index = self._index, self._index + 1
        # Half a period early is on time: else a camera's jitter would cost every second frame.
        if now_s < self._due_s - self._period_s / 2:
            return
        self._due_s = max(self._due_s + self._period_s, now_s)
        frame = Frame(image, self.camera, index, now_s, wall_time())
        with self._changed:
            if self._newest is not None:
                self.dropped += 1
            self._newest = frame
            self._changed.notify_all()

    def _tell_up(self) -> None:
        if self._up is not True:
            again = self._up is False
            self._up = True
            self._listener("up", f"{self.camera}: frames arrive{' again' if again else ''}")

    def _tell_lost(self, why: str) -> None:
        if self._closed.is_set():
            return
        self.link.lost()
        if self._up is not False:
            self._up = False
            with self._changed:
                # What was seen before the loss is no news after it.
                self._newest = None
            self._listener("lost", f"{self.camera}: {why}; trying again")

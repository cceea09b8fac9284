"""Hand-made tracks, frames and events; a line between a device and a broker that can be bad."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from edge.identity.types import Track
from edge.vision.types import Frame

MORNING = datetime(2026, 11, 24, 4, 31, 0, tzinfo=UTC)


@pytest.fixture
def make_frame() -> Callable[..., Frame]:
    """A frame of 200 x 100 pixels at `t` seconds; wall time 04:31:00 plus t, or None."""

    def make(t: float, synced: bool = True) -> Frame:
        wall = MORNING + timedelta(seconds=t) if synced else None
        return Frame(np.zeros((100, 200, 3), np.uint8), "pen-3", int(t * 10), t, wall)

    return make


@pytest.fixture
def make_track() -> Callable[..., Track]:
    """A settled track at `t` seconds, born at 0; `animal` None is unknown."""

    def make(t: float, animal: str | None = "cow004", **changes: object) -> Track:
        fields: dict[str, object] = {
            "id": 7,
            "box": np.array([20, 10, 60, 60], np.float32),
            "score": 0.9,
            "age_frames": 5,
            "first_seen_s": 0.0,
            "last_seen_s": t,
            "animal": animal,
            "reason": None if animal else "unknown",
            "confidence": 0.9,
            "distance": 0.11,
            "margin": 0.38,
            "votes": {"cow004": 9, "unknown": 1},
            "settled": True,
        }
        return Track(**{**fields, **changes})  # type: ignore[arg-type]

    return make


_PIECE = 512


@dataclass
class Quality:
    """How the line is at the moment. Directions: `up` to the broker, `down` to the device.

    bytes_per_s, delay_s: of each direction; None for no limit. silent_up, silent_down: what is sent
    vanishes, and nobody is told. cut_after: the connection is reset after so many bytes up.
    """

    bytes_per_s: float | None = None
    delay_s: float = 0.0
    silent_up: bool = False
    silent_down: bool = False
    cut_after: int | None = None


class SlowLine:
    """A TCP proxy: listens on a port of the loopback and passes on to the broker's `port`."""

    def __init__(self, port: int) -> None:
        self.quality = Quality()
        self.connections = 0
        self._broker = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    @property
    def url(self) -> str:
        """Where the device finds the broker."""
        return f"mqtt://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut(self) -> None:
        """Reset every connection."""
        for one in self._open:
            with contextlib.suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                one.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def __enter__(self) -> SlowLine:
        self._threads[0].start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                device, _ = self._listener.accept()
                self.connections += 1
                try:
                    broker = socket.create_connection(("127.0.0.1", self._broker), 5)
                except OSError:
                    device.close()
                    continue
                broker.settimeout(None)
                self._open += [device, broker]
                for arguments in ((device, broker, True), (broker, device, False)):
                    thread = threading.Thread(target=self._pass_on, args=arguments, daemon=True)
                    thread.start()
                    self._threads.append(thread)

    def _pass_on(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        passed = 0
        try:
            while data := source.recv(_PIECE):
                quality = self.quality
                if quality.delay_s:
                    time.sleep(quality.delay_s)
                if quality.bytes_per_s:
                    time.sleep(len(data) / quality.bytes_per_s)
                if quality.silent_up if up else quality.silent_down:
                    continue
                if up and quality.cut_after is not None and passed + len(data) > quality.cut_after:
                    # Some of a packet arrives, the rest never does.
                    sink.sendall(data[: max(quality.cut_after - passed, 0)])
                    break
                sink.sendall(data)
                passed += len(data)
        except OSError:
            pass
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def slow_line() -> Iterator[Callable[[int], SlowLine]]:
    """Call with a broker's port: a line to it, whose `quality` may change at any time."""
    with contextlib.ExitStack() as stack:
        yield lambda port: stack.enter_context(SlowLine(port))

"""Real brokers and subscribers for the tests that need them."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edge.messaging.events import Sighting
from edge.messaging.local_broker import Mosquitto, find_mosquitto

PROBE = "probe"


def _wait_until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


@dataclass(frozen=True)
class Message:
    topic: str
    retained: bool
    payload: bytes


class Subscriber:
    """A `mosquitto_sub` process that writes what it receives to a file, one line a message."""

    def __init__(self, port: int, folder: Path, arguments: Sequence[str]) -> None:
        self._file = folder / f"received-{time.monotonic_ns()}"
        command = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(port), "-q", "1"]
        command += [*arguments, "-t", "earmark/v1/#", "-t", PROBE, "-F", "%r %t %x"]
        # A retained probe comes back once both subscriptions stand.
        subprocess.run(
            ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(port), "-t", PROBE, "-r", "-m", "-"],
            check=True,
        )
        with self._file.open("wb") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL)
        try:
            _wait_until(lambda: f" {PROBE} ".encode() in self._file.read_bytes())
        except BaseException:
            self.stop()
            raise

    @property
    def messages(self) -> list[Message]:
        received = []
        for line in self._file.read_bytes().split(b"\n")[:-1]:
            retained, topic, payload = line.decode().split(" ", 2)
            if topic != PROBE:
                received.append(Message(topic, retained == "1", bytes.fromhex(payload)))
        return received

    def payloads(self, leaf: str) -> list[bytes]:
        return [m.payload for m in self.messages if m.topic.endswith(f"/up/{leaf}")]

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """Call with a condition (and timeout_s): waits for it, fails when it does not come true."""
    return _wait_until


@pytest.fixture
def start_mosquitto() -> Iterator[Callable[..., Mosquitto]]:
    """Call with configuration lines (and anonymous=False) for a real broker of one's own."""
    if find_mosquitto() is None or shutil.which("mosquitto_sub") is None:
        pytest.skip("mosquitto and mosquitto-clients are not installed")
    with contextlib.ExitStack() as stack:
        yield lambda *config, **options: stack.enter_context(Mosquitto(config, **options))


@pytest.fixture
def mosquitto(start_mosquitto: Callable[..., Mosquitto]) -> Mosquitto:
    """A real mosquitto on a free port of the loopback, open to everybody."""
    return start_mosquitto()


@pytest.fixture
def subscribe(tmp_path: Path) -> Iterator[Callable[..., Subscriber]]:
    """Call with a port (and mosquitto_sub's arguments): a subscriber to everything of earmark."""
    with contextlib.ExitStack() as stack:

        def start(port: int, *arguments: str) -> Subscriber:
            subscriber = Subscriber(port, tmp_path, arguments or ("-V", "5"))
            stack.callback(subscriber.stop)
            return subscriber

        yield start


@pytest.fixture(scope="session")
def make_event() -> Callable[..., Sighting]:
    """A sighting as the log gives it out, before the outbox has numbered it."""

    def make(**changes: object) -> Sighting:
        fields: dict[str, Any] = {
            "schema": 1,
            "id": "",
            "seq": 0,
            "stream": "",
            "type": "start",
            "device": "barn-7",
            "camera": "pen-3",
            "track": 7,
            "animal": "cow004",
            "reason": None,
            "confidence": 0.97,
            "distance": 0.11,
            "margin": 0.38,
            "votes": {"cow004": 9, "unknown": 1},
            "box": (0.21, 0.34, 0.4, 0.61),
            "first_seen": "2026-11-24T04:31:07.120Z",
            "last_seen": "2026-11-24T04:31:09.000Z",
            "clock": "synced",
            "boot": "b7",
            "monotonic": 8123.4,
            "release": "9f31",
            "means_seq": 57,
            "replayed": False,
        }
        return Sighting(**{**fields, **changes})

    return make

"""`earmark-deploy ingest` as a process, and a broker that queues enough for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.messaging.local_broker import Mosquitto

# A process of Python may take long to start where trainings run beside the tests.
PATIENCE_S = 60.0


@pytest.fixture
def mosquitto(start_mosquitto: Callable[..., Mosquitto]) -> Mosquitto:
    """A real mosquitto that queues as much as docs/broker.md says, not 1000 messages."""
    return start_mosquitto("max_queued_messages 100000")


@pytest.fixture
def patient(wait_until: Callable[..., None]) -> Callable[[Callable[[], object]], None]:
    """Wait for a condition that processes have to bring about."""
    return lambda condition: wait_until(condition, PATIENCE_S)


class Process:
    """`earmark-deploy ingest` as its own process; its words go to a file."""

    def __init__(self, folder: Path, script: str, arguments: tuple[str, ...]) -> None:
        self.log = folder / f"ingest-{len(list(folder.glob('ingest-*')))}"
        with self.log.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-c", script, "ingest", *arguments], stdout=out, stderr=out
            )

    @property
    def words(self) -> str:
        return self.log.read_text()

    @property
    def ended(self) -> int | None:
        return self._process.poll()

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def terminate(self) -> int:
        self._process.terminate()
        return self._process.wait(PATIENCE_S)

    def wait(self) -> int:
        return self._process.wait(PATIENCE_S)


@pytest.fixture
def ingest(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Call with arguments (and script=…): a process of its own, killed at the end."""
    processes: list[Process] = []

    def start(*arguments: str, script: str = "from deploy.cli import entry; entry()") -> Process:
        processes.append(Process(tmp_path, script, arguments))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()

"""The updater that runs for ever: it is woken, it waits its turn, it ends, systemd hears of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.health.notify import Notifier
from edge.release.daemon import Daemon
from edge.release.inbox import wake_updater
from edge.release.turn import SecondUpdaterError, only_updater, turn


class Steps:
    """An updater that always rests, for `wait_s`."""

    def __init__(self, wait_s: float = 1000.0) -> None:
        self.wait_s = wait_s
        self.looks = self.steps = self.begun = 0
        self.resting = True

    def look(self) -> None:
        self.looks += 1

    def begin_anew(self) -> None:
        self.begun += 1

    def step(self) -> float:
        self.steps += 1
        return self.wait_s


class Told(Notifier):
    """Counts what systemd would hear."""

    def __init__(self) -> None:
        super().__init__({})
        self.words: list[str] = []

    def ready(self, status: str) -> None:
        self.words.append("ready")

    def alive(self) -> None:
        self.words.append("alive")

    def stopping(self) -> None:
        self.words.append("stopping")


class Running:
    def __init__(self, root: Path, steps: Any) -> None:
        self.told = Told()
        self.daemon = Daemon(root, steps, self.told)
        self.errors: list[Exception] = []
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.daemon.run()
        except Exception as error:
            self.errors.append(error)

    def stop(self) -> None:
        self.daemon.stop()
        self.thread.join(20)
        assert not self.thread.is_alive()


def test_it_waits_and_is_woken(tmp_path: Path, wait_until: Callable[..., None]) -> None:
    steps = Steps()
    running = Running(tmp_path, steps)
    try:
        wait_until(lambda: steps.steps == 1)
        wake_updater(tmp_path)
        wait_until(lambda: steps.looks == 1 and steps.steps == 2)
    finally:
        running.stop()
    assert running.told.words[0] == "ready"
    assert running.told.words[-1] == "stopping"
    assert "alive" in running.told.words
    # Whoever may have worked on the store meanwhile: it is looked at anew each time.
    assert steps.begun == 2


def test_who_wakes_it_without_end_is_not_heard_without_end(
    tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    steps = Steps()
    running = Running(tmp_path, steps)
    stopped = threading.Event()

    def pester() -> None:
        while not stopped.is_set():
            wake_updater(tmp_path)

    pest = threading.Thread(target=pester)
    pest.start()
    try:
        wait_until(lambda: steps.looks >= 20, timeout_s=30)
        alive = len(running.told.words)
        wait_until(lambda: len(running.told.words) > alive + 5)
        assert steps.looks <= 23
    finally:
        stopped.set()
        pest.join()
        running.stop()


def test_it_leaves_the_store_to_who_works_on_it_by_hand(
    tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    steps = Steps()
    with turn(tmp_path) as mine:
        assert mine
        running = Running(tmp_path, steps)
        try:
            wait_until(lambda: len(running.told.words) > 3)
            assert steps.steps == 0
        except BaseException:
            running.stop()
            raise
    try:
        wait_until(lambda: steps.steps == 1)
        # While it rests a person may work.
        with turn(tmp_path) as mine:
            assert mine
    finally:
        running.stop()


def test_while_something_is_under_way_nobody_else_works(
    tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    steps = Steps(0.01)
    steps.resting = False
    running = Running(tmp_path, steps)
    try:
        wait_until(lambda: steps.steps > 3)
        with turn(tmp_path) as mine:
            assert not mine
        assert steps.begun == 1
    finally:
        running.stop()


def test_a_second_one_ends_with_one_line(tmp_path: Path) -> None:
    with only_updater(tmp_path):
        running = Running(tmp_path, Steps())
        running.thread.join(20)
    (error,) = running.errors
    assert isinstance(error, SecondUpdaterError)
    with pytest.raises(SecondUpdaterError), only_updater(tmp_path), only_updater(tmp_path):
        pass

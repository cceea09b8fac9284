"""Live cameras with a hand-made connection: newest frame, losses, returns."""

from __future__ import annotations

import queue
import random
import threading
from collections.abc import Callable

import numpy as np
import pytest

from edge.capture.live import BackOff, LiveSource
from edge.errors import SourceError
from edge.vision.types import Frame, Image

Wait = Callable[..., None]


class FakeCamera:
    """Each connection hands out what is put into `pictures`; an exception there is raised."""

    def __init__(self) -> None:
        self.pictures: queue.Queue[int | Exception] = queue.Queue()
        self.connections = 0
        self.closed = 0
        self.refuse: Exception | None = None

    def connect(self) -> FakeCamera:
        self.connections += 1
        if self.refuse is not None:
            raise self.refuse
        return self

    def read(self) -> Image:
        item = self.pictures.get()
        if isinstance(item, Exception):
            raise item
        return np.full((2, 2, 3), item, np.uint8)

    def kill(self) -> None:
        self.pictures.put(SourceError("killed"))

    def close(self) -> None:
        self.closed += 1


class Listener:
    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def __call__(self, status: str, text: str) -> None:
        self.told.append((status, text))

    @property
    def statuses(self) -> list[str]:
        return [status for status, _ in self.told]


def quick() -> BackOff:
    return BackOff(first_s=0.001, most_s=0.002)


def value(frame: Frame) -> int:
    return int(frame.image[0, 0, 0])


def test_a_slow_reader_gets_the_newest_frame_and_the_rest_are_counted(wait_until: Wait) -> None:
    camera, listener = FakeCamera(), Listener()
    source = LiveSource("pen", camera.connect, listener, back_off=quick())
    camera.pictures.put(1)
    frames = source.frames()
    assert value(next(frames)) == 1
    for number in (2, 3, 4):
        camera.pictures.put(number)
    wait_until(lambda: source.dropped == 2)
    newest = next(frames)
    assert value(newest) == 4
    assert newest.index == 3
    source.close()
    assert list(frames) == []


def test_a_lost_camera_is_told_once_and_comes_back(wait_until: Wait) -> None:
    camera, listener = FakeCamera(), Listener()
    source = LiveSource("pen", camera.connect, listener, back_off=quick())
    camera.pictures.put(1)
    frames = source.frames()
    next(frames)
    camera.refuse = SourceError("no route")
    camera.pictures.put(SourceError("hung up"))
    wait_until(lambda: camera.connections > 4)
    assert listener.statuses == ["up", "lost"]
    assert listener.told[1][1] == "pen: hung up; trying again"
    camera.refuse = None
    camera.pictures.put(9)
    assert value(next(frames)) == 9
    assert listener.statuses == ["up", "lost", "up"]
    source.close()


def test_a_camera_that_is_away_from_the_start_is_told_and_waited_for(wait_until: Wait) -> None:
    camera, listener = FakeCamera(), Listener()
    camera.refuse = SourceError("/dev/video7: cannot be opened")
    source = LiveSource("pen", camera.connect, listener, back_off=quick())
    camera.pictures.put(5)
    received: list[Frame] = []
    thread = threading.Thread(target=lambda: received.extend(source.frames()))
    thread.start()
    wait_until(lambda: listener.told)
    assert listener.told == [("lost", "pen: /dev/video7: cannot be opened; trying again")]
    camera.refuse = None
    wait_until(lambda: received)
    source.close()
    thread.join(10)
    assert not thread.is_alive()


def test_the_thread_survives_what_nobody_expected(wait_until: Wait) -> None:
    camera, listener = FakeCamera(), Listener()
    source = LiveSource("pen", camera.connect, listener, back_off=quick())
    camera.pictures.put(ValueError("odd"))
    camera.pictures.put(3)
    assert value(next(source.frames())) == 3
    assert "ValueError: odd" in listener.told[0][1]
    assert camera.closed == 1
    source.close()


def test_closing_ends_a_reader_that_waits(wait_until: Wait) -> None:
    camera = FakeCamera()
    source = LiveSource("pen", camera.connect, Listener(), back_off=quick())
    thread = threading.Thread(target=lambda: list(source.frames()))
    thread.start()
    wait_until(lambda: camera.connections)
    source.close()
    thread.join(10)
    assert not thread.is_alive()
    wait_until(lambda: camera.closed == 1)


def test_losses_and_returns_are_graded_and_the_end_is_none(wait_until: Wait) -> None:
    camera = FakeCamera()
    source = LiveSource("pen", camera.connect, Listener(), back_off=quick())
    camera.pictures.put(1)
    frames = source.frames()
    next(frames)
    camera.refuse = SourceError("no route")
    camera.pictures.put(SourceError("hung up"))
    wait_until(lambda: camera.connections > 3)
    assert source.link.report().grade == "poor"
    camera.refuse = None
    camera.pictures.put(2)
    next(frames)
    source.close()
    wait_until(lambda: camera.closed == 2)
    report = source.link.report()
    assert (report.grade, report.reconnects) == ("good", 1)


def test_the_frame_rate_is_kept_on_average(wait_until: Wait) -> None:
    camera = FakeCamera()
    times = iter([0.0, *(i / 25 for i in range(50)), *[99.0] * 9])
    source = LiveSource("pen", camera.connect, Listener(), fps=10, clock=lambda: next(times))
    taken = []
    for number in range(50):
        before = source._newest
        source._offer(np.full((1, 1, 3), number, np.uint8))
        if source._newest is not before:
            taken.append(number)
    # The first reading of the clock is at construction time or not at all: 2 s of video either way.
    assert 19 <= len(taken) <= 21
    assert source.dropped == len(taken) - 1
    assert np.diff(taken).max() <= 3


def test_the_back_off_doubles_up_to_its_limit_with_jitter() -> None:
    back_off = BackOff(1.0, 60.0, random.Random(1))
    waits = [back_off.next_s() for _ in range(12)]
    wholes = [min(2.0**n, 60.0) for n in range(12)]
    assert all(whole / 2 <= wait <= whole for wait, whole in zip(waits, wholes, strict=True))
    assert len({wait / whole for wait, whole in zip(waits, wholes, strict=True)}) > 6
    back_off.reset()
    assert back_off.next_s() <= 1.0


def test_the_back_off_never_overflows() -> None:
    back_off = BackOff()
    assert all(back_off.next_s() <= 60 for _ in range(3000))


class SlowClock:
    """A clock that leaps by `step_s` with every look."""

    def __init__(self, step_s: float) -> None:
        self._now_s, self._step_s = 0.0, step_s

    def __call__(self) -> float:
        self._now_s += self._step_s
        return self._now_s


class CountingBackOff(BackOff):
    def __init__(self) -> None:
        super().__init__(0.001, 0.002)
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1
        super().reset()


@pytest.mark.parametrize(("step_s", "resets"), [(60.0, True), (0.001, False)])
def test_only_a_connection_that_held_makes_the_next_attempt_quick(
    wait_until: Wait, step_s: float, resets: bool
) -> None:
    camera, back_off = FakeCamera(), CountingBackOff()
    source = LiveSource(
        "pen", camera.connect, Listener(), back_off=back_off, clock=SlowClock(step_s)
    )
    camera.pictures.put(1)
    next(source.frames())
    camera.pictures.put(SourceError("hung up"))
    wait_until(lambda: camera.connections >= 2)
    source.close()
    assert bool(back_off.resets) == resets

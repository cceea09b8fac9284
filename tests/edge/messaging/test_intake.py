from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.errors import EarmarkError
from edge.messaging.events import Gap
from edge.messaging.intake import Intake
from edge.messaging.outbox import Outbox


class Disk(Outbox):
    """An outbox that counts its commits, and whose disk can be slow or broken."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.groups: list[int] = []
        self.broken = False
        self.free = threading.Event()
        self.free.set()

    def append(self, events):
        assert self.free.wait(10)
        if self.broken:
            raise EarmarkError("outbox.db: the disk is full")
        self.groups.append(len(events))
        return super().append(events)


class Rig:
    def __init__(self, folder: Path, **options) -> None:
        self.disk = Disk(folder / "outbox.db")
        self.problems: list[str] = []
        self.commits = 0
        self.intake = Intake(self.disk, self._stored, self.problems.append, **options)

    def _stored(self) -> None:
        self.commits += 1


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(**options) -> Rig:
        made.append(Rig(tmp_path, **options))
        return made[-1]

    yield make
    for one in made:
        one.disk.broken = False
        one.disk.free.set()
        one.intake.close(5)
        one.disk.close()


def test_the_first_event_is_stored_at_once_and_the_next_together(rig, make_event, wait_until):
    one = rig(gather_s=1.0)
    one.intake.put([make_event(track=0)])
    wait_until(lambda: one.commits == 1)
    for track in range(1, 6):
        one.intake.put([make_event(track=track)])
    assert one.intake.depth == 5
    wait_until(lambda: one.intake.depth == 0)
    assert one.disk.groups == [1, 5]
    tracks = [row.payload.split(b'"track":')[1][:1] for row in one.disk.pending(10)]
    assert tracks == [b"0", b"1", b"2", b"3", b"4", b"5"]


def test_putting_never_waits_for_the_disk(rig, make_event, wait_until):
    one = rig(gather_s=0.0)
    one.disk.free.clear()
    for _ in range(50):
        # Would block for ever, were it to wait.
        one.intake.put([make_event()])
    assert one.intake.depth == 50
    one.disk.free.set()
    assert one.intake.flush(5)
    assert one.disk.depth == 50


def test_many_events_are_not_gathered_for_long(rig, make_event, wait_until):
    one = rig(gather_s=1000.0)
    one.intake.put([make_event()])
    wait_until(lambda: one.commits == 1)
    one.intake.put([make_event()] * 1200)
    wait_until(lambda: sum(one.disk.groups) == 1001)
    assert one.intake.flush(5)
    assert one.disk.groups == [1, 500, 500, 200]


def test_closing_stores_what_is_gathered(rig, make_event):
    one = rig(gather_s=1000.0)
    one.intake.put([make_event()])
    one.intake.put([make_event(), make_event()])
    assert one.intake.close(5) == 0
    assert one.disk.depth == 3
    one.intake.put([make_event()])
    assert one.disk.depth == 3
    assert "lost" in one.problems[0]


def test_a_full_disk_is_one_problem_and_later_recovery(rig, make_event, wait_until):
    one = rig(gather_s=0.0)
    one.disk.broken = True
    for _ in range(20):
        one.intake.put([make_event()])
    wait_until(lambda: one.problems)
    for _ in range(5):
        assert not one.intake.flush(0.05)
    one.disk.broken = False
    assert one.intake.flush(5)
    wait_until(lambda: len(one.problems) == 2)
    assert "disk is full" in one.problems[0]
    assert "stored again" in one.problems[1]
    assert [row.seq for row in one.disk.pending(100)] == list(range(1, 21))
    assert one.disk.gap is None


def test_what_memory_could_not_hold_is_an_exact_gap(rig, make_event, wait_until):
    one = rig(gather_s=0.0, most=10)
    one.intake.put([make_event(track=n) for n in range(3)])
    wait_until(lambda: one.disk.depth == 3)
    one.disk.broken = True
    for n in range(3, 28):
        one.intake.put([make_event(track=n)])
    wait_until(lambda: one.problems)
    one.disk.broken = False
    assert one.intake.flush(5)
    assert [row.seq for row in one.disk.pending(100)] == [1, 2, 3, *range(19, 29)]
    assert one.disk.gap == Gap(stream=one.disk.stream, first=4, last=18, lost=15)
    assert one.disk.lost == 15


def test_what_cannot_be_stored_at_the_end_is_counted(rig, make_event, wait_until):
    one = rig(gather_s=0.0)
    one.disk.broken = True
    one.intake.put([make_event()] * 4)
    wait_until(lambda: one.problems)
    assert one.intake.close(0.1) == 4

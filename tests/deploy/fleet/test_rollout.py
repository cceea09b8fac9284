from __future__ import annotations

import asyncio

import pytest

from deploy.fleet.pace import Pace
from deploy.fleet.rollout import Terms, roll_out

NAMES = [f"barn-{n}" for n in range(1, 7)]


def run(bad: set[str], terms: Terms):
    """Roll out to six devices; return who was begun, in order, and what came of it."""
    begun: list[str] = []
    most = now = 0

    async def work(name: str) -> bool:
        nonlocal most, now
        begun.append(name)
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        return name not in bad

    rolled = asyncio.run(roll_out(NAMES, work, lambda well: not well, terms))
    return begun, rolled, most


def test_everybody_is_done_and_no_more_than_so_many_at_a_time():
    begun, rolled, most = run({"barn-2"}, Terms(jobs=2))
    assert begun == NAMES
    assert (rolled.results["barn-2"], rolled.results["barn-3"]) == (False, True)
    assert (rolled.stopped, most) == ("", 2)


def test_canaries_go_first_and_must_succeed():
    begun, rolled, _ = run({"barn-2"}, Terms(jobs=8, canary=2))
    assert begun == ["barn-1", "barn-2"]
    assert rolled.stopped == "a device that went first failed"
    begun, rolled, _ = run({"barn-3"}, Terms(jobs=8, canary=2))
    assert begun[:2] == ["barn-1", "barn-2"]
    assert (len(begun), rolled.stopped) == (6, "")


@pytest.mark.parametrize(("most", "begun_count"), [(0, 1), (1, 2), (2, 6), (None, 6)])
def test_too_many_failures_stop_it(most, begun_count):
    begun, rolled, _ = run({"barn-1", "barn-2"}, Terms(jobs=1, max_failures=most))
    assert len(begun) == begun_count
    assert bool(rolled.stopped) == (begun_count < 6)


def test_those_under_way_finish():
    begun, rolled, _ = run({"barn-1"}, Terms(jobs=3, max_failures=0))
    assert set(begun) == {"barn-1", "barn-2", "barn-3"}
    assert set(rolled.results) == set(begun)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_pace_is_kept_over_all_and_a_pause_is_not_made_up_for():
    clock = Clock()
    pace = Pace(1000, clock=lambda: clock.now, sleep=clock.sleep)

    async def send(*sizes: int) -> float:
        begin = clock.now
        for size in sizes:
            await pace.take(size)
        return clock.now - begin

    # The last piece is let go once those before it have had their time.
    assert asyncio.run(send(500, 500, 1000, 1)) == pytest.approx(2.0)
    clock.now += 60
    assert asyncio.run(send(500, 500, 1)) == pytest.approx(1.0)


def test_pieces_are_small_on_a_slow_line():
    assert Pace(None).piece(1 << 20, 16 << 10) == 1 << 20
    assert Pace(100e6).piece(1 << 20, 16 << 10) == 1 << 20
    assert Pace(400_000).piece(1 << 20, 16 << 10) == 100_000
    assert Pace(1000).piece(1 << 20, 16 << 10) == 16 << 10

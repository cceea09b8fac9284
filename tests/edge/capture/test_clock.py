"""The wall clock is told only when it can be believed."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from edge.capture.clock import WallClock, kernel_synchronised

# What fake-hwclock has after a power cut: the hour at which the machine was last switched off.
NOW = datetime(2026, 3, 5, 7, 30, tzinfo=UTC)


def clock(tmp_path: Path, *answers: bool | None, now: datetime = NOW) -> WallClock:
    """A clock of which the kernel says one thing after another, the last for ever."""
    left = list(answers)
    return WallClock(
        now=lambda: now,
        synchronised=lambda: left.pop(0) if len(left) > 1 else left[0],
        set_since_boot=tmp_path / "synchronized",
    )


def test_a_plausible_year_alone_is_not_believed(tmp_path: Path) -> None:
    assert clock(tmp_path, False).time() is None
    assert clock(tmp_path, True).time() == NOW


def test_it_is_told_from_the_moment_on_that_it_is_set(tmp_path: Path) -> None:
    unset = clock(tmp_path, False, False, True)
    assert [unset.time() for _ in range(3)] == [None, None, NOW]


def test_once_set_it_stays_believed_when_the_network_is_lost_for_hours(tmp_path: Path) -> None:
    left_alone = clock(tmp_path, True, False)
    assert [left_alone.time() for _ in range(3)] == [NOW] * 3


def test_so_it_does_for_an_agent_that_started_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "synchronized").touch()
    assert clock(tmp_path, False).time() == NOW


def test_the_year_decides_where_the_kernel_cannot_be_asked(tmp_path: Path) -> None:
    assert clock(tmp_path, None).time() == NOW
    assert clock(tmp_path, None, now=datetime(1970, 1, 1, tzinfo=UTC)).time() is None
    assert clock(tmp_path, True, now=datetime(2024, 12, 31, tzinfo=UTC)).time() is None


@pytest.mark.parametrize(
    ("answer", "maxerror", "expected"),
    [(0, 4_000, True), (5, 16_000_000, False), (5, 900_000, True), (-1, 0, None)],
)
def test_what_the_kernel_says(
    answer: int, maxerror: int, expected: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Library:
        @staticmethod
        def adjtimex(timex: Any) -> int:
            assert timex._obj.modes == 0  # ask, and change nothing
            timex._obj.maxerror = maxerror
            return answer

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library)
    assert kernel_synchronised() is expected


def test_a_system_without_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert kernel_synchronised() is None


def test_this_machine_s_kernel_says_what_timedatectl_says() -> None:
    if shutil.which("timedatectl") is None:
        pytest.skip("no timedatectl here")
    said = subprocess.run(
        ["timedatectl", "show", "--property=NTPSynchronized", "--value"],
        capture_output=True,
        text=True,
    ).stdout.strip()
    if said not in ("yes", "no"):
        pytest.skip("timedatectl does not answer here")
    assert kernel_synchronised() is (said == "yes")


def test_a_clock_that_somebody_vouches_for_is_believed_but_never_before_2025(
    tmp_path: Path,
) -> None:
    times = iter([datetime(1970, 1, 1, tzinfo=UTC), datetime(2026, 11, 24, tzinfo=UTC)])
    clock = WallClock(
        now=lambda: next(times), synchronised=lambda: False, set_since_boot=tmp_path / "no"
    )
    clock.believe()
    assert clock.time() is None
    assert clock.time() == datetime(2026, 11, 24, tzinfo=UTC)

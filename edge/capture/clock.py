"""The wall clock, when it can be believed."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

# Whose word on the time is taken: a time server's, or whoever has set this machine's clock.
ClockTrust = Literal["ntp", "system"]
# A device without a battery-backed clock wakes up years ago.
_NOT_BEFORE = datetime(2025, 1, 1, tzinfo=UTC)
# systemd-timesyncd makes it when it has set the clock for the first time since the machine started.
_SET_SINCE_BOOT = Path("/run/systemd/timesync/synchronized")
# The kernel's largest error, which stands for: nobody knows (NTP_PHASE_LIMIT).
_UNKNOWN_ERROR_US = 16_000_000


class _Timex(ctypes.Structure):
    """The beginning of the kernel's `struct timex`, and room for the rest; adjtimex(2)."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    )


def kernel_synchronised() -> bool | None:
    """Return whether the kernel's clock is synchronised, None where it cannot be asked.

    Asked as `timedatectl` asks: by the clock's largest error, since the flag STA_UNSYNC is also set
    to keep the kernel's hands off the battery-backed clock. Containers may forbid the question.
    """
    timex = _Timex(modes=0)
    try:
        answer = ctypes.CDLL(None).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        return None
    return None if answer < 0 else timex.maxerror < _UNKNOWN_ERROR_US


class WallClock:
    """Tells the time of day once somebody has set the clock; never before 2025.

    A clock that was synchronised once since the machine started stays believed: hours after the
    network was lost the kernel gives it up, and it is right to some seconds a week. Where the
    kernel cannot be asked, the year decides.
    """

    def __init__(
        self,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        synchronised: Callable[[], bool | None] = kernel_synchronised,
        set_since_boot: Path = _SET_SINCE_BOOT,
    ) -> None:
        self._now, self._synchronised, self._mark = now, synchronised, set_since_boot
        self._was_set = False

    def time(self) -> datetime | None:
        """Return the time in UTC, None while the clock cannot be believed."""
        now = self._now()
        return now if now >= _NOT_BEFORE and self._is_set() else None

    def believe(self) -> None:
        """Take the clock as it is from now on, whoever has set it."""
        self._was_set = True

    def _is_set(self) -> bool:
        # Every frame asks, and what was once set stays set.
        if not self._was_set:
            kernel = self._synchronised()
            if kernel is None:
                return True
            self._was_set = kernel or self._mark.exists()
        return self._was_set


_CLOCK = WallClock()


def believe_system() -> None:
    """Take this machine's clock as it is, without a time server: whoever asks for it vouches."""
    _CLOCK.believe()


def wall_time() -> datetime | None:
    """Return the time in UTC, or None while the device's clock cannot be believed."""
    return _CLOCK.time()

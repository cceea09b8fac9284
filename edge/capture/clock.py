"""The wall clock, when it can be believed."""

from __future__ import annotations

from datetime import UTC, datetime

# A device without a battery-backed clock wakes up years ago.
_NOT_BEFORE = datetime(2025, 1, 1, tzinfo=UTC)


def wall_time() -> datetime | None:
    """Return the time in UTC, or None while the device's clock plainly has not been set."""
    now = datetime.now(UTC)
    return now if now >= _NOT_BEFORE else None

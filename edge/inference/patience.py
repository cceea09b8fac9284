"""How often a backend that fails is started once more."""

from __future__ import annotations

from collections.abc import Callable

# Whoever has answered for so long has recovered: what happened before is forgotten.
GOOD_SPELL_S = 60.0


class Patience:
    """Counts a backend's failures since it last answered for a while; never by the minute.

    A hang costs up to half a minute, so failures that are counted by the minute are never many.

    restarts: failures that are borne. hangs: how many of them in a row, without an answer in
    between, are too many; None: no limit of their own. clock: monotonic seconds.
    """

    def __init__(self, restarts: int, hangs: int | None, clock: Callable[[], float]) -> None:
        self.restarts, self.hangs = restarts, hangs
        self.failures = 0
        self._hung = 0
        self._clock = clock
        self._ready_s = self._answered_s = clock()

    def ready(self) -> None:
        """Note that a child is there, with all its models."""
        self._ready_s = self._answered_s = self._clock()

    def answered(self) -> None:
        """Note that it did what it is there for."""
        self._answered_s = self._clock()
        self._hung = 0

    def failed(self, *, hung: bool) -> bool:
        """Note that it failed; say whether another start is worth it."""
        # Time in which nothing was asked, or in which it hung, does not speak for it.
        if self._answered_s - self._ready_s >= GOOD_SPELL_S:
            self.failures = self._hung = 0
        self._ready_s = self._answered_s
        self.failures += 1
        self._hung += hung
        return self.failures <= self.restarts and (self.hangs is None or self._hung < self.hangs)

"""How long to wait before the next attempt, and how to be woken from any wait."""

from __future__ import annotations

import contextlib
import random
import selectors
import socket
import time
from collections.abc import Callable


class Backoff:
    """Waits that double from `first_s` to `cap_s`, each shortened at random by up to a half.

    Without the randomness a thousand barns would come back in the same second after an outage.
    """

    def __init__(self, first_s: float, cap_s: float, rng: random.Random | None = None) -> None:
        self._first_s = first_s
        self._cap_s = cap_s
        self._rng = rng or random.Random()
        self._next_s = first_s

    def next_s(self) -> float:
        """Return the wait before the next attempt, seconds."""
        wait_s = self._next_s * self._rng.uniform(0.5, 1.0)
        self._next_s = min(self._next_s * 2, self._cap_s)
        return wait_s

    def reset(self) -> None:
        """Begin with the shortest wait again, after a success."""
        self._next_s = self._first_s


class Rate:
    """At most `per_s` of something a second, and at most `burst`, or a second's worth, at once."""

    def __init__(
        self,
        per_s: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        burst: float | None = None,
    ) -> None:
        self._per_s = per_s
        self._clock = clock
        self._left = self._most = max(per_s, 1.0) if burst is None else burst
        self._at_s = clock()

    def allowed(self) -> int:
        """Return how many may go now."""
        now_s = self._clock()
        self._left = min(self._left + (now_s - self._at_s) * self._per_s, self._most)
        self._at_s = now_s
        return int(self._left)

    def use(self, count: int) -> None:
        """Count what went."""
        self._left -= count

    def wait_s(self) -> float:
        """Return the seconds until a tenth of a second's worth may go, one at least."""
        self.allowed()
        return max((max(1.0, self._per_s / 10) - self._left) / self._per_s, 0.0)


class Waker:
    """A socket that becomes readable when another thread calls `wake`."""

    def __init__(self) -> None:
        self.socket, self._other = socket.socketpair()
        self.socket.setblocking(False)
        self._other.setblocking(False)

    def wake(self) -> None:
        """End the wait that is running, or the next one."""
        # Full: a wake-up is waiting already. Closed: nobody waits any more.
        with contextlib.suppress(OSError):
            self._other.send(b"\0")

    def clear(self) -> None:
        """Forget the wake-ups so far."""
        try:
            while self.socket.recv(4096):
                pass
        except BlockingIOError:
            pass

    def wait(self, timeout_s: float) -> None:
        """Sleep for `timeout_s` or until woken."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.socket, selectors.EVENT_READ)
            selector.select(max(timeout_s, 0.0))
        self.clear()

    def close(self) -> None:
        """Close both ends."""
        self.socket.close()
        self._other.close()

"""Events come in from camera threads, which never wait for the disk, and are stored in groups."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from edge.errors import EarmarkError
from edge.messaging.events import Sighting
from edge.messaging.outbox import Outbox
from edge.messaging.retry import Backoff

LOG = logging.getLogger(__name__)
# So many are stored at once, however short ago the last commit was.
_GROUP = 500
# About an hour of a busy barn, some MB: what a disk that fails may cost in memory.
_MOST = 20_000
_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 30.0


class Intake:
    """Stores events in a thread of its own, in their order, at most one commit in `gather_s`.

    Each commit is a flush to the medium, which a memory card takes tenths of a second for and does
    not survive for ever. The first event after a pause is stored at once, what follows within
    `gather_s` together; so nothing is stored later than that, and no kind of event needs to be
    preferred: ends are as safe as starts. What cannot be stored stays in memory and is tried again
    until it can; when there are more than 20,000, the oldest are given up and counted as a gap.

    on_stored: called after each commit. on_problem: a line when storing fails, one when it works
    again. Both in the thread that stores.
    """

    def __init__(
        self,
        outbox: Outbox,
        on_stored: Callable[[], None],
        on_problem: Callable[[str], None],
        *,
        gather_s: float = 1.0,
        most: int = _MOST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._outbox = outbox
        self._on_stored = on_stored
        self._on_problem = on_problem
        self._gather_s = gather_s
        self._most = most
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: deque[Sighting] = deque()
        self._storing = 0
        self._given_up = 0
        self._flush = False
        self._closed = False
        self._failing = False
        self._thread = threading.Thread(target=self._work, name="earmark-outbox", daemon=True)

    @property
    def depth(self) -> int:
        """How many events are in memory only."""
        with self._changed:
            return len(self._waiting) + self._storing

    def put(self, events: Sequence[Sighting]) -> None:
        """Take events to be stored; returns at once."""
        with self._changed:
            if self._closed:
                self._given_up += len(events)
                self._tell(f"{len(events)} events lost: the outbox is closed already")
                return
            if not self._thread.ident:
                self._thread.start()
            self._waiting.extend(events)
            self._trim()
            self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Store at once what is here; whether it could be done in time."""
        with self._changed:
            self._flush = True
            self._changed.notify_all()
            return self._changed.wait_for(
                lambda: not (self._waiting or self._storing), max(timeout_s, 0.0)
            )

    def close(self, timeout_s: float) -> int:
        """Store what is here and end; return how many events could not be stored."""
        self.flush(timeout_s)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread.ident:
            self._thread.join(timeout_s)
        return self.depth

    # -- the thread --------------------------------------------------------------------------------

    def _work(self) -> None:
        backoff = Backoff(_FIRST_WAIT_S, _LONGEST_WAIT_S)
        stored_s = -self._gather_s
        while self._await_group(stored_s):
            stored_s = self._clock()
            try:
                self._store()
                backoff.reset()
            except Exception as error:
                self._failed(error)
                with self._changed:
                    self._flush = False
                    self._changed.wait_for(lambda: self._closed or self._flush, backoff.next_s())

    def _await_group(self, stored_s: float) -> bool:
        """Wait until it is time to store what is here; False when all is done for good."""
        with self._changed:
            while not self._closed:
                left_s = stored_s + self._gather_s - self._clock()
                if self._waiting and (left_s <= 0 or self._flush or len(self._waiting) >= _GROUP):
                    return True
                self._flush = self._flush and bool(self._waiting)
                self._changed.wait(left_s if self._waiting else None)
            return False

    def _store(self) -> None:
        with self._changed:
            group = [self._waiting.popleft() for _ in range(min(len(self._waiting), _GROUP))]
            self._storing = len(group)
            given_up = self._given_up
        try:
            if given_up:
                self._outbox.lose(given_up)
                with self._changed:
                    self._given_up -= given_up
            refused = len(group) - len(self._outbox.append(group))
            group = []
        finally:
            with self._changed:
                self._waiting.extendleft(reversed(group))
                self._storing = 0
                self._trim()
                self._changed.notify_all()
        if refused:
            self._tell(f"{refused} events over the size limit refused")
        if self._failing:
            self._failing = False
            self._tell(f"{self._outbox.path}: events are stored again")
        self._on_stored()

    def _trim(self) -> None:
        while len(self._waiting) > self._most:
            self._waiting.popleft()
            self._given_up += 1

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, EarmarkError):
            LOG.debug("storing events", exc_info=True)
        if not self._failing:
            self._failing = True
            self._tell(f"{error}; events wait in memory meanwhile, {self._most} at most")

    def _tell(self, text: str) -> None:
        try:
            self._on_problem(text)
        except Exception:
            LOG.debug("on_problem", exc_info=True)

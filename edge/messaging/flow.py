"""Which events go next, and when they leave the outbox; it outlives connections."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from edge.errors import EarmarkError
from edge.messaging.events import Gap, Ingested
from edge.messaging.outbox import Outbox
from edge.messaging.retry import Backoff, Rate
from edge.messaging.rows import Row
from edge.messaging.suspects import Suspects

Acknowledgement = Literal["broker", "ingest"]
# What was taken leaves the file in batches.
_SETTLE_S = 0.25
_SETTLE_ROWS = 2000
_DISK_WAIT_S = 5.0
# The retained watermark comes right after the subscription: what it covers need not go again.
_AFTER_CONNECTING_S = 1.0
_FIRST_STALL_S = 30.0
_LONGEST_STALL_S = 3600.0
_CHUNK = 100
_LARGEST_CHUNK = 1000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An event to be sent. late: it waited for a connection. again: the broker had it before."""

    row: Row
    stream: str
    late: bool
    again: bool


class Flow:
    """The order of sending. Not thread-safe: the network thread's own.

    ack `broker`: an event leaves the outbox when the broker has taken it. ack `ingest`: when an
    ingest service says that it is stored (`ingested`). Events go first in the order of their seq.
    With `ingest`, those that the broker took and ingest did not confirm go again, behind whatever
    is new: the oldest hundred after a reconnection or a silence of half a minute, up to an hour
    when that brings no answer; and as many more, and more each time, as long as each answer ends
    exactly where the last ones ended, which means that the broker lost what followed. When a
    silence goes on, ingest may wait for what this outbox let go on somebody else's word, the
    broker's before `ack` was `ingest`, or that of an ingest with another database: then gaps say
    what is not here.

    drain_per_s: at most so many events a second; 0 for no limit. on_problem: a line, once for each
    failure of the disk. EarmarkError is never raised: what the disk refuses is tried again.
    """

    def __init__(
        self,
        outbox: Outbox,
        on_problem: Callable[[str], None],
        *,
        ack: Acknowledgement = "broker",
        drain_per_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self.outbox = outbox
        self.ignored = 0
        self._on_problem = on_problem
        self._ingest = ack == "ingest"
        self._clock = clock
        self._rate = Rate(drain_per_s, clock) if drain_per_s > 0 else None
        self._pause = Backoff(1.0, 60.0, rng)
        self._stall = Backoff(_FIRST_STALL_S, _LONGEST_STALL_S, rng)
        self._disk_until_s: float | None = None
        self._complained: set[str] = set()
        self._settled_s = clock()
        self._begin()

    def _begin(self) -> None:
        """Begin with a stream."""
        self._stream = self.outbox.stream
        self._cursor = self.outbox.sent if self._ingest else 0
        self._late_until = self._known = self.outbox.last_seq
        self._unanswered: dict[int, Row] = {}
        self._back: int | None = None
        self._paused_until_s: float | None = None
        self._taken: set[int] = set()
        self._suspects = Suspects()
        self._watermark = 0
        self._forgotten = True
        self._again: deque[Row] = deque()
        self._chunk = _CHUNK
        self._chunk_end = 0
        self._probed = False
        self._due_s = self._clock()
        self._told: set[tuple[int, int]] = set()

    # -- the connection ----------------------------------------------------------------------------

    def connected(self) -> None:
        """Begin with a new connection: what waits now comes late."""
        self._late_until = self.outbox.last_seq
        self._told.clear()
        if not self._probed:
            self._due_s = self._clock() + _AFTER_CONNECTING_S

    def disconnected(self, code: int | None = None) -> None:
        """Put back what was on its way. code: why the broker hung up, where it said so."""
        culprit = self._suspects.lost(self._unanswered, code)
        if culprit is not None:
            why = "the broker hangs up on it" + (f" (reason {code:#x})" if code else "")
            self.set_aside(culprit, self._stream, why)
        for seq in self._unanswered:
            self._send_again_from(seq)
        self._unanswered.clear()
        self._rewind()
        self.settle(at_once=True)

    # -- what goes next ----------------------------------------------------------------------------

    def next(self, room: int) -> list[Outgoing]:
        """Return at most `room` events to be sent now; each wants an answer."""
        if self.outbox.stream != self._stream:
            # The file was damaged and begun anew.
            self._begin()
            self._late_until = 0
        now_s = self._clock()
        if self._disk_until_s is not None and now_s < self._disk_until_s:
            return []
        if self._paused_until_s is not None:
            if now_s < self._paused_until_s or self._unanswered:
                return []
            self._paused_until_s = None
            self._rewind()
        if self._suspects.careful(self._cursor):
            room = min(room, 1 - len(self._unanswered))
        if self._rate is not None:
            room = min(room, self._rate.allowed())
        going = self._disk(lambda: self._new(room)) or []
        if self._ingest and len(going) < room:
            going += self._disk(lambda: self._old(room - len(going), now_s)) or []
        if self._rate is not None:
            self._rate.use(len(going))
        return going

    def _new(self, room: int) -> list[Outgoing]:
        last = self.outbox.last_seq
        if room <= 0 or self._cursor >= last:
            return []
        rows = self.outbox.pending(room, after=self._cursor, until=last)
        # Nothing else waits up to `last`: what is missing there was dropped.
        self._cursor = rows[-1].seq if len(rows) == room else last
        # A lost connection takes the cursor back, but ingest may have what had no answer.
        self._known = max(self._known, self._cursor)
        rows = [row for row in rows if row.seq not in self._taken]
        self._unanswered |= {row.seq: row for row in rows}
        return [Outgoing(row, self._stream, row.seq <= self._late_until, False) for row in rows]

    def _old(self, room: int, now_s: float) -> list[Outgoing]:
        """Send again what the broker had and ingest did not confirm."""
        if not self._unconfirmed:
            self._due_s = max(self._due_s, now_s + _FIRST_STALL_S)
        elif not self._again and now_s >= self._due_s:
            if self._probed:
                self.outbox.note_absent(self._watermark)
            rows = self.outbox.pending(self._chunk, after=self._watermark, until=self.sent)
            self._again.extend(rows)
            self._chunk_end = rows[-1].seq if rows else 0
            self._told.clear()
            self._probed = True
            self._due_s = now_s + self._stall.next_s()
        going: list[Outgoing] = []
        while self._again and len(going) < room:
            row = self._again.popleft()
            if row.seq > self._watermark:
                going.append(Outgoing(row, self._stream, True, True))
        return going

    @property
    def sent(self) -> int:
        """Up to which number the broker has taken everything that waits here."""
        unsure = [*self._unanswered, self._cursor + 1]
        if self._back is not None:
            unsure.append(self._back)
        return min(unsure) - 1

    @property
    def passed(self) -> tuple[str, int]:
        """The stream, and up to which number all that waited there was given out by `next`."""
        return self._stream, self._cursor

    @property
    def behind(self) -> bool:
        """Whether there is more to send than went."""
        return self._cursor < self.outbox.last_seq

    @property
    def in_flight(self) -> int:
        """How many new events are without an answer."""
        return len(self._unanswered)

    @property
    def drained(self) -> bool:
        """Whether the broker has taken everything, and the outbox knows."""
        waits = self._unanswered or self._taken or self._back is not None
        return not (waits or self.behind)

    @property
    def undelivered(self) -> int:
        """How many events the broker has not taken."""
        if not self._ingest:
            return self.outbox.depth
        return self._disk(lambda: self.outbox.depth_above(self.sent)) or 0

    @property
    def wait_s(self) -> float:
        """After how many seconds to ask again, without anything else happening."""
        now_s = self._clock()
        waits = [1.0]
        if self._taken or not self._forgotten:
            waits.append(_SETTLE_S)
        if self._paused_until_s is not None:
            waits.append(max(self._paused_until_s - now_s, 0.05))
        if self._rate is not None and (self.behind or self._again):
            waits.append(self._rate.wait_s())
        return min(waits)

    # -- answers -----------------------------------------------------------------------------------

    def taken(self, event: Outgoing) -> None:
        """Note that the broker has an event."""
        if event.stream != self._stream:
            return
        self._pause.reset()
        if not event.again:
            self._unanswered.pop(event.row.seq, None)
            if not self._ingest:
                self._taken.add(event.row.seq)

    def refused(self, event: Outgoing) -> None:
        """Note that the broker will not have an event now: pause, then go back to it."""
        if event.stream != self._stream:
            return
        if self._paused_until_s is None:
            self._paused_until_s = self._clock() + self._pause.next_s()
        if not event.again:
            self._unanswered.pop(event.row.seq, None)
            self._send_again_from(event.row.seq)

    def set_aside(self, row: Row, stream: str, why: str) -> None:
        """Take out an event that the broker will never have, and say so."""
        if stream == self._stream:
            self._unanswered.pop(row.seq, None)
            self._disk(lambda: self.outbox.set_aside(row.seq, why))
            self._on_problem(f"event {row.seq} set aside, the broker will never take it: {why}")

    def ingested(self, word: Ingested) -> None:
        """Take the word of an ingest service: everything up to a number is stored for good."""
        if not self._ingest:
            return
        if word.stream != self._stream or word.seq > self._known:
            self.ignored += 1
            what = "another stream" if word.stream != self._stream else "events never sent"
            self._complain(f"down/ingest speaks of {what}; ignored")
            return
        if word.seq <= self._watermark:
            return
        landed = word.seq == self._chunk_end and not self._again
        if landed:
            self._chunk = min(self._chunk * 2, _LARGEST_CHUNK)
        elif word.seq > self._chunk_end:
            self._chunk = _CHUNK
        self._watermark = word.seq
        self._cursor = max(self._cursor, word.seq)
        self._forgotten = self._probed = False
        self._stall.reset()
        self._due_s = self._clock() + (0.0 if landed else self._stall.next_s())

    def settle(self, *, at_once: bool = False, many: int = 0) -> None:
        """Take out of the outbox what it need not keep: now and then, or when there are `many`."""
        now_s = self._clock()
        if self._disk_until_s is not None and now_s < self._disk_until_s:
            return
        due = at_once or now_s - self._settled_s >= _SETTLE_S
        if not (due or (many and len(self._taken) >= many)) or self.outbox.stream != self._stream:
            return
        self._settled_s = now_s
        if self._ingest:
            self.outbox.note_sent(self.sent)
        if not self._forgotten:
            forget = self._disk(lambda: self.outbox.acknowledged(self._watermark, _SETTLE_ROWS))
            self._forgotten = bool(forget)
        if self._taken:
            self._disk(self._forget_taken)

    def _forget_taken(self) -> None:
        self.outbox.delivered(self._taken)
        self._taken.clear()

    # -- gaps --------------------------------------------------------------------------------------

    @property
    def gap(self) -> Gap | None:
        """The gap to be told of next, once everything before it has gone."""
        if not self.outbox.has_gap or self.outbox.stream != self._stream:
            return None
        for gap in self._disk(lambda: self.outbox.gaps) or []:
            if (gap.first, gap.last) in self._told:
                continue
            first = self.outbox.first
            gone = first is None or first > gap.last or self._cursor >= gap.first - 1
            # What is on its way may yet arrive, and then it is not lost.
            if gone and not any(seq <= gap.last for seq in self._unanswered):
                return gap
            return None
        return None

    def gap_told(self, gap: Gap) -> None:
        """Note that the broker has the message of a gap."""
        if not self._ingest:
            self._disk(lambda: self.outbox.gap_reported(gap))
        elif gap.stream == self._stream:
            # It stays until ingest has counted it, or its watermark would stop there for ever.
            self._told.add((gap.first, gap.last))

    # ----------------------------------------------------------------------------------------------

    @property
    def _unconfirmed(self) -> bool:
        return self.sent > self._watermark and (self.outbox.depth > 0 or self.outbox.has_gap)

    def _send_again_from(self, seq: int) -> None:
        self._back = seq if self._back is None else min(self._back, seq)

    def _rewind(self) -> None:
        if self._back is not None:
            self._late_until = max(self._late_until, self._cursor)
            self._cursor, self._back = min(self._cursor, self._back - 1), None

    def _disk(self, work: Callable[[], T]) -> T | None:
        try:
            result = work()
        except EarmarkError as error:
            self._disk_until_s = self._clock() + _DISK_WAIT_S
            self._complain(str(error))
            return None
        if self._disk_until_s is not None:
            self._disk_until_s = None
            self._complained.clear()
        return result

    def _complain(self, text: str) -> None:
        if text not in self._complained:
            self._complained.add(text)
            self._on_problem(text)

"""What one connection does for a device: outbox in order, retained topics, alarms, answers."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, TypeVar, cast

import msgspec

from edge.errors import EarmarkError
from edge.messaging.animals import AnimalBoard
from edge.messaging.connection import Ack, Connection, Terms
from edge.messaging.events import (
    SCHEMA,
    Alarm,
    Availability,
    DeviceState,
    Gap,
    LastSeen,
    OutboxState,
    PayloadError,
    Reply,
    Sighting,
    StateReport,
    decode,
    encode,
    timestamp,
)
from edge.messaging.flow import Flow, Outgoing
from edge.messaging.retry import Waker
from edge.messaging.suspects import NEVER
from edge.messaging.topics import Topics

STATE_INTERVAL_S = 15.0
_ALARMS = 100
_GAP_AGAIN_S = 60.0
_ANSWERS = 16

Status = Literal["online", "offline", "stopped"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply to a command, and what it must carry back to whoever asked."""

    reply: Reply
    correlation: bytes | None = None


@dataclass(slots=True, eq=False)
class Notice:
    """A retained message that belongs to the device as it is now; sent at every connection.

    An empty payload removes it. taken: whether a broker has acknowledged it.
    """

    payload: bytes
    taken: bool = False


@dataclass(slots=True)
class Mailbox:
    """What other threads leave for the network thread; it outlives connections.

    board: network thread only. animals: the word on each that is not yet sent. answers: the oldest
    gives way when nobody takes them. notices: by topic.
    """

    board: AnimalBoard
    lock: threading.Lock = field(default_factory=threading.Lock)
    state: DeviceState | None = None
    alarms: deque[Alarm] = field(default_factory=lambda: deque(maxlen=_ALARMS))
    animals: dict[str, LastSeen] = field(default_factory=dict)
    answers: deque[Answer] = field(default_factory=lambda: deque(maxlen=_ANSWERS))
    notices: dict[str, Notice] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Sent:
    """A publish without an answer yet, and what it carried."""

    topic: str
    payload: bytes
    event: Outgoing | None = None
    alarm: Alarm | None = None
    animal: LastSeen | None = None
    answer: Answer | None = None
    notice: Notice | None = None


class Delivery:
    """Sends over one connection until it is lost (BrokerError from `step`) or `finish`ed.

    At most the connection's window is without an answer. Which events go, and in which order, is
    the flow's to say, which leaves the outbox as the answers come.
    """

    def __init__(
        self,
        connection: Connection,
        topics: Topics,
        boot: str,
        flow: Flow,
        mailbox: Mailbox,
        on_problem: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._connection = connection
        self._topics = topics
        self._boot = boot
        self._flow = flow
        self._outbox = flow.outbox
        self._mailbox = mailbox
        self._on_problem = on_problem
        self._sent: dict[int, _Sent] = {}
        self._gap_at_s: float | None = 0.0
        self._complained: set[str] = set()
        self._state_sent: bytes | None = None
        self._state_s = -STATE_INTERVAL_S
        self._noticed: dict[str, Notice] = {}
        flow.connected()
        self._say("online")

    @property
    def drained(self) -> bool:
        """Whether everything that was left with us has been sent and answered."""
        mailbox = self._mailbox
        return self._flow.drained and not (
            self._sent
            or self._gap_due is not None
            or mailbox.alarms
            or mailbox.animals
            or mailbox.answers
            or self._new_notices()
        )

    def step(self, waker: Waker) -> None:
        """Send what can be sent, then wait for answers or work, a second at most."""
        waker.clear()
        self._send_answers()
        self._send_notices()
        self._send_alarms()
        self._send_events()
        self._send_animals()
        self._send_state()
        for ack in self._connection.turn(self._flow.wait_s, waker.socket):
            self._answer(ack)
        # Nothing on its way: what comes next will hardly come soon enough to be settled with it.
        idle = not self._flow.in_flight
        self._flow.settle(many=1 if idle else self._connection.window // 2)

    def finish(self, deadline_s: float) -> None:
        """Send the last state and `stopped`, await the answers, and disconnect.

        deadline_s: when to wait no longer, on `clock`.
        """
        self._flow.settle(at_once=True)
        self._send_state(at_once=True)
        self._say("stopped")
        while self._sent and self._clock() < deadline_s:
            for ack in self._connection.turn(deadline_s - self._clock()):
                self._answer(ack)
        self._flow.settle(at_once=True)
        self._connection.close()

    def abandon(self) -> None:
        """Close a lost connection and put back what it may not have delivered."""
        self._connection.abandon()
        self._flow.disconnected(self._connection.hung_up)
        with self._mailbox.lock:
            for sent in reversed(self._sent.values()):
                if sent.animal is not None:
                    self._mailbox.animals.setdefault(sent.animal.animal, sent.animal)
                elif sent.alarm is not None and sent.alarm.gap is None:
                    _put_back(self._mailbox.alarms, sent.alarm)
                elif sent.answer is not None:
                    _put_back(self._mailbox.answers, sent.answer)
        self._sent.clear()

    # -- sending -----------------------------------------------------------------------------------

    def _publish(self, sent: _Sent, *, retain: bool = False, terms: Terms | None = None) -> None:
        if not self._connection.fits(sent.topic, sent.payload):
            self._complain(
                sent.topic,
                f"{len(sent.payload)} bytes are more than the broker's "
                f"{self._connection.packet_limit}; left out",
            )
            return
        ticket = self._connection.publish(sent.topic, sent.payload, retain=retain, terms=terms)
        self._sent[ticket] = sent

    def _say(self, status: Status) -> None:
        payload = availability(self._topics.device, self._boot, status)
        self._publish(_Sent(self._topics.availability, payload), retain=True)

    def _send_events(self) -> None:
        for event in self._flow.next(self._free()):
            self._send_event(event)
        # What was dropped at the end of the stream is no jump in its numbers yet.
        self._tell(self._mailbox.board.passed(*self._flow.passed))

    def _send_event(self, outgoing: Outgoing) -> None:
        row = outgoing.row
        try:
            event = decode(row.payload, Sighting)
        except PayloadError as error:
            self._flow.set_aside(row, outgoing.stream, str(error))
            return
        payload = row.payload
        if outgoing.late:
            payload = encode(msgspec.structs.replace(event, replayed=True))
        if not self._connection.fits(self._topics.sighting, payload):
            why = f"larger than the broker's {self._connection.packet_limit} bytes"
            self._flow.set_aside(row, outgoing.stream, why)
            return
        self._publish(_Sent(self._topics.sighting, payload, event=outgoing))
        if not outgoing.again:
            self._tell(self._mailbox.board.observe(event))

    def _tell(self, changes: Iterable[LastSeen]) -> None:
        with self._mailbox.lock:
            self._mailbox.animals.update((seen.animal, seen) for seen in changes)

    def _send_animals(self) -> None:
        """Behind a long backlog only the newest word on each animal is sent."""
        if self._flow.behind:
            return
        with self._mailbox.lock:
            waiting = self._mailbox.animals
            chosen = [waiting.pop(animal) for animal in list(waiting)[: self._free()]]
        known = self._outbox.present
        new = {one.animal: encode(one) for one in chosen if one.present and one.animal not in known}
        if new:
            # A disk that fails is told of elsewhere; the animals are there all the same.
            with contextlib.suppress(EarmarkError):
                self._outbox.note_present(new)
        for seen in chosen:
            sent = _Sent(self._topics.animal(seen.animal), encode(seen), animal=seen)
            self._publish(sent, retain=True)

    def _send_answers(self) -> None:
        with self._mailbox.lock:
            answers = list(self._mailbox.answers)
            self._mailbox.answers.clear()
        for answer in answers:
            payload = encode(answer.reply)
            if not self._connection.fits(self._topics.reply, payload):
                why = (
                    f"the result is larger than the broker's {self._connection.packet_limit} bytes"
                )
                payload = encode(
                    msgspec.structs.replace(
                        answer.reply, ok=False, error="failed", text=why, result={}
                    )
                )
            self._publish(
                _Sent(self._topics.reply, payload, answer=answer),
                terms=Terms(correlation=answer.correlation),
            )

    def _new_notices(self) -> list[tuple[str, Notice]]:
        with self._mailbox.lock:
            return [
                (topic, notice)
                for topic, notice in self._mailbox.notices.items()
                if self._noticed.get(topic) is not notice
            ]

    def _send_notices(self) -> None:
        for topic, notice in self._new_notices():
            self._noticed[topic] = notice
            self._publish(_Sent(topic, notice.payload, notice=notice), retain=True)

    def _send_alarms(self) -> None:
        self._send_gap()
        with self._mailbox.lock:
            alarms = list(self._mailbox.alarms)
            self._mailbox.alarms.clear()
        for alarm in alarms:
            self._publish(_Sent(self._topics.alarm, encode(alarm), alarm=alarm))

    def _send_gap(self) -> None:
        """Tell of one gap at a time, the oldest first."""
        gap = self._gap_due
        if gap is not None:
            self._gap_at_s = None
            alarm = self._gap_alarm(gap)
            self._publish(_Sent(self._topics.alarm, encode(alarm), alarm=alarm))

    @property
    def _gap_due(self) -> Gap | None:
        """The gap to be told of now; None while one is without an answer or was just refused."""
        if self._gap_at_s is None or self._clock() < self._gap_at_s:
            return None
        return self._flow.gap

    def _gap_alarm(self, gap: Gap) -> Alarm:
        with self._mailbox.lock:
            state = self._mailbox.state
        kind = "outbox-gap" if gap.lost else "outbox-passed-on"
        if gap.lost:
            text = (
                f"{gap.lost} sightings were dropped before they could be delivered: the outbox was "
                "full, or they were too old, or could not be stored"
            )
        else:
            text = (
                f"sightings {gap.first} to {gap.last} left this device earlier, on the word of the "
                "broker or of an ingest with another database; none of them waits here"
            )
        return new_alarm(self._topics.device, self._boot, kind, text, state, gap)

    def _send_state(self, *, at_once: bool = False) -> None:
        now_s = self._clock()
        with self._mailbox.lock:
            state = self._mailbox.state
        too_soon = self._state_sent is not None and now_s - self._state_s < STATE_INTERVAL_S
        if state is None or (too_soon and not at_once):
            return
        report = StateReport(
            **{name: getattr(state, name) for name in state.__struct_fields__},
            schema=SCHEMA,
            device=self._topics.device,
            boot=self._boot,
            protocol=cast(Literal["5", "3.1.1"], self._connection.protocol_name),
            outbox=OutboxState(
                depth=self._outbox.depth,
                oldest=self._outbox.oldest,
                lost=self._outbox.lost,
                set_aside=self._outbox.aside,
            ),
        )
        payload = encode(report)
        if payload != self._state_sent:
            self._publish(_Sent(self._topics.state, payload), retain=True)
            self._state_sent, self._state_s = payload, now_s

    # -- answers -----------------------------------------------------------------------------------

    def _answer(self, ack: Ack) -> None:
        sent = self._sent.pop(ack.ticket, None)
        if sent is None:
            return
        event, gap = sent.event, sent.alarm.gap if sent.alarm is not None else None
        if gap is not None:
            self._gap_at_s = self._clock() + (0.0 if ack.failure is None else _GAP_AGAIN_S)
        if ack.failure is None:
            self._complained.discard(sent.topic)
            if event is not None:
                self._flow.taken(event)
            elif gap is not None:
                self._flow.gap_told(gap)
            elif sent.notice is not None:
                sent.notice.taken = True
            elif sent.animal is not None and not sent.animal.present:
                self._gone(sent.animal.animal)
        elif event is not None and ack.failure in NEVER:
            self._flow.set_aside(event.row, event.stream, ack.reason)
        else:
            if event is not None:
                self._flow.refused(event)
            self._complain(
                sent.topic,
                f"refused ({ack.reason}); check its rules for {self._topics.device}; "
                f"{self._outbox.depth} events wait",
            )

    def _gone(self, animal: str) -> None:
        """Forget an animal that was told as gone, unless it is back already."""
        on_their_way = (sent.animal for sent in self._sent.values())
        if not any(one and one.present and one.animal == animal for one in on_their_way):
            with contextlib.suppress(EarmarkError):
                self._outbox.note_gone(animal)

    def _complain(self, topic: str, what: str) -> None:
        """Tell what is wrong with a topic, once until it works."""
        if topic not in self._complained:
            self._complained.add(topic)
            self._on_problem(f"broker {self._connection.broker.address}: {topic}: {what}")

    def _free(self) -> int:
        """How many more publishes the window has room for."""
        return max(self._connection.window - len(self._sent), 0)


def _put_back(queue: deque[T], item: T) -> None:
    """Put what is older than all that waits in front, unless there is no room: the newest stay."""
    if queue.maxlen is None or len(queue) < queue.maxlen:
        queue.appendleft(item)


def availability(device: str, boot: str, status: Status) -> bytes:
    """Return the payload of `up/availability`."""
    return encode(Availability(schema=SCHEMA, device=device, status=status, boot=boot))


def new_alarm(
    device: str, boot: str, kind: str, text: str, state: DeviceState | None, gap: Gap | None = None
) -> Alarm:
    """Return an alarm of now; without a time while the clock cannot be trusted."""
    synced = state is not None and state.clock == "synced"
    return Alarm(
        schema=SCHEMA,
        device=device,
        boot=boot,
        kind=kind,
        text=text[:500],
        at=timestamp(datetime.now(UTC)) if synced else None,
        gap=gap,
    )

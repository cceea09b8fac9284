"""Signed class means to devices over the broker, and what becomes of them there."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from deploy.means.letters import Letter
from edge.errors import BrokerError
from edge.messaging.broker import BrokerOptions, BrokerRefused
from edge.messaging.connection import Connection, Message, open_connection
from edge.messaging.events import Availability, PayloadError, UpdateReport, decode
from edge.messaging.topics import Topics, parse_topic

_TURN_S = 0.1
# How long retained messages take that tell what was there before.
_LISTEN_S = 0.5
_ACK_S = 10.0
_FAILED = ("rejected", "rolled_back")


@dataclass(slots=True)
class Fate:
    """What is known of one device. outcome: `applied`, `refused`, `away`, `silent`; why: in words.

    after_s: seconds from the last message sent until the device had applied them.
    """

    device: str
    outcome: str = "silent"
    why: str = ""
    after_s: float | None = None
    online: bool = False
    report: UpdateReport | None = None
    stale: set[str] = field(default_factory=set)

    @property
    def settled(self) -> bool:
        """Whether nothing more is to be expected."""
        return self.outcome in ("applied", "refused")

    def hear(self, report: UpdateReport, seq: int, before_rev: int, elapsed_s: float) -> None:
        """Take note of a report that came after the messages were sent."""
        self.report = report
        if report.means >= seq and report.phase not in _FAILED:
            self.outcome, self.after_s = "applied", elapsed_s
        elif report.rev > before_rev and (report.phase in _FAILED or report.closed):
            self.outcome = "refused"
            self.why = f"{report.reason or report.phase}: {report.text}"
        elif report.phase == "deferred":
            self.why = f"put off: {report.reason}: {report.text}"


def listen_for_devices(broker: BrokerOptions) -> list[str]:
    """Return the devices that the broker knows of."""
    found: set[str] = set()

    def hear(message: Message) -> None:
        address = parse_topic(message.topic)
        if address is not None and address.kind == "availability":
            found.add(address.device)

    connection = open_connection(broker, _client(), on_message=hear)
    try:
        connection.subscribe(Topics("any-device").availability.replace("any-device", "+"))
        _turn_for(connection, _LISTEN_S)
    except BaseException:
        connection.abandon()
        raise
    connection.close()
    return sorted(found)


def push(
    broker: BrokerOptions,
    letters: Mapping[str, Sequence[Letter]],
    seq: int,
    timeout_s: float,
    tell: Callable[[Fate], object] = lambda fate: None,
) -> list[Fate]:
    """Send each device its messages, retained, and wait for what becomes of class means `seq`.

    What lay retained there before and is not among them is removed. timeout_s: how long devices
    that are on-line are waited for, 0 for not at all. tell: called with each device that is done.
    BrokerRefused where this user may not publish, BrokerUnreachable.
    """
    post = _Post(broker, letters, seq)
    try:
        post.look_around()
        post.send()
        post.wait(timeout_s, tell)
    except BaseException:
        post.connection.abandon()
        raise
    post.connection.close()
    return list(post.fates.values())


class _Post:
    """One connection that sends to several devices and hears what they say."""

    def __init__(
        self, broker: BrokerOptions, letters: Mapping[str, Sequence[Letter]], seq: int
    ) -> None:
        self._letters, self._seq = letters, seq
        self.fates = {device: Fate(device) for device in letters}
        self._revs = dict.fromkeys(letters, -1)
        self._sent_s: float | None = None
        self.connection = open_connection(broker, _client(), on_message=self._hear)

    def look_around(self) -> None:
        """Learn what is retained, and who is there."""
        for device in self._letters:
            topics = Topics(device)
            for topic in (topics.availability, topics.update, f"{topics.repo}/#"):
                self.connection.subscribe(topic)
        _turn_for(self.connection, _LISTEN_S)

    def send(self) -> None:
        """Publish all messages, then remove what is out of date."""
        self._sent_s = time.monotonic()
        for device, letters in self._letters.items():
            repo = Topics(device).repo
            self._publish((f"{repo}/{letter.path}", letter.data) for letter in letters)
            new = {f"{repo}/{letter.path}" for letter in letters}
            self._publish((topic, b"") for topic in sorted(self.fates[device].stale - new))
        self._sent_s = time.monotonic()

    def wait(self, timeout_s: float, tell: Callable[[Fate], object]) -> None:
        """Wait for the devices that are on-line."""
        assert self._sent_s is not None
        told: set[str] = set()
        end_s = self._sent_s + timeout_s
        while True:
            for device, fate in self.fates.items():
                if fate.settled and device not in told:
                    told.add(device)
                    tell(fate)
            waiting = [one for one in self.fates.values() if one.online and not one.settled]
            if not waiting or time.monotonic() >= end_s:
                break
            self.connection.turn(_TURN_S)
        for device, fate in self.fates.items():
            if not fate.settled:
                fate.outcome = "silent" if fate.online else "away"
            if device not in told:
                tell(fate)

    def _publish(self, messages: Iterable[tuple[str, bytes]]) -> None:
        tickets = {
            self.connection.publish(topic, data, retain=True): topic for topic, data in messages
        }
        end_s = time.monotonic() + _ACK_S
        while tickets:
            for ack in self.connection.turn(_TURN_S):
                topic = tickets.pop(ack.ticket, "")
                if ack.failure is not None:
                    raise BrokerRefused(
                        f"broker {self.connection.broker.address}: may not publish to {topic} "
                        f"({ack.reason}); check the broker's rules for this user"
                    )
            if time.monotonic() >= end_s:
                raise BrokerError(
                    f"broker {self.connection.broker.address}: has not taken {len(tickets)} "
                    "messages; send them again"
                )

    def _hear(self, message: Message) -> None:
        for device, fate in self.fates.items():
            topics = Topics(device)
            if message.topic == topics.availability:
                self._heard_of(fate, message.payload)
            elif message.topic == topics.update:
                self._reported(fate, message.payload)
            elif message.topic.startswith(f"{topics.repo}/") and message.payload:
                fate.stale.add(message.topic)

    def _heard_of(self, fate: Fate, payload: bytes) -> None:
        try:
            said = decode(payload, Availability)
        except PayloadError:
            return
        fate.online = said.status == "online"

    def _reported(self, fate: Fate, payload: bytes) -> None:
        try:
            report = decode(payload, UpdateReport)
        except PayloadError:
            return
        if report.device != fate.device:
            return
        if self._sent_s is None:
            self._revs[fate.device] = report.rev
        elif not fate.settled:
            elapsed_s = time.monotonic() - self._sent_s
            fate.hear(report, self._seq, self._revs[fate.device], elapsed_s)


def _client() -> str:
    return f"earmark-means-{uuid.uuid4().hex[:8]}"


def _turn_for(connection: Connection, seconds: float) -> None:
    end_s = time.monotonic() + seconds
    while (left_s := end_s - time.monotonic()) > 0:
        connection.turn(min(left_s, _TURN_S))


def in_words(fate: Fate) -> str:
    """Return what became of one device, a line for people."""
    match fate.outcome:
        case "applied":
            after_s = fate.after_s if fate.after_s is not None else math.nan
            return f"{fate.device}: applied after {after_s:.1f} s"
        case "refused":
            return f"{fate.device}: refused: {fate.why}"
        case "away":
            return f"{fate.device}: away; it takes them when it connects"
    return f"{fate.device}: no word yet" + (f" ({fate.why})" if fate.why else "")

"""Fault table, `ack: ingest`: what the broker took and lost is not lost."""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.messaging import BrokerOptions, Messenger, Outbox
from edge.messaging.broker import BrokerUnreachable
from edge.messaging.connection import Connection, Message, open_connection
from edge.messaging.events import Alarm, Ingested, Sighting, decode, encode
from edge.messaging.local_broker import Mosquitto
from edge.messaging.topics import Topics

pytestmark = pytest.mark.slow
TOPICS = Topics("barn-7")


class Ingest:
    """Stores what it receives, and tells up to where it has everything.

    broken: takes messages and forgets them, as one that was killed before its commit.
    """

    def __init__(self, broker: Mosquitto) -> None:
        self._broker = BrokerOptions(broker.url)
        self._connection: Connection | None = None
        self.stored: dict[str, set[int]] = defaultdict(set)
        self.missing: dict[str, set[int]] = defaultdict(set)
        self.received = 0
        self.broken = False
        self._told: dict[str, int] = defaultdict(int)

    def open(self) -> None:
        self._connection = open_connection(
            self._broker, "ingest", session_expiry_s=3600, on_message=self._receive
        )
        self._connection.subscribe(TOPICS.sighting)
        self._connection.subscribe(TOPICS.alarm)

    def work(self, for_s: float = 0.05) -> None:
        """Receive for a moment, and publish the watermarks that rose."""
        if self._connection is None:
            self.open()
        assert self._connection is not None
        try:
            self._connection.turn(for_s)
        except BrokerUnreachable:
            self.kill()
            return
        for stream, stored in self.stored.items():
            known = stored | self.missing[stream]
            seq = self._told[stream]
            while seq + 1 in known:
                seq += 1
            if seq > self._told[stream]:
                self._told[stream] = seq
                self.tell(stream, seq)

    def tell(self, stream: str, seq: int) -> None:
        assert self._connection is not None
        word = Ingested(schema=1, device="barn-7", stream=stream, seq=seq)
        self._connection.publish(TOPICS.ingest, encode(word), retain=True)

    def kill(self) -> None:
        if self._connection is not None:
            self._connection.abandon()
            self._connection = None

    def _receive(self, message: Message) -> None:
        self.received += 1
        if self.broken:
            return
        if message.topic == TOPICS.alarm:
            gap = decode(message.payload, Alarm).gap
            if gap is not None:
                self.missing[gap.stream].update(range(gap.first, gap.last + 1))
            return
        event = decode(message.payload, Sighting)
        self.stored[event.stream].add(event.seq)


class Barn:
    def __init__(self, folder: Path, broker: Mosquitto, **limits) -> None:
        self.problems: list[str] = []
        self.outbox = Outbox(folder / "outbox.db", **limits)
        self.messenger = Messenger(
            BrokerOptions(broker.url),
            "barn-7",
            "b7",
            self.outbox,
            self.problems.append,
            ack="ingest",
            gather_s=0.0,
        )
        self.messenger.start()

    def close(self) -> None:
        self.messenger.stop(0)
        self.outbox.close()


@pytest.fixture
def rig(start_mosquitto, tmp_path) -> Iterator[Callable[..., tuple[Mosquitto, Ingest, Barn]]]:
    made: list[tuple[Ingest, Barn]] = []

    def make(*lines: str, **limits) -> tuple[Mosquitto, Ingest, Barn]:
        broker = start_mosquitto(*lines)
        ingest, barn = Ingest(broker), Barn(tmp_path, broker, **limits)
        ingest.open()
        barn.messenger.wait_connected(60)
        made.append((ingest, barn))
        return broker, ingest, barn

    yield make
    for ingest, barn in made:
        ingest.kill()
        barn.close()


def test_an_event_leaves_when_ingest_has_it(rig, make_event, wait_until):
    _, ingest, barn = rig()
    barn.messenger.publish([make_event()] * 100)
    wait_until(lambda: ingest.work() or barn.outbox.depth == 100)
    wait_until(lambda: ingest.work() or barn.outbox.depth == 0, 60)
    assert ingest.stored == {barn.outbox.stream: set(range(1, 101))}
    assert barn.problems == []


def test_a_broker_killed_after_its_answer_loses_nothing(rig, make_event, wait_until):
    """A default broker keeps all in memory; it takes the queue of ingest with it."""
    broker, ingest, barn = rig()
    barn.messenger.publish([make_event()] * 100)
    wait_until(lambda: ingest.work() or barn.outbox.depth == 0, 60)
    ingest.kill()
    barn.messenger.publish([make_event()] * 400)
    wait_until(lambda: barn.messenger._flow.sent == 500, 60)
    assert barn.outbox.depth == 400
    os.kill(broker._process.pid, signal.SIGKILL)
    broker._process.wait()
    barn.messenger.publish([make_event()] * 50)
    broker.start()
    wait_until(lambda: ingest.work() or barn.outbox.depth == 0, 120)
    assert ingest.stored == {barn.outbox.stream: set(range(1, 551))}


def test_ingest_killed_before_its_commit_gets_everything_again(rig, make_event, wait_until):
    _, ingest, barn = rig()
    ingest.broken = True
    barn.messenger.publish([make_event()] * 300)
    wait_until(lambda: ingest.work() or ingest.received >= 300, 60)
    ingest.kill()
    ingest.broken = False
    # It has acknowledged them to the broker: nobody but the device has them any more. The device
    # finds out by the silence; here its patience is shorter than half a minute.
    barn.messenger._flow._due_s = 0.0
    wait_until(lambda: ingest.work() or barn.outbox.depth == 0, 120)
    assert ingest.stored == {barn.outbox.stream: set(range(1, 301))}


def test_a_device_that_starts_again_goes_on(rig, make_event, wait_until, tmp_path):
    broker, ingest, barn = rig()
    barn.messenger.publish([make_event()] * 50)
    wait_until(lambda: ingest.work() or barn.outbox.depth == 0, 60)
    ingest.kill()
    barn.messenger.publish([make_event()] * 50)
    # All is with the broker, so that nothing is undelivered; but it stays.
    assert barn.messenger.stop(60) == 0
    assert barn.outbox.depth == 50
    barn.outbox.close()
    again = Barn(tmp_path, broker)
    try:
        again.messenger.publish([make_event()])
        wait_until(lambda: ingest.work() or again.outbox.depth == 0, 120)
        assert ingest.stored == {again.outbox.stream: set(range(1, 102))}
    finally:
        again.close()


def test_a_gap_does_not_stop_the_watermark(rig, make_event, wait_until):
    broker, ingest, barn = rig(limit_rows=50)
    ingest.kill()
    broker.stop()
    for _ in range(12):
        barn.messenger.publish([make_event()] * 10)
    wait_until(lambda: barn.outbox.last_seq == 120)
    assert barn.outbox.lost == 70
    broker.start()
    ingest.open()
    wait_until(lambda: ingest.work() or barn.outbox.depth == 0, 120)
    wait_until(lambda: not barn.outbox.has_gap)
    stream = barn.outbox.stream
    assert ingest.stored[stream] | ingest.missing[stream] >= set(range(1, 121))
    assert ingest.missing[stream] == set(range(1, 71))


def test_a_lying_watermark_removes_nothing(rig, make_event, wait_until):
    _, ingest, barn = rig()
    ingest.broken = True
    barn.messenger.publish([make_event()] * 10)
    wait_until(lambda: ingest.work() or ingest.received >= 10, 60)
    ingest.tell("0" * 32, 5)
    ingest.tell(barn.outbox.stream, 11)
    wait_until(lambda: ingest.work() or barn.messenger._flow.ignored == 2, 60)
    ingest.tell(barn.outbox.stream, 4)
    wait_until(lambda: ingest.work() or barn.outbox.depth == 6, 60)
    assert sum("ignored" in line for line in barn.problems) == 2

"""One connection's work against a fake connection and a fake clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from edge.errors import EarmarkError
from edge.messaging.animals import AnimalBoard
from edge.messaging.broker import BrokerOptions, BrokerUnreachable
from edge.messaging.connection import Ack, Terms
from edge.messaging.delivery import Answer, Delivery, Mailbox, Notice, new_alarm
from edge.messaging.events import (
    Alarm,
    Availability,
    DeviceState,
    LastSeen,
    Reply,
    Sighting,
    StateReport,
    decode,
    encode,
)
from edge.messaging.flow import Flow
from edge.messaging.outbox import Outbox
from edge.messaging.retry import Waker
from edge.messaging.topics import Topics

TOPICS = Topics("barn-7")


class FakeConnection:
    """Takes every publish; answers at the next turn unless told otherwise."""

    def __init__(self, window: int = 100) -> None:
        self.broker = BrokerOptions("mqtt://barn")
        self.protocol_name = "5"
        self.window = window
        self.packet_limit: int | None = None
        self.hung_up: int | None = None
        self.sent: list[tuple[str, bytes, bool]] = []
        self.terms: list[Terms | None] = []
        self.unanswered: deque[tuple[int, str, bytes]] = deque()
        self.most_unanswered = 0
        self.refuse: Callable[[str, bytes], int | None] = lambda topic, payload: None
        self.silent = False
        self.broken = False
        self.closed = False

    def fits(self, topic: str, payload: bytes) -> bool:
        return self.packet_limit is None or len(payload) <= self.packet_limit

    def publish(
        self, topic: str, payload: bytes, *, retain: bool, terms: Terms | None = None
    ) -> int:
        self.sent.append((topic, payload, retain))
        self.terms.append(terms)
        self.unanswered.append((len(self.sent), topic, payload))
        events = sum(one[1] == TOPICS.sighting for one in self.unanswered)
        self.most_unanswered = max(self.most_unanswered, events)
        return len(self.sent)

    def turn(self, timeout_s: float, wake: object = None) -> list[Ack]:
        if self.broken:
            raise BrokerUnreachable("broken")
        if self.silent:
            return []
        answers = [
            Ack(ticket, self.refuse(topic, payload), "why")
            for ticket, topic, payload in self.unanswered
        ]
        self.unanswered.clear()
        return answers

    def close(self) -> None:
        self.closed = True

    def abandon(self) -> None:
        self.closed = True

    def payloads(self, topic: str) -> list[bytes]:
        return [payload for where, payload, _ in self.sent if where == topic]

    def events(self) -> list[tuple[int, bool]]:
        sightings = [decode(payload, Sighting) for payload in self.payloads(TOPICS.sighting)]
        return [(event.seq, event.replayed) for event in sightings]


class Rig:
    def __init__(self, folder: Path) -> None:
        self.outbox = Outbox(folder / "outbox.db", limit_rows=50)
        self.mailbox = Mailbox(AnimalBoard("b7"))
        self.problems: list[str] = []
        self.now_s = 1000.0
        self.waker = Waker()
        self.flow = Flow(self.outbox, self.problems.append, clock=lambda: self.now_s)

    def deliver(self, connection: FakeConnection) -> Delivery:
        return Delivery(
            connection,  # type: ignore[arg-type]
            TOPICS,
            "b7",
            self.flow,
            self.mailbox,
            self.problems.append,
            clock=lambda: self.now_s,
        )

    def steps(self, delivery: Delivery, count: int = 20, seconds: float = 0.0) -> None:
        for _ in range(count):
            delivery.step(self.waker)
            self.now_s += seconds

    def seqs(self) -> list[int]:
        return [row.seq for row in self.outbox.pending(100)]


@pytest.fixture
def rig(tmp_path: Path):
    rig = Rig(tmp_path)
    yield rig
    rig.outbox.close()
    rig.waker.close()


def state(**changes: object) -> DeviceState:
    fields: dict[str, object] = {
        "agent": "0.1.0",
        "release": "9f31",
        "means_seq": 57,
        "backend": "cpu",
        "degraded": False,
        "cameras": {},
        "clock": "synced",
    }
    return DeviceState(**{**fields, **changes})  # type: ignore[arg-type]


def test_events_go_in_order_and_leave_the_outbox(rig, make_event):
    connection = FakeConnection()
    delivery = rig.deliver(connection)
    rig.outbox.append([make_event() for _ in range(10)])
    rig.steps(delivery)
    assert connection.events() == [(seq, False) for seq in range(1, 11)]
    assert delivery.drained
    assert rig.seqs() == []


def test_without_an_answer_every_event_stays(rig, make_event):
    connection = FakeConnection()
    connection.silent = True
    delivery = rig.deliver(connection)
    rig.outbox.append([make_event() for _ in range(3)])
    rig.steps(delivery)
    assert connection.events() == [(1, False), (2, False), (3, False)]
    assert rig.seqs() == [1, 2, 3]
    assert not delivery.drained


def test_no_more_than_the_window_is_on_its_way(rig, make_event):
    connection = FakeConnection(window=3)
    delivery = rig.deliver(connection)
    rig.outbox.append([make_event() for _ in range(20)])
    rig.steps(delivery, 40)
    assert [seq for seq, _ in connection.events()] == list(range(1, 21))
    assert connection.most_unanswered <= 3
    assert delivery.drained


def test_what_waited_before_the_connection_is_replayed(rig, make_event):
    rig.outbox.append([make_event(), make_event()])
    connection = FakeConnection()
    delivery = rig.deliver(connection)
    rig.outbox.append([make_event()])
    rig.steps(delivery)
    assert connection.events() == [(1, True), (2, True), (3, False)]


def test_after_a_loss_the_unanswered_come_again_and_nothing_else(rig, make_event):
    first = FakeConnection()
    delivery = rig.deliver(first)
    rig.outbox.append([make_event() for _ in range(2)])
    rig.steps(delivery)
    rig.outbox.append([make_event() for _ in range(2)])
    first.silent = True
    rig.steps(delivery)
    first.broken = True
    with pytest.raises(BrokerUnreachable):
        delivery.step(rig.waker)
    delivery.abandon()
    second = FakeConnection()
    rig.steps(rig.deliver(second))
    assert [seq for seq, _ in first.events()] == [1, 2, 3, 4]
    assert second.events() == [(3, True), (4, True)]
    assert rig.seqs() == []


def test_a_refused_event_stays_is_told_once_and_goes_later(rig, make_event):
    connection = FakeConnection()
    connection.refuse = lambda topic, payload: 0x87 if topic == TOPICS.sighting else None
    delivery = rig.deliver(connection)
    rig.outbox.append([make_event() for _ in range(3)])
    rig.steps(delivery, 30, seconds=0.1)
    assert rig.seqs() == [1, 2, 3]
    refusals = [line for line in rig.problems if TOPICS.sighting in line]
    assert len(refusals) == 1
    assert "3 events wait" in refusals[0]
    # Tried again with back-off, not at every turn.
    assert 3 <= len(connection.events()) <= 12
    connection.refuse = lambda topic, payload: None
    rig.steps(delivery, 100, seconds=1.0)
    assert rig.seqs() == []
    assert [seq for seq, _ in connection.events()][-3:] == [1, 2, 3]
    assert connection.events()[-1] == (3, True)


def test_an_event_that_will_never_be_taken_is_set_aside(rig, make_event):
    connection = FakeConnection()
    connection.packet_limit = 1500
    delivery = rig.deliver(connection)
    votes = {f"animal-{n:04}": n for n in range(100)}
    rig.outbox.append([make_event(), make_event(votes=votes), make_event()])
    rig.steps(delivery)
    assert [seq for seq, _ in connection.events()] == [1, 3]
    assert (rig.seqs(), rig.outbox.aside) == ([], 1)
    assert "1500 bytes" in rig.problems[0]


def test_an_answer_that_no_attempt_will_change_sets_aside_too(rig, make_event):
    connection = FakeConnection()
    connection.refuse = lambda topic, payload: 0x99 if b'"seq":1,' in payload else None
    delivery = rig.deliver(connection)
    rig.outbox.append([make_event(animal=None, reason="unknown"), make_event()])
    rig.steps(delivery)
    assert (rig.seqs(), rig.outbox.aside) == ([], 1)


def test_an_animal_is_told_after_its_sighting_and_only_the_newest_word(rig, make_event):
    connection = FakeConnection(window=2)
    delivery = rig.deliver(connection)
    rig.outbox.append([make_event(type="start")] + [make_event(type="update")] * 8)
    rig.outbox.append([make_event(type="end"), make_event(animal="cow009", track=8)])
    rig.steps(delivery, 40)
    told = [decode(data, LastSeen) for data in connection.payloads(TOPICS.animal("cow004"))]
    assert [(seen.seq, seen.present) for seen in told][-1] == (10, False)
    assert len(told) <= 2
    assert len(connection.payloads(TOPICS.animal("cow009"))) == 1
    topics = [topic for topic, _, _ in connection.sent]
    assert topics.index(TOPICS.animal("cow009")) > topics.index(TOPICS.sighting)
    assert all(retain == (topic != TOPICS.sighting) for topic, _, retain in connection.sent)


def test_an_animal_whose_message_was_lost_is_told_again(rig, make_event):
    event = make_event(stream=rig.outbox.stream)

    def word(animal: str, seq: int) -> LastSeen:
        (seen,) = AnimalBoard("b7").observe(msgspec.structs.replace(event, animal=animal, seq=seq))
        return seen

    first = FakeConnection()
    first.silent = True
    delivery = rig.deliver(first)
    rig.mailbox.animals |= {"cow004": word("cow004", 1), "cow009": word("cow009", 2)}
    delivery.step(rig.waker)
    rig.mailbox.animals["cow004"] = word("cow004", 3)
    delivery.abandon()
    second = FakeConnection()
    rig.steps(rig.deliver(second))
    assert second.payloads(TOPICS.animal("cow004")) == [encode(word("cow004", 3))]
    assert second.payloads(TOPICS.animal("cow009")) == [encode(word("cow009", 2))]


def told(connection: FakeConnection, animal: str) -> list[tuple[int, bool]]:
    words = [decode(data, LastSeen) for data in connection.payloads(TOPICS.animal(animal))]
    return [(word.seq, word.present) for word in words]


def test_whose_end_was_dropped_is_gone_though_no_event_follows(rig, make_event):
    connection = FakeConnection()
    delivery = rig.deliver(connection)
    rig.outbox.append([make_event(type="start"), make_event(track=8, animal="cow009")])
    rig.steps(delivery)
    rig.outbox.lose(1)
    rig.steps(delivery)
    assert told(connection, "cow004") == [(1, True), (1, False)]
    assert told(connection, "cow009") == [(2, True), (2, False)]
    rig.outbox.append([make_event(type="update", track=8, animal="cow009")])
    rig.steps(delivery)
    assert told(connection, "cow009")[2:] == [(4, True)]
    assert told(connection, "cow004")[2:] == []


def test_whose_end_is_set_aside_is_gone(rig, make_event):
    connection = FakeConnection()
    delivery = rig.deliver(connection)
    rig.outbox.append([make_event(type="start")])
    rig.steps(delivery)
    connection.packet_limit = 1500
    votes = {f"animal-{n:04}": n for n in range(100)}
    rig.outbox.append([make_event(type="end", votes=votes)])
    rig.steps(delivery)
    assert rig.outbox.aside == 1
    assert told(connection, "cow004") == [(1, True), (1, False)]


def test_who_is_told_as_present_is_on_disk_until_the_broker_knows_better(rig, make_event):
    connection = FakeConnection()
    delivery = rig.deliver(connection)
    rig.outbox.append([make_event(type="start"), make_event(track=8, animal="cow009")])
    rig.steps(delivery)
    kept = {animal: decode(data, LastSeen) for animal, data in rig.outbox.present.items()}
    assert {animal: (one.seq, one.present) for animal, one in kept.items()} == {
        "cow004": (1, True),
        "cow009": (2, True),
    }
    connection.silent = True
    rig.outbox.append([make_event(type="end")])
    rig.steps(delivery)
    assert told(connection, "cow004")[-1] == (3, False)
    assert set(rig.outbox.present) == {"cow004", "cow009"}
    connection.silent = False
    rig.steps(delivery)
    assert set(rig.outbox.present) == {"cow009"}


def test_who_comes_back_before_the_answer_stays_on_disk(rig, make_event):
    connection = FakeConnection()
    delivery = rig.deliver(connection)
    rig.outbox.append([make_event(type="start")])
    rig.steps(delivery)
    connection.silent = True
    for kind in ("end", "start"):
        rig.outbox.append([make_event(type=kind)])
        rig.steps(delivery)
    connection.silent = False
    rig.steps(delivery)
    assert told(connection, "cow004") == [(1, True), (2, False), (3, True)]
    assert set(rig.outbox.present) == {"cow004"}


def test_a_disk_that_takes_no_word_of_animals_stops_none(rig, make_event, monkeypatch):
    def fail(*given: object) -> None:
        raise EarmarkError("no room")

    monkeypatch.setattr(rig.outbox, "note_present", fail)
    connection = FakeConnection()
    rig.outbox.append([make_event(type="start")])
    rig.steps(rig.deliver(connection))
    assert told(connection, "cow004") == [(1, True)]


def test_state_is_sent_on_change_and_at_most_every_fifteen_seconds(rig):
    connection = FakeConnection()
    delivery = rig.deliver(connection)
    rig.steps(delivery, 20, seconds=1.0)
    assert connection.payloads(TOPICS.state) == []
    rig.mailbox.state = state()
    rig.steps(delivery, 40, seconds=1.0)
    assert len(connection.payloads(TOPICS.state)) == 1
    for degrees in range(30):
        rig.mailbox.state = state(temperature=40.0 + degrees)
        rig.steps(delivery, 1, seconds=1.0)
    reports = [decode(data, StateReport) for data in connection.payloads(TOPICS.state)]
    assert [report.temperature for report in reports] == [None, 40.0, 55.0]
    assert (reports[0].protocol, reports[0].boot, reports[0].outbox.depth) == ("5", "b7", 0)


def test_alarms_go_at_once_and_again_after_a_loss(rig):
    first = FakeConnection()
    first.silent = True
    delivery = rig.deliver(first)
    rig.mailbox.alarms.append(new_alarm("barn-7", "b7", "camera-lost", "pen-3", state()))
    rig.mailbox.alarms.append(new_alarm("barn-7", "b7", "disk-low", "1 MB", None))
    delivery.step(rig.waker)
    assert not delivery.drained
    delivery.abandon()
    second = FakeConnection()
    delivery = rig.deliver(second)
    rig.steps(delivery)
    alarms = [decode(data, Alarm) for data in second.payloads(TOPICS.alarm)]
    assert [alarm.kind for alarm in alarms] == ["camera-lost", "disk-low"]
    assert alarms[0].at is not None
    assert alarms[1].at is None
    assert delivery.drained


def test_a_gap_is_told_exactly_and_once(rig, make_event):
    rig.outbox.append([make_event() for _ in range(62)])
    connection = FakeConnection()
    delivery = rig.deliver(connection)
    rig.steps(delivery)
    (alarm,) = [decode(data, Alarm) for data in connection.payloads(TOPICS.alarm)]
    assert alarm.kind == "outbox-gap"
    assert alarm.gap is not None
    assert (alarm.gap.first, alarm.gap.last, alarm.gap.lost) == (1, 12, 12)
    assert [seq for seq, _ in connection.events()] == list(range(13, 63))
    assert rig.outbox.gap is None


def test_what_is_only_not_here_is_no_loss(rig, make_event):
    rig.outbox.append([make_event() for _ in range(3)])
    rig.outbox.delivered([1, 2])
    rig.outbox.note_absent(0)
    connection = FakeConnection()
    rig.steps(rig.deliver(connection))
    (alarm,) = [decode(data, Alarm) for data in connection.payloads(TOPICS.alarm)]
    assert alarm.kind == "outbox-passed-on"
    assert alarm.text.startswith("sightings 1 to 2 left this device earlier")
    assert alarm.gap is not None
    assert (alarm.gap.first, alarm.gap.last, alarm.gap.lost) == (1, 2, 0)


def test_what_is_dropped_on_its_way_is_no_gap_when_it_arrives(rig, make_event):
    connection = FakeConnection(window=60)
    delivery = rig.deliver(connection)
    rig.outbox.append([make_event() for _ in range(50)])
    connection.silent = True
    delivery.step(rig.waker)
    rig.outbox.append([make_event() for _ in range(5)])
    delivery.step(rig.waker)
    assert rig.outbox.lost == 5
    connection.silent = False
    rig.steps(delivery)
    assert connection.payloads(TOPICS.alarm) == []
    assert (rig.outbox.gap, rig.outbox.lost) == (None, 0)
    assert delivery.drained


def test_availability_is_first_and_last(rig, make_event):
    connection = FakeConnection()
    delivery = rig.deliver(connection)
    rig.mailbox.state = state()
    rig.outbox.append([make_event()])
    rig.steps(delivery)
    delivery.finish(rig.now_s + 1)
    first, last = connection.sent[0], connection.sent[-1]
    for (topic, payload, retain), status in ((first, "online"), (last, "stopped")):
        assert (topic, retain) == (TOPICS.availability, True)
        said = decode(payload, Availability)
        assert (said.status, said.boot, said.device) == (status, "b7", "barn-7")
    assert connection.closed


def test_an_outbox_begun_anew_while_connected_is_sent_from_its_start(rig, make_event):
    connection = FakeConnection()
    delivery = rig.deliver(connection)
    rig.outbox.append([make_event() for _ in range(5)])
    rig.steps(delivery)
    rig.outbox.close()
    rig.outbox.path.write_bytes(b"rubbish" * 1000)
    rig.flow.outbox = rig.outbox = Outbox(rig.outbox.path)
    rig.outbox.append([make_event()])
    rig.steps(delivery)
    assert connection.events()[-1] == (1, False)
    assert rig.seqs() == []


def answer(number: int, **changes: object) -> Answer:
    fields: dict[str, object] = {"device": "barn-7", "boot": "b7", "id": f"n{number}", "ok": True}
    return Answer(Reply(schema=1, **{**fields, **changes}), f"c{number}".encode())  # type: ignore[arg-type]


def test_answers_go_out_once_before_events_and_again_after_a_loss(rig, make_event):
    connection = FakeConnection()
    connection.silent = True
    delivery = rig.deliver(connection)
    rig.outbox.append([make_event()])
    rig.mailbox.answers.extend([answer(1), answer(2)])
    rig.steps(delivery)
    topics = [topic for topic, _, _ in connection.sent]
    assert topics.index(TOPICS.reply) < topics.index(TOPICS.sighting)
    replies = [decode(data, Reply) for data in connection.payloads(TOPICS.reply)]
    assert [reply.id for reply in replies] == ["n1", "n2"]
    carried = [terms.correlation for terms in connection.terms if terms is not None]
    assert carried == [b"c1", b"c2"]
    assert not delivery.drained
    delivery.abandon()
    later = FakeConnection()
    again = rig.deliver(later)
    rig.steps(again)
    assert later.payloads(TOPICS.reply) == connection.payloads(TOPICS.reply)
    assert again.drained


def test_what_is_put_back_drives_out_nothing_newer(rig):
    first = FakeConnection()
    first.silent = True
    delivery = rig.deliver(first)
    for number in range(3):
        rig.mailbox.alarms.append(new_alarm("barn-7", "b7", f"old-{number}", "", None))
        rig.mailbox.answers.append(answer(number))
    delivery.step(rig.waker)
    for number in range(98):
        rig.mailbox.alarms.append(new_alarm("barn-7", "b7", f"new-{number}", "", None))
    for number in range(3, 18):
        rig.mailbox.answers.append(answer(number))
    delivery.abandon()
    second = FakeConnection()
    rig.steps(rig.deliver(second))
    kinds = [decode(data, Alarm).kind for data in second.payloads(TOPICS.alarm)]
    assert kinds == ["old-1", "old-2", *(f"new-{number}" for number in range(98))]
    replies = [decode(data, Reply) for data in second.payloads(TOPICS.reply)]
    assert [reply.id for reply in replies] == [f"n{number}" for number in range(2, 18)]


def test_only_the_last_answers_wait(rig):
    for number in range(100):
        rig.mailbox.answers.append(answer(number))
    connection = FakeConnection()
    rig.steps(rig.deliver(connection))
    replies = [decode(data, Reply) for data in connection.payloads(TOPICS.reply)]
    assert [reply.id for reply in replies] == [f"n{number}" for number in range(84, 100)]


def test_an_answer_that_the_broker_will_not_take_says_so_instead(rig):
    connection = FakeConnection()
    connection.packet_limit = 1000
    rig.mailbox.answers.append(answer(1, result={"jpeg": "A" * 2000}))
    rig.steps(rig.deliver(connection))
    (data,) = connection.payloads(TOPICS.reply)
    reply = decode(data, Reply)
    assert (reply.id, reply.ok, reply.error, reply.result) == ("n1", False, "failed", {})
    assert "1000 bytes" in reply.text


def test_a_notice_is_sent_once_a_connection_and_again_when_it_is_new(rig):
    notice = rig.mailbox.notices["home/config"] = Notice(b"{}")
    first = FakeConnection()
    first.silent = True
    delivery = rig.deliver(first)
    rig.steps(delivery)
    assert [one for one in first.sent if one[0] == "home/config"] == [("home/config", b"{}", True)]
    assert not notice.taken
    delivery.abandon()
    second = FakeConnection()
    delivery = rig.deliver(second)
    rig.steps(delivery)
    assert second.payloads("home/config") == [b"{}"]
    assert notice.taken
    rig.mailbox.notices["home/config"] = Notice(b"")
    assert not delivery.drained
    rig.steps(delivery)
    assert second.payloads("home/config") == [b"{}", b""]
    assert delivery.drained


def test_a_notice_that_is_too_large_is_told_and_holds_nothing_up(rig):
    connection = FakeConnection()
    connection.packet_limit = 1000
    notice = rig.mailbox.notices["home/config"] = Notice(b"x" * 2000)
    delivery = rig.deliver(connection)
    rig.steps(delivery)
    assert connection.payloads("home/config") == []
    assert len(rig.problems) == 1
    assert "2000 bytes" in rig.problems[0]
    assert delivery.drained
    assert not notice.taken


def test_a_notice_that_the_rules_refuse_is_told_once(rig):
    connection = FakeConnection()
    connection.refuse = lambda topic, payload: 0x87 if topic == "home/config" else None
    notice = rig.mailbox.notices["home/config"] = Notice(b"{}")
    delivery = rig.deliver(connection)
    rig.steps(delivery)
    assert not notice.taken
    assert ["home/config" in problem for problem in rig.problems] == [True]

"""The order of sending, against a broker and an ingest service that are a few lines each."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge.errors import EarmarkError
from edge.messaging.events import Gap, Ingested, Sighting
from edge.messaging.flow import Acknowledgement, Flow, Outgoing
from edge.messaging.outbox import Outbox
from edge.messaging.suspects import Suspects

MakeEvent = Callable[..., Sighting]


class Barn:
    """An outbox and its flow, with a clock that only moves when told to."""

    def __init__(self, folder: Path, ack: Acknowledgement, drain_per_s: float, limit: int) -> None:
        self.now_s = 1000.0
        self.problems: list[str] = []
        self.outbox = Outbox(folder / "outbox.db", limit_rows=limit, clock=lambda: self.now_s)
        self.ack: Acknowledgement = ack
        self._drain_per_s = drain_per_s
        self.begin()

    def begin(self) -> None:
        """Begin as a new process does, with the outbox of the last."""
        self.flow = Flow(
            self.outbox,
            self.problems.append,
            ack=self.ack,
            drain_per_s=self._drain_per_s,
            clock=lambda: self.now_s,
            rng=random.Random(1),
        )
        self.flow.connected()

    def restart(self) -> None:
        self.outbox.close()
        self.outbox = Outbox(self.outbox.path, clock=lambda: self.now_s)
        self.begin()

    def send(self, room: int = 100) -> list[Outgoing]:
        return self.flow.next(room)

    def deliver(self, room: int = 100) -> list[int]:
        """Send, have it all taken and settled; return the numbers."""
        events = self.send(room)
        for event in events:
            self.flow.taken(event)
        self.flow.settle(at_once=True)
        return [event.row.seq for event in events]

    def confirm(self, seq: int, stream: str | None = None) -> None:
        stream = stream or self.outbox.stream
        self.flow.ingested(Ingested(schema=1, device="barn-7", stream=stream, seq=seq))
        self.flow.settle(at_once=True)

    def waiting(self) -> list[int]:
        return [row.seq for row in self.outbox.pending(10_000)]


@pytest.fixture
def barn(tmp_path: Path) -> Iterator[Callable[..., Barn]]:
    made: list[Barn] = []

    def make(
        ack: Acknowledgement = "broker", drain_per_s: float = 0.0, limit: int = 10_000
    ) -> Barn:
        made.append(Barn(tmp_path, ack, drain_per_s, limit))
        return made[-1]

    yield make
    for one in made:
        one.outbox.close()


def seqs(events: list[Outgoing]) -> list[int]:
    return [event.row.seq for event in events]


def test_with_broker_an_event_leaves_when_it_is_taken(barn, make_event):
    one = barn()
    one.outbox.append([make_event() for _ in range(5)])
    first = one.send(3)
    assert seqs(first) == [1, 2, 3]
    one.flow.taken(first[0])
    one.flow.settle(at_once=True)
    assert one.waiting() == [2, 3, 4, 5]
    one.flow.disconnected()
    one.flow.connected()
    again = one.send()
    assert [(event.row.seq, event.late) for event in again] == [(n, True) for n in (2, 3, 4, 5)]


def test_with_ingest_an_event_stays_until_it_is_confirmed(barn, make_event):
    one = barn("ingest")
    one.outbox.append([make_event() for _ in range(5)])
    assert one.deliver() == [1, 2, 3, 4, 5]
    assert one.waiting() == [1, 2, 3, 4, 5]
    assert (one.flow.drained, one.flow.undelivered) == (True, 0)
    one.confirm(3)
    assert one.waiting() == [4, 5]
    one.confirm(5)
    assert one.waiting() == []


def test_events_without_confirmation_do_not_hold_back_new_ones(barn, make_event):
    one = barn("ingest")
    for n in range(10):
        one.outbox.append([make_event() for _ in range(100)])
        assert one.deliver() == list(range(n * 100 + 1, n * 100 + 101))
    assert one.outbox.depth == 1000


@pytest.mark.parametrize(("stream", "seq"), [("0" * 32, 1), (None, 6), (None, 10**15)])
def test_a_word_about_what_was_never_sent_is_ignored_and_counted(barn, make_event, stream, seq):
    one = barn("ingest")
    one.outbox.append([make_event() for _ in range(5)])
    one.deliver()
    one.outbox.append([make_event()])
    for _ in range(3):
        one.confirm(seq, stream)
    assert one.flow.ignored == 3
    assert len(one.problems) == 1
    assert "ignored" in one.problems[0]
    assert one.waiting() == [1, 2, 3, 4, 5, 6]


def test_what_arrived_though_its_answer_was_lost_may_be_confirmed(barn, make_event):
    one = barn("ingest")
    one.outbox.append([make_event() for _ in range(5)])
    assert seqs(one.send()) == [1, 2, 3, 4, 5]
    one.flow.disconnected()
    one.confirm(5)
    one.flow.connected()
    assert (one.flow.ignored, one.problems) == (0, [])
    assert seqs(one.send()) == one.waiting() == []


def test_a_word_that_is_older_than_the_last_changes_nothing(barn, make_event):
    one = barn("ingest")
    one.outbox.append([make_event() for _ in range(5)])
    one.deliver()
    one.confirm(4)
    one.confirm(2)
    one.confirm(4)
    assert (one.flow.ignored, one.waiting()) == (0, [5])


def test_with_broker_nobody_listens_to_ingest(barn, make_event):
    one = barn("broker")
    one.outbox.append([make_event() for _ in range(5)])
    one.send()
    one.confirm(5)
    assert one.outbox.depth == 5


def test_silence_of_ingest_brings_a_few_again_and_ever_more_seldom(barn, make_event):
    one = barn("ingest")
    one.outbox.append([make_event() for _ in range(2000)])
    while one.deliver():
        pass
    sent = []
    for _ in range(6 * 3600):
        one.now_s += 1
        sent += one.deliver()
    # Of two thousand that wait only the oldest hundred, some ten times in six hours.
    assert set(sent) == set(range(1, 101))
    assert 700 <= len(sent) <= 2000
    assert one.outbox.depth == 2000


def test_an_event_after_a_long_silence_is_not_sent_twice(barn, make_event):
    one = barn("ingest")
    sent = []
    for seq in range(1, 10):
        for _ in range(600):
            one.now_s += 1
            sent += one.deliver()
        one.outbox.append([make_event()])
        sent += one.deliver()
        one.now_s += 2
        sent += one.deliver()
        one.confirm(seq)
    assert sent == list(range(1, 10))


def test_what_the_broker_lost_comes_again_without_waiting_for_each_hundred(barn, make_event):
    one = barn("ingest")
    one.outbox.append([make_event() for _ in range(3000)])
    while one.deliver():
        pass
    one.confirm(500)
    # All the rest is lost with the broker; new events go on, and first.
    one.flow.disconnected()
    one.flow.connected()
    one.outbox.append([make_event() for _ in range(10)])
    stored = set(range(1, 501))
    rounds = 0
    while one.outbox.depth:
        rounds += 1
        one.now_s += 1
        arrived = one.deliver(150)
        if rounds == 1:
            assert arrived[:10] == list(range(3001, 3011))
        stored.update(arrived)
        watermark = 500
        while watermark + 1 in stored:
            watermark += 1
        one.confirm(watermark)
        assert rounds < 100
    assert stored == set(range(1, 3011))


def test_a_line_that_breaks_every_minute_is_no_storm(barn, make_event):
    one = barn("ingest")
    one.outbox.append([make_event() for _ in range(1000)])
    while one.deliver():
        pass
    sent = 0
    for _ in range(60):
        one.flow.disconnected()
        one.now_s += 60
        one.flow.connected()
        for _ in range(5):
            one.now_s += 1
            sent += len(one.deliver())
    assert 100 <= sent <= 1000


def test_a_new_process_goes_on_where_the_last_one_was(barn, make_event):
    one = barn("ingest")
    one.outbox.append([make_event() for _ in range(10)])
    one.deliver()
    one.outbox.append([make_event()])
    one.restart()
    assert seqs(one.send()) == [11]
    one.confirm(10)
    assert one.waiting() == [11]
    one.now_s += 2
    assert one.send() == []


def test_what_had_no_answer_is_sent_first_by_a_new_process(barn, make_event):
    one = barn("ingest")
    one.outbox.append([make_event() for _ in range(4)])
    events = one.send()
    for event in (events[0], events[1], events[3]):
        one.flow.taken(event)
    one.flow.settle(at_once=True)
    one.outbox.append([make_event()])
    one.restart()
    assert seqs(one.send()) == [3, 4, 5]


def test_with_ingest_a_gap_is_told_again_until_it_is_counted(barn, make_event):
    one = barn("ingest", limit=5)
    one.outbox.append([make_event() for _ in range(8)])
    gap = one.flow.gap
    assert gap == Gap(stream=one.outbox.stream, first=1, last=3, lost=3)
    one.flow.gap_told(gap)
    assert one.flow.gap is None
    one.deliver()
    one.flow.disconnected()
    one.flow.connected()
    assert one.flow.gap == gap
    one.confirm(8)
    assert (one.flow.gap, one.outbox.depth) == (None, 0)
    assert not one.outbox.has_gap


def test_with_ingest_a_gap_is_told_again_after_a_long_silence_too(barn, make_event):
    one = barn("ingest", limit=5)
    one.outbox.append([make_event() for _ in range(8)])
    gap = one.flow.gap
    one.flow.gap_told(gap)
    one.deliver()
    for _ in range(40):
        one.now_s += 1
        one.deliver()
    assert one.flow.gap == gap


def switched(make: Callable[..., Barn], make_event: MakeEvent) -> Barn:
    """A barn that waits for ingest now; of eight events the broker took 1, 2, 4, 5 before."""
    one = make()
    one.outbox.append([make_event() for _ in range(8)])
    one.outbox.delivered([1, 2, 4, 5])
    one.ack = "ingest"
    one.restart()
    return one


def test_what_the_broker_took_before_ingest_was_waited_for_is_told_after_a_silence(
    barn, make_event
):
    one = switched(barn, make_event)
    assert one.deliver() == [3, 6, 7, 8]
    one.now_s += 2
    assert (one.deliver(), one.flow.gap) == ([3, 6, 7, 8], None)
    one.now_s += 60
    one.deliver()
    told = []
    while (gap := one.flow.gap) is not None:
        told.append((gap.first, gap.last, gap.lost))
        one.flow.gap_told(gap)
    assert told == [(1, 2, 0), (4, 5, 0)]
    # Told again until ingest has passed it, and never taken for a loss.
    one.flow.disconnected()
    one.flow.connected()
    assert one.flow.gap == Gap(stream=one.outbox.stream, first=1, last=2, lost=0)
    one.confirm(3)
    assert [(gap.first, gap.last) for gap in one.outbox.gaps] == [(4, 5)]
    one.confirm(8)
    assert (one.outbox.depth, one.outbox.has_gap, one.outbox.lost) == (0, False, 0)


def test_an_ingest_that_answers_is_told_of_nothing(barn, make_event):
    one = barn("ingest")
    one.outbox.append([make_event() for _ in range(8)])
    one.deliver()
    one.confirm(5)
    one.restart()
    for _ in range(3):
        one.now_s += 1
        one.deliver()
    # The retained word comes late, but it comes.
    one.confirm(5)
    for _ in range(400):
        one.now_s += 1
        one.deliver()
    assert not one.outbox.has_gap
    assert one.waiting() == [6, 7, 8]


def test_a_new_ingest_that_knows_nothing_is_told_where_this_outbox_begins(barn, make_event):
    one = barn("ingest")
    one.outbox.append([make_event() for _ in range(8)])
    one.deliver()
    one.confirm(5)
    one.restart()
    for _ in range(40):
        one.now_s += 1
        one.deliver()
    assert one.flow.gap == Gap(stream=one.outbox.stream, first=1, last=5, lost=0)


def test_a_refused_event_is_gone_back_to_after_a_pause(barn, make_event):
    one = barn()
    one.outbox.append([make_event() for _ in range(4)])
    events = one.send()
    one.flow.refused(events[1])
    for n in (0, 2, 3):
        one.flow.taken(events[n])
    assert (one.send(), one.flow.sent) == ([], 1)
    one.now_s += 2
    (again,) = one.send()
    assert (again.row.seq, again.late) == (2, True)


def test_a_gap_behind_waiting_events_is_told_after_them(barn, make_event):
    one = barn()
    one.outbox.append([make_event() for _ in range(3)])
    one.outbox.lose(7)
    assert one.flow.gap is None
    events = one.send()
    assert one.flow.gap is None or one.flow.gap.first == 4
    for event in events:
        one.flow.taken(event)
    assert one.flow.gap == Gap(stream=one.outbox.stream, first=4, last=10, lost=7)


def test_the_drain_rate_holds(barn, make_event):
    one = barn(drain_per_s=50)
    one.outbox.append([make_event() for _ in range(1000)])
    begin_s, sent = one.now_s, []
    while one.flow.behind:
        sent += one.deliver()
        one.now_s += one.flow.wait_s
    assert sent == list(range(1, 1001))
    # A second's worth goes at once.
    assert 18 <= one.now_s - begin_s <= 20


def test_a_disk_that_fails_is_one_line_and_no_lost_connection(barn, make_event):
    one = barn()
    one.outbox.append([make_event() for _ in range(3)])
    works = one.outbox.pending

    def fail(*args: object, **options: object) -> None:
        raise EarmarkError("outbox.db: the disk fails")

    one.outbox.pending = fail  # type: ignore[assignment, method-assign]
    for _ in range(10):
        assert one.send() == []
        one.now_s += 6
    assert one.problems == ["outbox.db: the disk fails"]
    one.outbox.pending = works  # type: ignore[method-assign]
    assert seqs(one.send()) == [1, 2, 3]


def test_what_was_taken_while_the_disk_failed_is_not_sent_again(barn, make_event):
    one = barn()
    one.outbox.append([make_event() for _ in range(3)])
    works = one.outbox.delivered

    def fail(seqs: object) -> None:
        raise EarmarkError("outbox.db: the disk is full")

    one.outbox.delivered = fail  # type: ignore[assignment, method-assign]
    assert one.deliver() == [1, 2, 3]
    assert (one.waiting(), one.flow.drained) == ([1, 2, 3], False)
    one.flow.disconnected()
    one.flow.connected()
    one.now_s += 6
    assert one.send() == []
    one.outbox.delivered = works  # type: ignore[method-assign]
    one.flow.settle(at_once=True)
    assert one.waiting() == []
    assert len(one.problems) == 1


def test_the_event_that_a_broker_hangs_up_on_is_found_and_set_aside(barn, make_event):
    one = barn()
    one.outbox.append([make_event() for _ in range(20)])
    arrived: list[int] = []
    for _ in range(10):
        while events := one.send():
            if 7 in seqs(events):
                # Those before it may be taken or not; here they are not.
                one.flow.disconnected(0x95)
                one.flow.connected()
                break
            arrived += seqs(events)
            for event in events:
                one.flow.taken(event)
            one.flow.settle(at_once=True)
    assert arrived == [n for n in range(1, 21) if n != 7]
    assert (one.outbox.aside, one.outbox.depth) == (1, 0)
    assert "event 7 set aside" in one.problems[0]


def test_a_bad_line_alone_never_blames_an_event(barn, make_event):
    one = barn()
    one.outbox.append([make_event() for _ in range(3)])
    for _ in range(50):
        assert one.send()
        one.flow.disconnected()
        one.flow.connected()
    assert (one.outbox.aside, one.outbox.depth) == (0, 3)
    # One at a time by now.
    assert len(one.send()) == 1


def test_where_the_broker_hangs_up_without_a_word_only_a_large_event_is_blamed(barn, make_event):
    one = barn()
    votes = {f"animal-{n:04}": n for n in range(400)}
    one.outbox.append([make_event(votes=votes), make_event()])
    for _ in range(7):
        one.send()
        one.flow.disconnected()
        one.flow.connected()
    assert one.outbox.aside == 0
    one.send()
    one.flow.disconnected()
    assert (one.outbox.aside, one.waiting()) == (1, [2])


def test_suspects_know_nothing_of_a_connection_that_carried_nothing():
    suspects = Suspects()
    assert suspects.lost({}, 0x95) is None
    assert not suspects.careful(0)


STEP = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 30)),
    st.tuples(st.just("send"), st.integers(1, 20)),
    st.tuples(st.just("lose connection"), st.just(0)),
    st.tuples(st.just("lose answers"), st.integers(1, 20)),
    st.tuples(st.just("broker loses"), st.just(0)),
    st.tuples(st.just("ingest works"), st.integers(1, 50)),
    st.tuples(st.just("wait"), st.integers(1, 4000)),
    st.tuples(st.just("restart"), st.just(0)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEP, max_size=40), st.integers(0, 2**32))
@example([("append", 5), ("lose answers", 5), ("ingest works", 5)], 0)
def test_whatever_happens_ingest_has_or_knows_the_loss_of_every_event(
    tmp_path_factory, make_event, steps, seed
):
    rng = random.Random(seed)
    barn = Barn(tmp_path_factory.mktemp("barn"), "ingest", 0.0, limit=60)
    queue: list[int] = []
    stored: set[int] = set()
    missing: set[int] = set()
    watermark = 0

    def send(room: int) -> None:
        for event in barn.send(room):
            if rng.random() < 0.9:
                queue.append(event.row.seq)
                barn.flow.taken(event)
            elif not event.again:
                barn.flow.refused(event)
        gap = barn.flow.gap
        if gap is not None and rng.random() < 0.9:
            barn.flow.gap_told(gap)
            missing.update(range(gap.first, gap.last + 1))
        barn.flow.settle(at_once=True)

    def ingest(count: int) -> None:
        nonlocal watermark
        stored.update(queue[:count])
        del queue[:count]
        while watermark + 1 in stored or watermark + 1 in missing:
            watermark += 1
        if watermark:
            barn.confirm(watermark)

    for step, number in steps:
        if step == "append":
            barn.outbox.append([make_event()] * number)
        elif step == "send":
            send(number)
        elif step == "lose connection":
            barn.flow.disconnected()
            barn.flow.connected()
        elif step == "lose answers":
            queue += [event.row.seq for event in barn.send(number)]
            barn.flow.disconnected()
            barn.flow.connected()
        elif step == "broker loses":
            queue.clear()
            barn.flow.disconnected()
            barn.flow.connected()
        elif step == "ingest works":
            ingest(number)
        elif step == "wait":
            barn.now_s += number
        else:
            barn.outbox.close()
            barn.outbox = Outbox(barn.outbox.path, limit_rows=60, clock=lambda: barn.now_s)
            barn.begin()
        assert barn.flow.ignored == 0
    for _ in range(400):
        barn.now_s += 61
        send(100)
        ingest(10_000)
    everything = set(range(1, barn.outbox.last_seq + 1))
    assert barn.outbox.depth == 0
    assert watermark == barn.outbox.last_seq
    assert stored | missing >= everything
    assert len(everything - stored) <= barn.outbox.lost
    barn.outbox.close()

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import EarmarkError
from edge.messaging.events import EVENT_LIMIT_BYTES, Gap, Sighting, decode, encode
from edge.messaging.outbox import Outbox

MakeEvent = Callable[..., Sighting]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "outbox.db"


def seqs(outbox: Outbox) -> list[int]:
    return [row.seq for row in outbox.pending(10_000)]


def test_events_are_numbered_and_wait_as_they_were_returned(path, make_event):
    with Outbox(path) as outbox:
        stored = outbox.append([make_event(track=1), make_event(track=2)])
        stored += outbox.append([make_event(track=3)])
        assert [event.seq for event in stored] == [1, 2, 3]
        assert {event.stream for event in stored} == {outbox.stream}
        assert len({event.id for event in stored}) == 3
        assert [decode(row.payload, Sighting) for row in outbox.pending(10)] == stored
        assert [row.seq for row in outbox.pending(1, after=1)] == [2]
        assert (outbox.depth, outbox.last_seq) == (3, 3)


def test_delivered_events_are_gone_and_the_others_stay_in_order(path, make_event):
    with Outbox(path) as outbox:
        outbox.append([make_event() for _ in range(5)])
        outbox.delivered([1, 3])
        assert seqs(outbox) == [2, 4, 5]
        outbox.delivered([])
        outbox.delivered([2, 4, 5])
        assert (outbox.depth, outbox.oldest, outbox.gap) == (0, None, None)


def test_a_restart_keeps_events_stream_and_number(path, make_event):
    with Outbox(path) as outbox:
        stream = outbox.stream
        outbox.append([make_event(), make_event()])
        outbox.delivered([1, 2])
        outbox.append([make_event(last_seen="2026-11-24T04:31:10.000Z"), make_event()])
    with Outbox(path) as outbox:
        assert outbox.stream == stream
        assert seqs(outbox) == [3, 4]
        assert outbox.oldest == "2026-11-24T04:31:10.000Z"
        outbox.delivered([3, 4])
    with Outbox(path) as outbox:
        # Empty, and still no number is used twice.
        assert [event.seq for event in outbox.append([make_event()])] == [5]


def test_what_was_appended_survives_a_process_that_never_closes(path, make_event):
    outbox = Outbox(path)
    outbox.append([make_event(), make_event()])
    copy = path.with_name("copy.db")
    for suffix in ("", "-wal"):
        part = path.with_name(path.name + suffix)
        copy.with_name(copy.name + suffix).write_bytes(part.read_bytes())
    with Outbox(copy) as after:
        assert seqs(after) == [1, 2]
    outbox.close()


def test_a_full_outbox_drops_the_oldest_and_counts_them(path, make_event):
    with Outbox(path, limit_rows=5) as outbox:
        outbox.append([make_event() for _ in range(4)])
        outbox.append([make_event() for _ in range(4)])
        assert seqs(outbox) == [4, 5, 6, 7, 8]
        assert outbox.gap == Gap(stream=outbox.stream, first=1, last=3, lost=3)
        outbox.append([make_event()])
        assert outbox.gap == Gap(stream=outbox.stream, first=1, last=4, lost=4)
    with Outbox(path, limit_rows=5) as outbox:
        assert outbox.gap == Gap(stream=outbox.stream, first=1, last=4, lost=4)
        assert outbox.lost == 4


def test_how_full_it_is(path, make_event):
    with Outbox(path, limit_rows=4) as outbox:
        assert outbox.share == 0
        outbox.append([make_event() for _ in range(3)])
        assert outbox.share == 0.75
        size = sum(len(row.payload) + 64 for row in outbox.pending(10))
    with Outbox(path, limit_bytes=2 * size) as outbox:
        assert outbox.share == 0.5
        outbox.delivered([1, 2, 3])
        assert outbox.share == 0


def test_delivered_events_do_not_count_as_lost(path, make_event):
    with Outbox(path, limit_rows=3) as outbox:
        outbox.append([make_event() for _ in range(3)])
        outbox.delivered([2])
        outbox.append([make_event() for _ in range(3)])
        assert seqs(outbox) == [4, 5, 6]
        assert outbox.gap == Gap(stream=outbox.stream, first=1, last=3, lost=2)


def test_an_event_dropped_on_its_way_counts_as_arrived_when_it_arrives(path, make_event):
    with Outbox(path, limit_rows=2) as outbox:
        outbox.append([make_event() for _ in range(4)])
        assert outbox.gap == Gap(stream=outbox.stream, first=1, last=2, lost=2)
        outbox.delivered([1])
        assert outbox.gap.lost == outbox.lost == 1
        outbox.delivered([2])
        assert (outbox.gap, outbox.lost) == (None, 0)


def test_a_reported_gap_is_forgotten_and_what_came_meanwhile_is_not(path, make_event):
    with Outbox(path, limit_rows=2) as outbox:
        outbox.append([make_event() for _ in range(4)])
        reported = outbox.gap
        outbox.append([make_event() for _ in range(3)])
        outbox.gap_reported(reported)
        assert outbox.gap == Gap(stream=outbox.stream, first=3, last=5, lost=3)
        outbox.gap_reported(outbox.gap)
        assert (outbox.gap, outbox.lost) == (None, 5)


def test_the_limit_in_bytes_holds(path, make_event):
    size = len(encode(make_event(seq=1, stream="0" * 32, id="0" * 26)))
    with Outbox(path, limit_bytes=10 * (size + 64)) as outbox:
        outbox.append([make_event() for _ in range(9)])
        assert outbox.gap is None
        for _ in range(20):
            outbox.append([make_event()])
        assert 8 <= outbox.depth <= 10
        assert outbox.depth + outbox.lost == 29


def test_an_oversize_event_is_refused_and_takes_no_number(path, make_event):
    votes = {f"animal-{n:05}": 1 for n in range(EVENT_LIMIT_BYTES // 16)}
    with Outbox(path) as outbox:
        stored = outbox.append([make_event(), make_event(votes=votes), make_event()])
        assert [event.seq for event in stored] == seqs(outbox) == [1, 2]
        assert outbox.refused == 1


def test_poison_is_set_aside_and_the_rest_goes_on(path, make_event):
    with Outbox(path) as outbox:
        outbox.append([make_event(), make_event()])
        outbox.set_aside(1, "too large for the broker")
        outbox.set_aside(99, "not there")
        assert (seqs(outbox), outbox.aside, outbox.lost) == ([2], 1, 0)
    with Outbox(path) as outbox:
        assert outbox.aside == 1


@pytest.mark.parametrize("damage", ["rubbish", "torn", "zeroed"])
def test_a_damaged_file_is_moved_aside_and_a_new_stream_begins(path, make_event, damage):
    with Outbox(path) as outbox:
        stream = outbox.stream
        outbox.append([make_event() for _ in range(200)])
    data = path.read_bytes()
    path.write_bytes(
        {
            "rubbish": b"no database at all" * 1000,
            "torn": data[: len(data) // 2],
            "zeroed": data[:4096] + bytes(len(data) - 4096),
        }[damage]
    )
    broken = path.read_bytes()
    with Outbox(path) as outbox:
        assert outbox.moved_aside is not None
        assert outbox.moved_aside.read_bytes() == broken
        assert outbox.stream != stream
        assert [event.seq for event in outbox.append([make_event()])] == [1]
    with Outbox(path) as outbox:
        assert outbox.moved_aside is None
        assert seqs(outbox) == [1]


def test_damage_found_while_running_begins_a_new_stream_too(path, make_event):
    with Outbox(path) as outbox:
        stream = outbox.stream
        outbox.append([make_event() for _ in range(2000)])
        outbox._file.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        outbox._file.connection.execute("PRAGMA shrink_memory")
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (path.stat().st_size - 4096))
        stored = outbox.append([make_event()])
        assert outbox.moved_aside is not None
        assert (stored[0].seq, stored[0].stream) == (1, outbox.stream)
        assert outbox.stream != stream
        assert seqs(outbox) == [1]


def test_the_outbox_of_another_device_is_moved_aside_whole(path, make_event):
    with Outbox(path, device="barn-7") as outbox:
        stream = outbox.stream
        outbox.append([make_event() for _ in range(5)])
        outbox.delivered([1, 2])
    with Outbox(path, device="barn-7") as outbox:
        assert (outbox.stream, outbox.moved_aside, outbox.foreign) == (stream, None, None)
    with Outbox(path, device="barn-8") as outbox:
        assert outbox.stream != stream
        assert (seqs(outbox), outbox.last_seq, outbox.gap) == ([], 0, None)
        assert outbox.foreign == "the outbox is of the device 'barn-7', with 3 events that wait"
        aside = outbox.moved_aside
        assert aside == path.with_name("outbox.db.other-device")
        (stored,) = outbox.append([make_event(device="barn-8")])
        assert (stored.seq, stored.stream) == (1, outbox.stream)
    # A name that was wrong can be put right again.
    with Outbox(aside, device="barn-7") as outbox:
        assert (outbox.stream, seqs(outbox)) == (stream, [3, 4, 5])


def test_an_outbox_from_before_it_knew_its_device_is_adopted(path, make_event):
    with Outbox(path) as outbox:
        stream = outbox.stream
        outbox.append([make_event()])
    for _ in range(2):
        with Outbox(path, device="barn-7") as outbox:
            assert (outbox.stream, seqs(outbox), outbox.moved_aside) == (stream, [1], None)
    with Outbox(path, device="barn-8") as outbox:
        assert outbox.stream != stream


def test_a_device_that_makes_no_sense_is_damage(path):
    with Outbox(path, device="barn-7") as outbox:
        stream = outbox.stream
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE meta SET value = 7 WHERE key = 'device'")
        db.commit()
    with Outbox(path, device="barn-7") as outbox:
        assert outbox.stream != stream
        assert (outbox.moved_aside, outbox.foreign) == (path.with_name("outbox.db.damaged"), None)


def test_who_was_told_as_present_is_known_to_the_next_run(path):
    with Outbox(path) as outbox:
        outbox.note_present({"cow004": b"4", "cow005": b"5"})
        outbox.note_present({"cow006": b"6"})
        outbox.note_gone("cow005")
        outbox.note_gone("cow999")
        assert outbox.present == {"cow004": b"4", "cow006": b"6"}
    with Outbox(path) as outbox:
        assert outbox.present == {"cow004": b"4", "cow006": b"6"}
        outbox.note_gone("cow004")
    with Outbox(path) as outbox:
        assert outbox.present == {"cow006": b"6"}


def test_an_outbox_without_the_table_of_the_present_gets_one(path, make_event):
    with Outbox(path) as outbox:
        stream = outbox.stream
        outbox.append([make_event()])
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript("DROP TABLE present; PRAGMA user_version=2;")
    with Outbox(path) as outbox:
        outbox.note_present({"cow004": b"4"})
        assert (outbox.stream, seqs(outbox), outbox.moved_aside) == (stream, [1], None)


def test_an_empty_file_is_a_new_outbox(path, make_event):
    path.parent.mkdir()
    path.touch()
    with Outbox(path) as outbox:
        assert outbox.moved_aside is None
        assert len(outbox.append([make_event()])) == 1


def test_a_second_owner_is_told_so_in_one_line(path):
    with Outbox(path), pytest.raises(EarmarkError, match="another earmark-edge") as caught:
        Outbox(path)
    assert str(path) in str(caught.value)
    Outbox(path).close()


def test_an_outbox_of_a_newer_earmark_is_left_alone(path):
    Outbox(path).close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version=99")
    before = path.read_bytes()
    with pytest.raises(EarmarkError, match="newer"):
        Outbox(path)
    assert path.read_bytes() == before


def test_a_folder_in_its_place_is_one_line(tmp_path):
    with pytest.raises(EarmarkError, match="cannot be used") as caught:
        Outbox(tmp_path)
    assert "\n" not in str(caught.value)


def test_many_threads_lose_nothing(path, make_event):
    with Outbox(path) as outbox:
        taken: list[int] = []
        done = threading.Event()

        def write(track: int) -> None:
            for _ in range(50):
                outbox.append([make_event(track=track)])

        def read() -> None:
            while not (done.is_set() and outbox.depth == 0):
                rows = [row.seq for row in outbox.pending(7)]
                outbox.delivered(rows)
                taken.extend(rows)

        reader = threading.Thread(target=read)
        writers = [threading.Thread(target=write, args=(n,)) for n in range(4)]
        for thread in [reader, *writers]:
            thread.start()
        for thread in writers:
            thread.join()
        done.set()
        reader.join()
        assert taken == list(range(1, 201))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(1, 6)),
            st.tuples(st.just("deliver"), st.integers(1, 4)),
            st.tuples(st.just("report"), st.just(0)),
            st.tuples(st.just("restart"), st.just(0)),
        ),
        max_size=30,
    )
)
def test_every_event_is_delivered_waiting_or_counted(tmp_path_factory, make_event, steps):
    """Model: a plain list of numbers, the oldest dropped beyond eight."""
    path = tmp_path_factory.mktemp("outbox") / "outbox.db"
    outbox = Outbox(path, limit_rows=8)
    waiting: list[int] = []
    last, lost, reported = 0, 0, 0
    for step, count in steps:
        if step == "append":
            stored = outbox.append([make_event()] * count)
            assert [event.seq for event in stored] == list(range(last + 1, last + count + 1))
            waiting += range(last + 1, last + count + 1)
            last += count
            lost += max(len(waiting) - 8, 0)
            waiting = waiting[-8:]
        elif step == "deliver":
            outbox.delivered(waiting[:count])
            waiting = waiting[count:]
        elif step == "report" and outbox.gap is not None:
            reported += outbox.gap.lost
            outbox.gap_reported(outbox.gap)
        elif step == "restart":
            outbox.close()
            outbox = Outbox(path, limit_rows=8)
        assert seqs(outbox) == waiting
        assert outbox.depth == len(waiting)
        assert outbox.lost == lost
        assert reported + (outbox.gap.lost if outbox.gap else 0) == lost
    outbox.close()


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["append", "deliver", "lose", "set aside", "report", "restart", "tell absent"]
            ),
            st.integers(1, 5),
            st.integers(0, 10**6),
        ),
        max_size=40,
    )
)
def test_gaps_are_disjoint_exact_and_nothing_waits_in_them(tmp_path_factory, make_event, steps):
    """Model: what became of each number, `waits`, `delivered`, `missing` or `told`."""
    path = tmp_path_factory.mktemp("outbox") / "outbox.db"
    outbox = Outbox(path, limit_rows=8)
    fate: dict[int, str] = {}
    for step, count, choice in steps:
        waiting = [seq for seq, what in fate.items() if what == "waits"]
        if step == "append":
            fate |= {event.seq: "waits" for event in outbox.append([make_event()] * count)}
            waiting = [seq for seq, what in fate.items() if what == "waits"]
            fate |= dict.fromkeys(waiting[: max(len(waiting) - 8, 0)], "missing")
        elif step == "lose":
            fate |= {outbox.last_seq + n: "missing" for n in range(1, count + 1)}
            outbox.lose(count)
        elif step == "deliver" and waiting:
            begin = choice % len(waiting)
            outbox.delivered(waiting[begin : begin + count])
            fate |= dict.fromkeys(waiting[begin : begin + count], "delivered")
        elif step == "set aside" and waiting:
            outbox.set_aside(waiting[choice % len(waiting)], "too large")
            fate[waiting[choice % len(waiting)]] = "missing"
        elif step == "report" and outbox.gap is not None:
            gap = outbox.gap
            outbox.gap_reported(gap)
            told = [seq for seq in range(gap.first, gap.last + 1) if fate[seq] == "missing"]
            assert len(told) == gap.lost
            fate |= dict.fromkeys(told, "told")
        elif step == "tell absent":
            after = choice % (outbox.last_seq + 1)
            outbox.note_absent(after)
            covered = {n for gap in outbox.gaps for n in range(gap.first, gap.last + 1)}
            here = {*covered, *seqs(outbox)}
            assert here >= set(range(after + 1, outbox.last_seq + 1))
        elif step == "restart":
            outbox.close()
            outbox = Outbox(path, limit_rows=8)
        assert seqs(outbox) == [seq for seq, what in fate.items() if what == "waits"]
        assert outbox.first == next(iter(seqs(outbox)), None)
        seen = 0
        for gap in outbox.gaps:
            assert seen < gap.first <= gap.last
            seen = gap.last
            inside = [fate[seq] for seq in range(gap.first, gap.last + 1)]
            assert inside.count("missing") == gap.lost
            assert "waits" not in inside
        assert sum(gap.lost for gap in outbox.gaps) == list(fate.values()).count("missing")
        assert outbox.has_gap == bool(outbox.gaps)
        assert outbox.lost + outbox.aside == sum(
            what in ("missing", "told") for what in fate.values()
        )
    outbox.close()

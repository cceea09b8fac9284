"""What is stored, in both databases."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.ingest.database import DatabaseUnavailableError, open_database
from deploy.ingest.records import Elsewhere, Refused, Seen, Warned, refuse
from deploy.ingest.store import Store

STREAM, OTHER = "6f0c" * 8, "ab12" * 8


def seqs(database) -> list[int]:
    return [row[0] for row in database.execute("SELECT seq FROM sighting ORDER BY stream_id, seq")]


def watermark(store) -> int:
    (told,) = store.watermarks(["barn-7"])
    return told.seq


def test_an_event_is_stored_whole(store, database, record):
    store.write([record(3, margin=0.25, replayed=True, first_seen=None)])
    (row,) = database.execute(
        "SELECT device, stream, seq, id, type, camera, track, animal, reason, confidence, distance,"
        " margin, votes, x1, y1, x2, y2, first_seen, clock, boot, monotonic, release, means_seq, "
        "replayed FROM sightings"
    )
    assert row == (
        *("barn-7", STREAM, 3, "01JD" + "0" * 21 + "3", "update", "pen-3", 7, "cow004", None),
        *(0.97, 0.11, 0.25, '{"cow004":9,"unknown":1}', 0.21, 0.34, 0.4, 0.61, None, "synced"),
        *("b7", 8123.4, "9f31", 57, 1),
    )
    ((last_seen, seen_at),) = database.execute("SELECT last_seen, seen_at FROM sighting")
    moment = datetime(2026, 11, 24, 4, 31, 9, tzinfo=UTC)
    assert database.moment(last_seen) == moment
    assert database.moment(seen_at) <= moment


def test_an_event_that_comes_again_is_stored_once(store, database, record):
    first = store.write([record(1), record(2), record(1)])
    again = store.write([record(2, replayed=True), record(3)])
    assert (first.stored, first.duplicates) == (2, 1)
    assert (again.stored, again.duplicates) == (1, 1)
    assert seqs(database) == [1, 2, 3]


def test_another_event_of_the_same_number_is_a_conflict_and_not_one_that_came_again(
    store, database, record
):
    """As from a device that was restored from an image, and numbers anew from there."""
    first, other, third = (f"01JD{letter * 22}" for letter in "XYZ")
    store.write([record(1), record(2, id=first)])
    written = store.write([record(2, id=other), record(2, id=first), record(3, id=third)])
    assert (written.stored, written.duplicates, written.rejected) == (1, 1, 1)
    assert written.conflicts == 1
    same_batch = store.write([record(4, id=first), record(4, id=other), record(4, id=first)])
    assert (same_batch.stored, same_batch.duplicates, same_batch.rejected) == (1, 1, 1)
    assert database.execute("SELECT seq, id FROM sighting WHERE seq > 1 ORDER BY seq") == [
        *((2, first), (3, third), (4, first))
    ]
    assert watermark(store) == 4
    rows = database.execute("SELECT topic, why, payload FROM rejected ORDER BY id")
    assert [row[0] for row in rows] == ["earmark/v1/barn-7/up/sighting"] * 2
    assert all("another event of this number" in row[1] for row in rows)
    assert [msgspec.json.decode(bytes(row[2]))["id"] for row in rows] == [other, other]


def test_streams_and_devices_are_apart(store, database, record):
    store.write([record(1), record(1, stream=OTHER), record(1, device="barn-8")])
    assert seqs(database) == [1, 1, 1]


def test_a_time_of_a_clock_that_runs_ahead_is_placed_when_it_was_received(store, database, record):
    store.write([record(1, last_seen="2999-01-01T00:00:00.000Z")])
    ((seen_at, received_at),) = database.execute("SELECT seen_at, received_at FROM sighting")
    assert seen_at == received_at


def test_the_watermark_waits_for_the_hole(store, record):
    store.write([record(1), record(2)])
    assert watermark(store) == 2
    store.write([record(4), record(5)])
    assert watermark(store) == 2
    store.write([record(3)])
    assert watermark(store) == 5


def test_a_long_run_behind_a_hole_is_passed_at_once(store, record):
    store.write([record(seq) for seq in range(2, 5002)])
    assert watermark(store) == 0
    store.write([record(1)])
    assert watermark(store) == 5001


def test_a_gap_that_the_device_tells_of_is_passed(store, database, record, gap_record):
    store.write([record(1), record(5)])
    written = store.write([gap_record(2, 4, 3)])
    assert (written.alarms, written.devices) == (1, {"barn-7"})
    assert watermark(store) == 5
    assert database.execute("SELECT first_seq, last_seq, lost, why FROM gap") == [
        (2, 4, 3, "outbox-gap")
    ]


def test_what_a_device_passed_on_earlier_holds_nothing_back(store, database, record, gap_record):
    store.write([record(seq) for seq in (4, 5, 8)])
    store.write([gap_record(1, 3, 0), gap_record(6, 7, 0)])
    assert watermark(store) == 8
    assert store.holes() == []
    # What the broker still had of it is stored when it comes.
    store.write([record(2)])
    assert seqs(database) == [2, 4, 5, 8]


def test_an_event_of_a_gap_that_was_on_its_way_is_stored_all_the_same(
    store, database, record, gap_record
):
    store.write([record(1), record(6), gap_record(2, 5, 3)])
    assert watermark(store) == 6
    store.write([record(4)])
    assert seqs(database) == [1, 4, 6]
    assert watermark(store) == 6


def test_a_gap_may_come_before_anything_else_and_twice(store, database, record, gap_record):
    store.write([gap_record(1, 3, 3)])
    store.write([gap_record(1, 3, 3)])
    assert watermark(store) == 3
    assert database.execute("SELECT count(*) FROM gap") == [(1,)]
    assert database.execute("SELECT count(*) FROM alarm") == [(1,)]
    store.write([record(4)])
    assert watermark(store) == 4


def test_what_another_database_has_acknowledged_is_not_waited_for(store, database, record):
    store.write([Elsewhere("barn-7", STREAM, 40), record(41)])
    assert watermark(store) == 41
    store.write([Elsewhere("barn-7", STREAM, 40)])
    assert database.execute("SELECT first_seq, last_seq, why FROM gap") == [
        (1, 40, "acknowledged before")
    ]


def test_only_the_current_stream_of_a_device_is_told(store, record):
    store.write([record(1), record(2)])
    store.write([record(1, stream=OTHER)])
    (told,) = store.watermarks()
    assert (told.stream, told.seq) == (OTHER, 1)


def test_holes_are_listed_and_can_be_given_up(store, database, record, gap_record):
    store.write([record(3), record(4), record(9), gap_record(6, 7, 2)])
    found = [(hole.first, hole.last) for hole in store.holes()]
    assert found == [(1, 2), (5, 5), (8, 8)]
    assert store.behind() == {("barn-7", STREAM): 0}
    assert store.give_up("barn-8") == []
    assert watermark(store) == 0
    assert [(hole.first, hole.last) for hole in store.give_up("barn-7")] == found
    assert watermark(store) == 9
    assert (store.holes(), store.behind()) == ([], {})
    store.write([record(2, device="barn-9"), record(11)])
    assert [hole.device for hole in store.give_up(None)] == ["barn-7", "barn-9"]
    assert store.behind() == {}
    assert database.execute("SELECT count(*) FROM gap WHERE why = 'given up'") == [(5,)]


def test_a_sighting_that_was_refused_is_a_hole_until_it_is_stored_after_all(store, record):
    store.write([record(1), refuse("t", b"", "newer", ("barn-7", STREAM, 2))])
    assert store.behind() == {("barn-7", STREAM): 1}
    assert [(hole.first, hole.last) for hole in store.holes()] == [(2, 2)]
    store.write([record(3)])
    assert watermark(store) == 1
    store.write([record(2)])
    assert watermark(store) == 3
    assert store.behind() == {}


def test_of_a_stream_that_is_only_refused_the_hole_is_seen(store):
    for seq in (6, 5):
        written = store.write([refuse("t", b"", "newer", ("barn-7", STREAM, seq))])
    assert written.devices == {"barn-7"}
    assert [(hole.first, hole.last) for hole in store.holes()] == [(1, 6)]
    store.give_up("barn-7")
    assert watermark(store) == 6


def test_rejected_messages_are_counted_and_only_the_last_are_kept(store, database, monkeypatch):
    monkeypatch.setattr("deploy.ingest.rows.REJECTED_ROWS", 5)
    for number in range(4):
        written = store.write([refuse(f"t{number}-{n}", b"\x00\xff", "no good") for n in range(3)])
        assert written.rejected == 3
    rows = database.execute("SELECT topic, why, payload FROM rejected ORDER BY id")
    assert [row[0] for row in rows] == ["t2-1", "t2-2", "t3-0", "t3-1", "t3-2"]
    assert rows[0][1:] == ("no good", b"\x00\xff")
    assert database.execute("SELECT value FROM tally WHERE name = 'rejected'") == [(12,)]


def test_a_row_that_the_database_will_not_take_is_set_aside_and_the_rest_stored(
    store, database, record, gap_record
):
    # Nothing that is read from a message can be such; a mistake of ours might make it.
    event = msgspec.structs.replace(record(2).event, camera=None)
    broken = Seen(event, None, None)
    written = store.write([record(1), broken, record(3), gap_record(2, 2, 1)])
    assert (written.stored, written.rejected, written.alarms) == (2, 1, 1)
    assert seqs(database) == [1, 3]
    ((topic, why),) = database.execute("SELECT topic, why FROM rejected")
    assert "barn-7" in topic
    assert "camera" in why
    assert watermark(store) == 3


def test_text_with_a_zero_character_is_stored(store, database, gap_record):
    warned = gap_record(1, 1, 1)
    alarm = msgspec.structs.replace(warned.alarm, text="a\0b")
    store.write([Warned(alarm, None, "d1")])
    assert database.execute("SELECT text FROM alarm") == [("a\N{REPLACEMENT CHARACTER}b",)]


def test_a_batch_that_fails_leaves_nothing_and_works_again(database_url, record, monkeypatch):
    store = Store(lambda: open_database(database_url))
    store.open()

    def fail(*args: object) -> None:
        raise DatabaseUnavailableError("gone")

    with monkeypatch.context() as patch:
        patch.setattr("deploy.ingest.batch.add_rejected", fail)
        with pytest.raises(DatabaseUnavailableError):
            store.write([record(1), record(2)])
    assert store.watermarks() == []
    store.write([record(1), record(2), record(3)])
    assert watermark(store) == 3
    store.close()


def test_two_stores_on_one_database_agree(database_url, database, record):
    """Each writes half of what two devices send, out of step; rows and watermarks are exact."""
    failures: list[BaseException] = []
    count = 120

    def work(odd: int) -> None:
        store = Store(lambda: open_database(database_url))
        try:
            for begin in range(1, count + 1, 10):
                numbers = [seq for seq in range(begin, begin + 10) if seq % 2 == odd]
                # The last of a batch comes again with the next, to the other store as well.
                numbers += [begin] if begin > 1 else []
                devices = ("barn-7", "barn-8") if odd else ("barn-8", "barn-7")
                store.write([record(seq, device=name) for name in devices for seq in numbers])
        except BaseException as error:
            failures.append(error)
        finally:
            store.close()

    threads = [threading.Thread(target=work, args=(odd,)) for odd in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    expected = list(range(1, count + 1))
    assert seqs(database) == expected * 2
    rows = database.execute("SELECT watermark, highest FROM stream")
    assert rows == [(count, count), (count, count)]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    batches=st.lists(
        st.lists(
            st.integers(1, 30) | st.tuples(st.integers(1, 30), st.integers(0, 5)),
            max_size=8,
        ),
        max_size=6,
    )
)
def test_the_watermark_in_the_database_is_the_naive_one(
    tmp_path_factory, record, gap_record, batches
):
    path = tmp_path_factory.mktemp("db") / "sightings.db"
    store = Store(lambda: open_database(str(path)))
    known: set[int] = set()
    stored: set[int] = set()
    for batch in batches:
        records = []
        for word in batch:
            if isinstance(word, tuple):
                first, extra = word
                records.append(gap_record(first, first + extra, extra + 1))
                known |= set(range(first, first + extra + 1))
            else:
                records.append(record(word))
                known.add(word)
                stored.add(word)
        store.write(records)
    expected = 0
    while expected + 1 in known:
        expected += 1
    told = store.watermarks()
    assert [each.seq for each in told] == ([expected] if any(batches) else [])
    database = open_database(str(path))
    assert seqs(database) == sorted(stored)
    database.close()
    store.close()


def test_refused_is_not_a_sighting(store):
    written = store.write([Refused("t", "why", b"")])
    assert (written.stored, written.devices) == (0, frozenset())

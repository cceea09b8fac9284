from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from edge.messaging import gaps
from edge.messaging.database import Damaged, Foreign
from edge.messaging.tally import META, Tally, check_owner, stream_of


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    connection.executescript(
        META + gaps.TABLE + "CREATE TABLE event (seq INTEGER PRIMARY KEY, size, last_seen);"
    )
    yield connection
    connection.close()


def test_a_new_file_knows_nothing(db):
    tally = Tally.read(db)
    tally.count(db)
    assert tally == Tally()


def test_what_is_kept_comes_back_and_what_waits_is_counted(db):
    Tally(next_seq=9, lost=3, aside=2, sent=5, age_s=1.5, rows=77, bytes=77, gaps=77).write(db)
    db.executemany("INSERT INTO event VALUES (?, ?, ?)", [(6, 100, "six"), (8, 20, "eight")])
    gaps.add(db, 4, 5, 2)
    tally = Tally.read(db)
    assert (tally.rows, tally.bytes, tally.gaps) == (0, 0, 0)
    tally.count(db)
    assert tally == Tally(9, 2, 120, 6, "six", 1, 3, 2, 5, 1.5)


def test_a_number_in_use_is_not_given_out_again(db):
    Tally(next_seq=2).write(db)
    db.execute("INSERT INTO event VALUES (7, 1, NULL)")
    tally = Tally.read(db)
    tally.count(db)
    assert tally.next_seq == 8


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("next_seq", 0),
        ("next_seq", 1 << 53),
        ("lost", b"\x00"),
        ("sent", "many"),
        ("age_s", -1.0),
        ("age_s", float("inf")),
    ],
)
def test_numbers_that_cannot_be_are_damage(db, key, value):
    db.execute("INSERT INTO meta VALUES (?, ?)", (key, value))
    with pytest.raises(Damaged):
        Tally.read(db)


def test_the_first_device_owns_the_file(db):
    check_owner(db, "barn-7")
    check_owner(db, "barn-7")
    db.execute("INSERT INTO event VALUES (1, 1, NULL)")
    with pytest.raises(Foreign, match="'barn-7', with 1 events"):
        check_owner(db, "barn-8")


def test_a_stream_is_made_once(db):
    stream = stream_of(db)
    assert len(stream) == 32
    assert stream_of(db) == stream


@pytest.mark.parametrize("ask", [stream_of, lambda db: check_owner(db, "barn-7")])
def test_what_is_no_text_is_damage(db, ask):
    db.executemany("INSERT INTO meta VALUES (?, ?)", [("stream", 7), ("device", 7)])
    with pytest.raises(Damaged):
        ask(db)

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from edge.messaging import gaps


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    connection.executescript(gaps.TABLE + "CREATE TABLE event (seq INTEGER PRIMARY KEY);")
    yield connection
    connection.close()


def waiting(db: sqlite3.Connection, *seqs: int) -> None:
    db.executemany("INSERT INTO event VALUES (?)", [(seq,) for seq in seqs])


def test_what_neither_waits_nor_lies_in_a_range_is_absent(db):
    waiting(db, 3, 6, 7, 9)
    gaps.add(db, 4, 4, 1)
    gaps.add(db, 12, 13, 2)
    gaps.add_absent(db, 0, 14)
    assert gaps.oldest(db) == [
        *((1, 2, 0), (4, 4, 1), (5, 5, 0), (8, 8, 0)),
        *((10, 11, 0), (12, 13, 2), (14, 14, 0)),
    ]
    gaps.add_absent(db, 0, 14)
    assert len(gaps.oldest(db)) == 7


def test_only_numbers_above_the_word_are_asked_for(db):
    waiting(db, 8)
    gaps.add(db, 4, 6, 3)
    gaps.add_absent(db, 5, 9)
    assert gaps.oldest(db) == [(4, 6, 3), (7, 7, 0), (9, 9, 0)]


@pytest.mark.parametrize(("after", "until"), [(0, 0), (3, 3), (5, 3)])
def test_where_there_are_no_numbers_nothing_is_absent(db, after, until):
    gaps.add_absent(db, after, until)
    assert gaps.oldest(db) == []


def test_nothing_of_a_range_without_a_loss_arrives_after_all(db):
    gaps.add_absent(db, 0, 4)
    assert not gaps.arrived(db, 2)
    assert gaps.oldest(db) == [(1, 4, 0)]


def test_numbers_that_were_never_given_out_leave_the_range_before_them_whole(db):
    gaps.add_absent(db, 0, 4)
    gaps.add(db, 5, 7, 3)
    assert gaps.oldest(db) == [(1, 7, 3)]
    assert gaps.cut_off(db, 4) == 3
    assert gaps.oldest(db) == [(1, 4, 0)]
    assert gaps.cut_off(db, 0) == 0
    assert gaps.oldest(db) == []

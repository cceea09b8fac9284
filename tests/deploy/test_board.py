from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from deploy import board as module
from deploy.board import Board

ROOT = "earmark/v1/barn-7/up"
STORED = {"stream": "6f0c" * 8, "seq": 12}


def seen(**changes: object) -> bytes:
    fields = {
        "schema": 1,
        "device": "barn-7",
        "animal": "cow004",
        "camera": "pen-3",
        "track": 7,
        "present": True,
        "confidence": 0.97,
        "box": [0.1, 0.2, 0.3, 0.4],
        "last_seen": "2026-11-24T04:31:09.000Z",
        "clock": "synced",
        "boot": "b7",
        "monotonic": 1.5,
        **STORED,
    }
    return json.dumps({**fields, **changes}).encode()


def sighting(**changes: object) -> bytes:
    fields = json.loads(seen()) | {
        "id": "01JD0000000000000000000000",
        "type": "start",
        "reason": None,
        "distance": 0.1,
        "margin": 0.3,
        "votes": {"cow004": 9},
        "first_seen": None,
        "release": "9f31",
        "means_seq": 1,
        "replayed": False,
    }
    del fields["present"]
    return json.dumps({**fields, **changes}).encode()


def drawn(board: Board, rows: int = 20) -> str:
    console = Console(width=120, height=50, record=True, file=io.StringIO())
    console.print(board.table(rows))
    return console.export_text()


def test_an_animal_is_shown_where_it_was_last_seen():
    board = Board()
    assert board.observe(f"{ROOT}/animal/cow004", seen()) is not None
    text = drawn(board)
    for word in ("barn-7", "pen-3", "cow004", "97%", "here"):
        assert word in text
    board.observe(f"{ROOT}/animal/cow004", seen(present=False, camera="pen-4"))
    assert "gone" in drawn(board)
    assert "pen-4" in drawn(board)
    assert len(board.rows) == 1


def test_a_track_without_a_name_is_shown_until_it_ends_or_has_one():
    board = Board()
    nameless = {"animal": None, "reason": "unsure"}
    board.observe(f"{ROOT}/sighting", sighting(**nameless))
    assert "(unsure)" in drawn(board)
    board.observe(f"{ROOT}/sighting", sighting(type="end", **nameless))
    assert "(unsure)" not in drawn(board)
    board.observe(f"{ROOT}/sighting", sighting(**nameless))
    board.observe(f"{ROOT}/sighting", sighting(type="update"))
    assert "(unsure)" not in drawn(board)


def test_animals_of_a_device_that_is_offline_are_marked():
    board = Board()
    board.observe(f"{ROOT}/animal/cow004", seen())
    offline = {"schema": 1, "device": "barn-7", "status": "offline", "boot": "b7"}
    board.observe(f"{ROOT}/availability", json.dumps(offline).encode())
    assert drawn(board).count("offline") == 2


@pytest.mark.parametrize(
    ("topic", "data", "why"),
    [
        (f"{ROOT}/animal/cow004", b"\xff", "bad animal payloads"),
        (f"{ROOT}/animal/cow004", seen(confidence=2), "bad animal payloads"),
        (f"{ROOT}/animal/cow009", seen(), "in another animal's name"),
        ("earmark/v1/barn-8/up/animal/cow004", seen(), "in another device's name"),
        ("earmark/v1/barn-7/down/command", b"{}", "on foreign topics"),
        ("", b"", "on foreign topics"),
    ],
)
def test_a_bad_message_is_counted_by_what_is_wrong(topic: str, data: bytes, why: str):
    board = Board()
    for _ in range(3):
        assert board.observe(topic, data) is None
    assert board.bad == {why: 3}
    assert board.bad_summary() == f"3 messages ignored: 3 {why}"
    assert not board.rows
    assert "3 messages ignored" in drawn(board)


def test_what_a_doctor_tries_is_passed_over():
    board = Board()
    assert board.observe(f"{ROOT}/doctor", b"{}") is None
    assert board.bad_summary() == ""


@given(st.text(max_size=60), st.binary(max_size=100))
def test_whatever_arrives_nothing_breaks(topic: str, data: bytes):
    board = Board()
    for where in (topic, f"{ROOT}/{topic}", f"{ROOT}/state", f"{ROOT}/sighting"):
        assert board.observe(where, data) is None
    assert board.bad.total() == 4


def test_made_up_names_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(module, "_ROWS", 10)
    monkeypatch.setattr(module, "_DEVICES", 5)
    board = Board()
    for n in range(100):
        animal, device = f"cow{n:03}", f"barn-{n:03}"
        data = seen(animal=animal, device=device)
        assert board.observe(f"earmark/v1/{device}/up/animal/{animal}", data)
        said = {"schema": 1, "device": device, "status": "online", "boot": "b"}
        assert board.observe(f"earmark/v1/{device}/up/availability", json.dumps(said).encode())
    assert (len(board.rows), len(board.devices)) == (10, 5)
    assert "6 more" in drawn(board, rows=4)


def test_an_alarm_cannot_steer_the_terminal():
    board = Board()
    alarm = {"schema": 1, "device": "barn-7", "boot": "b", "kind": "disk-low", "at": None}
    text = "\x1b[2J[red]low\x07"
    board.observe(f"{ROOT}/alarm", json.dumps({**alarm, "text": text, "gap": None}).encode())
    shown = drawn(board)
    assert "[2J[red]low" in shown
    assert "\x1b" not in shown
    assert "\x07" not in shown


def test_a_date_that_cannot_be_is_shown_as_it_came():
    board = Board()
    board.observe(f"{ROOT}/animal/cow004", seen(last_seen="2026-99-99T99:99:99.999Z"))
    assert "2026-99-99" in drawn(board)
    board.observe(f"{ROOT}/animal/cow004", seen(last_seen=None, clock="unsynced"))
    assert "–" in drawn(board)

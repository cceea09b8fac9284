"""`earmark-deploy report` on a small farm."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta

import cv2
import numpy as np
import pytest

from deploy.cli import main
from deploy.ingest.database import open_database
from deploy.ingest.store import Store
from edge.console import run_command
from edge.messaging.events import timestamp


def stamp(hours_ago: float, now: datetime | None = None) -> str:
    return str(timestamp((now or datetime.now(UTC)) - timedelta(hours=hours_ago)))


@pytest.fixture
def farm(tmp_path, record) -> str:
    """cow001 left pen-3 five hours ago, cow002 has been in pen-4 for an hour, cow003 is lost."""
    path = str(tmp_path / "farm.db")
    store = Store(lambda: open_database(path))
    # Not when the tests were collected, which may be long ago.
    now = datetime.now(UTC)
    tracks = [("cow001", "pen-3", 8, 5, "end"), ("cow002", "pen-4", 1, 0, "update")]
    tracks += [("cow003", "pen-3", 40, 30, "end")]
    seq = 0
    for number, (animal, camera, first, last, kind) in enumerate(tracks):
        for hours, what in ((first, "start"), (last, kind)):
            seq += 1
            changes = {"animal": animal, "camera": camera, "track": number, "type": what}
            times = {"first_seen": stamp(first, now), "last_seen": stamp(hours, now)}
            monotonic = 3600.0 * (100 - hours)
            store.write([record(seq, monotonic=monotonic, **changes, **times)])
    store.close()
    return path


def report(capsys, farm: str, *arguments: str) -> str:
    assert main(["report", "--db", farm, "--time-zone", "UTC", *arguments]) == 0
    return capsys.readouterr().out


def test_who_was_where_in_the_last_day(capsys, farm):
    rows = json.loads(report(capsys, farm, "--json"))
    brief = [(row["animal"], row["device"], row["camera"], row["state"]) for row in rows]
    assert brief == [
        ("cow001", "barn-7", "pen-3", "gone"),
        ("cow002", "barn-7", "pen-4", "here"),
    ]
    assert [row["minutes"] for row in rows] == [180, 60]
    begin = datetime.fromisoformat(rows[0]["from"])
    assert abs(begin - (datetime.now(UTC) - timedelta(hours=8))) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("arguments", "animals"),
    [
        (["--since", "2d"], ["cow001", "cow002", "cow003"]),
        (["--since", "2d", "--until", "20h"], ["cow003"]),
        (["--since", "2d", "--animal", "cow002", "--animal", "cow003"], ["cow002", "cow003"]),
        (["--since", "2d", "--camera", "pen-4"], ["cow002"]),
        (["--since", stamp(2)], ["cow002"]),
        (["--since", "4h", "--until", "3h"], []),
    ],
)
def test_what_is_asked_for(capsys, farm, arguments, animals):
    rows = json.loads(report(capsys, farm, "--json", *arguments))
    assert [row["animal"] for row in rows] == animals


def test_csv_is_read_back_by_a_program(capsys, farm):
    rows = list(csv.DictReader(io.StringIO(report(capsys, farm, "--csv"))))
    assert [row["animal"] for row in rows] == ["cow001", "cow002"]
    assert (rows[0]["minutes"], rows[0]["approximate"]) == ("180.0", "no")
    assert rows[0]["from"].endswith("+00:00")


def test_the_table_says_it_to_people(capsys, farm):
    text = report(capsys, farm)
    assert "Who was where" in text
    for word in ("cow001", "pen-3", "3 h 00", "here", "gone"):
        assert word in text
    assert "nobody was seen" in report(capsys, farm, "--since", "4h", "--until", "3h")


def test_who_has_not_been_seen(capsys, farm):
    rows = json.loads(report(capsys, farm, "--not-seen-for", "4h", "--json"))
    assert [(row["animal"], row["camera"], row["hours_ago"]) for row in rows] == [
        ("cow003", "pen-3", 30.0),
        ("cow001", "pen-3", 5.0),
    ]
    text = report(capsys, farm, "--not-seen-for", "12h")
    assert "cow003" in text
    assert "cow001" not in text
    assert "30 h 00" in text
    assert "nobody" in report(capsys, farm, "--not-seen-for", "3d")


def test_of_a_herd_who_never_was_seen_is_missing_too(capsys, farm, tmp_path):
    herd = tmp_path / "herd.txt"
    herd.write_text("cow002\ncow777\n")
    text = report(capsys, farm, "--not-seen-for", "12h", "--herd", str(herd), "--csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert rows[0]["last_seen"] == ""
    assert [row["animal"] for row in rows] == ["cow777", "cow003"]


def test_the_picture_is_a_png_with_a_bar_for_each(capsys, farm, tmp_path):
    path = tmp_path / "who.png"
    assert report(capsys, farm, "--picture", str(path)).strip() == str(path)
    image = cv2.imread(str(path))[..., ::-1]
    for colour in ((0, 114, 178), (230, 159, 0)):
        assert (image == np.array(colour)).all(-1).sum() > 200


def test_times_are_told_in_the_zone_that_is_asked_for(capsys, farm):
    arguments = ["report", "--db", farm, "--json", "--time-zone", "Asia/Kolkata"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)[0]["from"].endswith("+05:30")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--since", "yesterday"], "write 24h, 2026-11-24"),
        (["--since", "1h", "--until", "2h"], "must lie before"),
        (["--time-zone", "Mars/Olympus"], "write it like Europe/Berlin"),
        (["--animal", "Cow 4"], "animal id"),
        (["--picture", "who.jpg"], "ends in .png"),
        (["--picture", "who.png", "--not-seen-for", "1h"], "is a list"),
        (["--not-seen-for", "1h", "--herd", "/nowhere"], "no such file of ids"),
    ],
)
def test_wrong_usage_is_one_line(monkeypatch, capsys, farm, arguments, words):
    monkeypatch.setattr("sys.argv", ["earmark-deploy", "report", "--db", farm, *arguments])
    assert run_command(main, "earmark-deploy") == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_a_database_that_is_not_there_is_told_and_not_made(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("sys.argv", ["earmark-deploy", "report", "--db", str(tmp_path / "no.db")])
    assert run_command(main, "earmark-deploy") == 2
    assert "no such database" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []

"""What came over the broker, on disk: names checked, bounded, told when it is news."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge.release.inbox import MESSAGE_LIMIT_BYTES, Inbox, wake_path, wake_updater

TIMESTAMP = "metadata/timestamp.json"


def test_files_of_a_repository_are_kept_by_their_path(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "inbox")
    assert inbox.put(TIMESTAMP, b"{}")
    means = f"targets/means/{'a' * 64}.device-barn-7.npz"
    assert inbox.put(means, b"means")
    assert (tmp_path / "inbox" / TIMESTAMP).read_bytes() == b"{}"
    assert (tmp_path / "inbox" / means).read_bytes() == b"means"


def test_the_same_again_is_no_news_and_no_write(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "inbox")
    inbox.put(TIMESTAMP, b"{}")
    before = (tmp_path / "inbox" / TIMESTAMP).stat()
    assert not inbox.put(TIMESTAMP, b"{}")
    assert (tmp_path / "inbox" / TIMESTAMP).stat().st_ino == before.st_ino
    assert inbox.put(TIMESTAMP, b"{ }")


def test_an_empty_message_removes_the_file(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "inbox")
    inbox.put(TIMESTAMP, b"{}")
    assert inbox.put(TIMESTAMP, b"")
    assert not (tmp_path / "inbox" / TIMESTAMP).exists()
    assert not inbox.put(TIMESTAMP, b"")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "timestamp.json",
        "metadata/",
        "metadata/../../state/floor.json",
        "../inbox2/timestamp.json",
        "/etc/passwd",
        "metadata/timestamp.json/x",
        "targets/means/short.npz",
        f"targets/other/{'a' * 64}.x",
        "metadata/.hidden.json",
        "metadata/timestamp.json\n",
        "metadata/times\0tamp.json",
    ],
)
def test_other_names_leave_no_trace(tmp_path: Path, path: str) -> None:
    assert not Inbox(tmp_path / "inbox").put(path, b"x")
    assert list(tmp_path.iterdir()) == []


def test_what_is_too_large_is_left_out(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "inbox")
    assert inbox.put(TIMESTAMP, bytes(MESSAGE_LIMIT_BYTES))
    assert not inbox.put(TIMESTAMP, bytes(MESSAGE_LIMIT_BYTES + 1))
    assert (tmp_path / "inbox" / TIMESTAMP).stat().st_size == MESSAGE_LIMIT_BYTES


@pytest.mark.parametrize("size", [10, 250_000])
def test_rubbish_makes_room_for_what_comes_later(tmp_path: Path, size: int) -> None:
    inbox = Inbox(tmp_path / "inbox")
    for number in range(1, 200):
        assert inbox.put(f"metadata/{number}.root.json", b"x" * size)
        path = tmp_path / "inbox" / "metadata" / f"{number}.root.json"
        os.utime(path, (number, number))
    files = list((tmp_path / "inbox").rglob("*.json"))
    assert len(files) <= 64
    assert sum(path.stat().st_size for path in files) <= 4 << 20
    assert inbox.put(TIMESTAMP, b"{}")
    assert (tmp_path / "inbox" / TIMESTAMP).exists()
    assert not (tmp_path / "inbox" / "metadata" / "1.root.json").exists()


def test_a_disk_that_will_not_have_it_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "inbox").write_bytes(b"a file in its place")
    assert not Inbox(tmp_path / "inbox").put(TIMESTAMP, b"{}")


def test_each_call_wakes(tmp_path: Path) -> None:
    wake_updater(tmp_path)
    first = wake_path(tmp_path).read_bytes()
    wake_updater(tmp_path)
    assert wake_path(tmp_path).read_bytes() != first

"""Downloads that go well, and what they cost."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.release.channels import ChannelError
from edge.release.download import download
from edge.release.store import Store
from edge.release.trust import Blob

DATA = bytes(range(256)) * 400
SHA256 = hashlib.sha256(DATA).hexdigest()
BLOB = Blob(f"targets/means/{SHA256}.all.npz", SHA256, len(DATA))


class Pieces:
    """A channel that has one file; offsets are what it was asked for."""

    name = "pieces:"

    def __init__(self, data: bytes, piece: int = 1000) -> None:
        self.data, self.piece = data, piece
        self.offsets: list[int] = []
        self.fails_after: int | None = None

    def fetch(self, path: str, *, offset: int = 0, limit: int) -> Iterator[bytes]:
        assert path == BLOB.path
        self.offsets.append(offset)
        data = self.data[offset : offset + limit]
        for start in range(0, len(data), self.piece):
            if self.fails_after is not None and start >= self.fails_after:
                raise ChannelError("pieces: lost")
            yield data[start : start + self.piece]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_content_comes_whole_and_once(store: Store) -> None:
    channel = Pieces(DATA)
    seen: list[int] = []
    path = download(channel, BLOB, store, limit_bytes_s=None, on_progress=seen.append)
    assert path == store.blob(SHA256)
    assert path.read_bytes() == DATA
    assert seen[-1] == len(DATA)
    assert seen == sorted(seen)
    assert not store.part(SHA256).exists()
    assert download(channel, BLOB, store, limit_bytes_s=None) == path
    assert channel.offsets == [0]


def test_an_empty_file(store: Store) -> None:
    sha256 = hashlib.sha256(b"").hexdigest()
    channel = Pieces(b"")
    path = download(channel, Blob(BLOB.path, sha256, 0), store, limit_bytes_s=None)
    assert path.read_bytes() == b""


@pytest.mark.parametrize("have", [1, 1000, len(DATA) - 1])
def test_what_is_here_already_is_not_fetched_again(store: Store, have: int) -> None:
    store.part(SHA256).write_bytes(DATA[:have])
    channel = Pieces(DATA)
    seen: list[int] = []
    path = download(channel, BLOB, store, limit_bytes_s=None, on_progress=seen.append)
    assert path.read_bytes() == DATA
    assert channel.offsets == [have]
    assert seen[0] > have


def test_a_part_that_is_whole_is_checked_and_nothing_is_asked_for(store: Store) -> None:
    store.part(SHA256).write_bytes(DATA)
    channel = Pieces(DATA)
    assert download(channel, BLOB, store, limit_bytes_s=None).read_bytes() == DATA
    assert channel.offsets == []


def test_another_channel_goes_on_where_the_first_was_lost(store: Store) -> None:
    first, second = Pieces(DATA), Pieces(DATA)
    first.fails_after = 50_000
    with pytest.raises(ChannelError, match="lost"):
        download(first, BLOB, store, limit_bytes_s=None)
    assert download(second, BLOB, store, limit_bytes_s=None).read_bytes() == DATA
    assert second.offsets == [50_000]


def test_a_channel_that_drips_makes_the_others_wait_an_hour_at_most(store: Store) -> None:
    """A piece of 1000 bytes comes every five minutes."""
    first, second = Pieces(DATA), Pieces(DATA)
    now = 0.0

    def next_piece(bytes_here: int) -> None:
        nonlocal now
        now += 300

    with pytest.raises(ChannelError, match="in an hour"):
        download(
            *(first, BLOB, store), limit_bytes_s=None, clock=lambda: now, on_progress=next_piece
        )
    assert now == 3900
    assert download(second, BLOB, store, limit_bytes_s=None).read_bytes() == DATA
    assert second.offsets == [13_000]


def test_a_limit_is_kept_on_average(store: Store) -> None:
    """A line of 4000 bytes a second, by a clock that only the waiting moves."""
    now = 100.0

    def sleep(seconds: float) -> None:
        nonlocal now
        assert seconds > 0
        now += seconds

    download(Pieces(DATA), BLOB, store, limit_bytes_s=4000, clock=lambda: now, sleep=sleep)
    assert now - 100 == pytest.approx(len(DATA) / 4000)


def test_nobody_waits_for_a_line_that_is_slower_than_the_limit(store: Store) -> None:
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 1
        return now

    def sleep(seconds: float) -> None:
        raise AssertionError(f"slept {seconds} s")

    download(Pieces(DATA), BLOB, store, limit_bytes_s=4000, clock=clock, sleep=sleep)


def test_a_long_download_is_on_the_disk_now_and_then(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    assert not store.part(SHA256).exists()
    monkeypatch.setattr("edge.release.download._SYNC_BYTES", 20_000)
    monkeypatch.setattr("edge.release.download.os.fsync", synced.append)
    channel = Pieces(DATA)
    channel.fails_after = 50_000
    with pytest.raises(ChannelError):
        download(channel, BLOB, store, limit_bytes_s=None)
    assert len(synced) == 2

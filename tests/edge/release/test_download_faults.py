"""A web server, a stick and a disk that do their worst while a device downloads."""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.durable import DurableError
from edge.errors import TrustError
from edge.release.channels import ChannelError, ChannelMissingError
from edge.release.channels.folder import FolderChannel
from edge.release.channels.https import HttpsChannel
from edge.release.download import download
from edge.release.store import DownloadError, Store
from edge.release.trust import Blob
from tests.edge.release import web
from tests.edge.release.conftest import Asking
from tests.edge.release.repository import Repository
from tests.edge.release.web import Behaviour, Web, serving

MODEL = bytes(range(256)) * 2000
FILES = {"embedder.tflite": MODEL, "detector.tflite": b"another"}


@pytest.fixture
def bundle(repository: Repository) -> str:
    bundle = repository.publish_bundle(FILES)
    repository.assign("all", bundle)
    return bundle


@pytest.fixture
def server(repository: Repository, bundle: str) -> Iterator[Web]:
    """Serves what the repository holds."""
    with serving(repository.files) as running:
        yield running


@pytest.fixture
def channel(server: Web) -> HttpsChannel:
    return HttpsChannel(
        server.url, "http", "127.0.0.1", server.port, "/repo", silence_s=0.5, least_bytes_s=50_000
    )


@pytest.fixture
def blob(repository: Repository, device: Asking, bundle: str) -> Blob:
    """The model that this device is to run."""
    wanted = device.ask(repository)
    assert wanted is not None
    return wanted.files["embedder.tflite"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def length(store: Store, blob: Blob) -> int:
    part = store.part(blob.sha256)
    return part.stat().st_size if part.exists() else 0


def test_a_truncated_download_goes_on_where_it_broke_off(
    server: Web, channel: HttpsChannel, blob: Blob, store: Store
) -> None:
    server.bad["embedder.tflite"] = web.breaks_off
    have = 0
    for _ in range(3):
        with pytest.raises(ChannelError, match="broke off"):
            download(channel, blob, store, limit_bytes_s=None)
        assert length(store, blob) > have
        have = length(store, blob)
    assert not store.has_blob(blob.sha256)
    server.bad.clear()
    server.asked.clear()
    assert download(channel, blob, store, limit_bytes_s=None).read_bytes() == MODEL
    assert server.asked == [(blob.path, f"bytes={have}-")]


def test_half_a_file_that_is_said_to_be_all_of_it(
    server: Web, channel: HttpsChannel, blob: Blob, store: Store
) -> None:
    server.bad["embedder.tflite"] = web.says_less
    with pytest.raises(ChannelError, match=f"{len(MODEL) // 2} of {len(MODEL)} bytes"):
        download(channel, blob, store, limit_bytes_s=None)
    assert length(store, blob) == len(MODEL) // 2


@pytest.mark.parametrize("bad", [web.is_endless, web.is_endless_in_chunks])
def test_an_endless_download_stops_at_the_signed_size(
    server: Web, channel: HttpsChannel, blob: Blob, store: Store, bad: Behaviour
) -> None:
    server.bad["embedder.tflite"] = bad
    most = 0

    def watch(here: int) -> None:
        nonlocal most
        most = max(most, here, length(store, blob))

    if bad is web.is_endless:
        # It begins with what was signed.
        path = download(channel, blob, store, limit_bytes_s=None, on_progress=watch)
        assert path.read_bytes() == MODEL
    else:
        with pytest.raises(DownloadError, match="hash"):
            download(channel, blob, store, limit_bytes_s=None, on_progress=watch)
        assert length(store, blob) == 0
    assert most == len(MODEL)


@pytest.mark.parametrize("bad", [web.drips, web.stops_midway, web.is_silent, web.drips_headers])
def test_a_slow_download_is_given_up_and_kept(
    server: Web, channel: HttpsChannel, blob: Blob, store: Store, bad: Behaviour
) -> None:
    server.bad["embedder.tflite"] = bad
    store.part(blob.sha256).write_bytes(MODEL[:100])
    with pytest.raises(ChannelError, match=r"too slow|from its beginning"):
        download(channel, blob, store, limit_bytes_s=None)
    server.bad.clear()
    assert download(channel, blob, store, limit_bytes_s=None).read_bytes() == MODEL


@pytest.mark.parametrize("bad", [web.ignores_ranges, web.sends_another_part])
def test_a_server_without_ranges_is_asked_from_the_beginning(
    server: Web, channel: HttpsChannel, blob: Blob, store: Store, bad: Behaviour
) -> None:
    asked_with_range = []

    def act(handler: web.Handler, data: bytes) -> None:
        if handler.headers.get("Range"):
            asked_with_range.append(handler.path)
            bad(handler, data)
        else:
            handler.answer(200, data)

    server.bad["embedder.tflite"] = act
    store.part(blob.sha256).write_bytes(MODEL[:1000])
    assert download(channel, blob, store, limit_bytes_s=None).read_bytes() == MODEL
    assert len(asked_with_range) == 1


def test_other_content_is_thrown_away_and_fetched_anew(
    server: Web, channel: HttpsChannel, blob: Blob, store: Store
) -> None:
    server.bad["embedder.tflite"] = web.sends_other
    with pytest.raises(DownloadError, match="hash"):
        download(channel, blob, store, limit_bytes_s=None)
    assert not store.has_blob(blob.sha256)
    assert length(store, blob) == 0
    server.bad.clear()
    assert download(channel, blob, store, limit_bytes_s=None).read_bytes() == MODEL


def test_a_part_that_somebody_else_wrote_is_found_out(
    channel: HttpsChannel, blob: Blob, store: Store
) -> None:
    store.part(blob.sha256).write_bytes(b"y" * 1000)
    assert download(channel, blob, store, limit_bytes_s=None).read_bytes() == MODEL


def test_a_channel_that_lies_and_breaks_off_cannot_spoil_another(
    repository: Repository, channel: HttpsChannel, blob: Blob, store: Store, tmp_path: Path
) -> None:
    # Asked first every time, so that the good one would never have been asked from the beginning.
    liar = FolderChannel(tmp_path / "liar")
    path = tmp_path / "liar" / blob.path
    path.parent.mkdir(parents=True)
    path.write_bytes(b"y" * (blob.size - 1))
    with pytest.raises(ChannelError, match="broke off"):
        download(liar, blob, store, limit_bytes_s=None)
    assert length(store, blob) == blob.size - 1
    assert download(channel, blob, store, limit_bytes_s=None).read_bytes() == MODEL


def test_a_liar_that_goes_on_with_its_own_lie_is_asked_twice_and_no_more(
    server: Web, channel: HttpsChannel, blob: Blob, store: Store
) -> None:
    store.part(blob.sha256).write_bytes(b"y" * 1000)
    server.bad["embedder.tflite"] = web.sends_other
    server.asked.clear()
    with pytest.raises(DownloadError, match="hash"):
        download(channel, blob, store, limit_bytes_s=None)
    assert len(server.asked) <= 3
    assert length(store, blob) == 0


@pytest.mark.parametrize("bad", [web.continues_for_ever, web.trails_for_ever])
def test_a_server_that_never_comes_to_the_point_is_given_up(
    server: Web, channel: HttpsChannel, blob: Blob, store: Store, bad: Behaviour
) -> None:
    server.bad["embedder.tflite"] = bad
    with pytest.raises(ChannelError):
        download(channel, blob, store, limit_bytes_s=None)
    assert not server.over.is_set()


def test_a_part_that_is_too_long_is_begun_anew(
    channel: HttpsChannel, blob: Blob, store: Store
) -> None:
    store.part(blob.sha256).write_bytes(MODEL + b"more")
    assert download(channel, blob, store, limit_bytes_s=None).read_bytes() == MODEL


@pytest.mark.parametrize(
    "bad",
    [web.is_broken, web.is_compressed, web.sends_elsewhere, web.speaks_something_else],
)
def test_a_server_that_fails_leaves_the_part_alone(
    server: Web, channel: HttpsChannel, blob: Blob, store: Store, bad: Behaviour
) -> None:
    server.bad["embedder.tflite"] = bad
    store.part(blob.sha256).write_bytes(MODEL[:1000])
    with pytest.raises(ChannelError):
        download(channel, blob, store, limit_bytes_s=None)
    assert store.part(blob.sha256).read_bytes() == MODEL[:1000]


def test_a_file_that_the_server_has_lost(
    repository: Repository, channel: HttpsChannel, blob: Blob, store: Store
) -> None:
    del repository.files[blob.path]
    with pytest.raises(ChannelMissingError, match=r"embedder\.tflite"):
        download(channel, blob, store, limit_bytes_s=None)


# A hostile server has more to lie about than content.


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("timestamp.json", web.is_endless),
        ("timestamp.json", web.sends_other),
        ("timestamp.json", web.drips),
        ("timestamp.json", web.is_broken),
        ("snapshot.json", web.sends_other),
        ("snapshot.json", web.says_less),
        ("models.json", web.is_endless),
        ("models.json", web.breaks_off),
        ("fleet.json", web.sends_other),
        ("fleet.json", web.is_endless_in_chunks),
        ("2.root.json", web.is_endless_in_chunks),
        ("2.root.json", web.sends_elsewhere),
    ],
)
def test_a_server_that_lies_about_metadata_is_refused_and_forgotten(
    server: Web, channel: HttpsChannel, device: Asking, name: str, bad: Behaviour
) -> None:
    server.bad[name] = bad
    with pytest.raises((TrustError, ChannelError)) as caught:
        device.ask(channel)
    assert "\n" not in str(caught.value)
    assert not any(path.startswith("targets/models") for path, _ in server.asked)
    server.bad.clear()
    assert device.ask(channel) is not None


# A stick.


class Pulled(FolderChannel):
    """A stick that is pulled once so many pieces were read."""

    def __init__(self, folder: Path, pieces: int) -> None:
        super().__init__(folder)
        self._stick, self._pieces = folder, pieces

    def fetch(self, path: str, *, offset: int = 0, limit: int) -> Iterator[bytes]:
        for number, chunk in enumerate(super().fetch(path, offset=offset, limit=limit)):
            yield chunk
            if number + 1 == self._pieces:
                shutil.rmtree(self._stick)
                raise ChannelError(self._failure(path, OSError(errno.EIO, "Input/output error")))


def test_a_stick_pulled_while_copying(
    repository: Repository, device: Asking, blob: Blob, store: Store, tmp_path: Path
) -> None:
    stick = repository.write_to(tmp_path / "stick")
    with pytest.raises(ChannelError, match="pulled") as caught:
        download(Pulled(stick, 2), blob, store, limit_bytes_s=None)
    assert "\n" not in str(caught.value)
    assert not store.has_blob(blob.sha256)
    have = length(store, blob)
    assert 0 < have < len(MODEL)
    again = FolderChannel(repository.write_to(tmp_path / "stick"))
    assert download(again, blob, store, limit_bytes_s=None).read_bytes() == MODEL


@pytest.mark.parametrize("files", range(8))
def test_a_stick_pulled_while_its_metadata_is_read(
    repository: Repository, device: Asking, bundle: str, tmp_path: Path, files: int
) -> None:
    stick = FolderChannel(repository.write_to(tmp_path / "stick"))
    asked = 0

    class Shaky:
        name = stick.name

        def fetch(self, path: str, *, offset: int = 0, limit: int) -> Iterator[bytes]:
            nonlocal asked
            if asked == files:
                shutil.rmtree(tmp_path / "stick")
            asked += 1
            return stick.fetch(path, offset=offset, limit=limit)

    with pytest.raises(ChannelError, match="pulled"):
        device.ask(Shaky())
    repository.write_to(tmp_path / "stick")
    assert device.ask(stick) is not None


# The disk.


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_or_is_full_keeps_no_part(
    channel: HttpsChannel,
    blob: Blob,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    def fail(handle: int) -> None:
        raise OSError(number, "it fails")

    part = store.part(blob.sha256)
    monkeypatch.setattr("edge.release.download._SYNC_BYTES", 100_000)
    monkeypatch.setattr("edge.release.download.os.fsync", fail)
    with pytest.raises(DurableError) as caught:
        download(channel, blob, store, limit_bytes_s=None)
    assert caught.value.full == (number == errno.ENOSPC)
    assert not part.exists()


def test_every_part_of_the_right_length_but_one_is_refused(blob: Blob, store: Store) -> None:
    """The hash alone decides: each single byte that differs is found."""
    for place in (0, 1, len(MODEL) // 2, len(MODEL) - 1):
        wrong = bytearray(MODEL)
        wrong[place] ^= 1
        assert hashlib.sha256(wrong).hexdigest() != blob.sha256
        store.part(blob.sha256).write_bytes(wrong)
        with pytest.raises(DownloadError, match="hash"):
            store.adopt_part(blob.sha256, blob.size)

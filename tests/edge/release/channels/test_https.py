"""A real web server on loopback, well behaved or not."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deploy.broker.authority import Authority, new_authority, new_key
from edge.messaging.local_broker import free_port
from edge.release.channels import ChannelError, ChannelMissingError, open_channel
from edge.release.channels.channel import OffsetIgnoredError
from edge.release.channels.https import HttpsChannel
from tests.edge.release import web
from tests.edge.release.web import Behaviour, Web, serving

PATH = "metadata/timestamp.json"
DATA = bytes(range(256)) * 1000


@pytest.fixture
def server() -> Iterator[Web]:
    with serving({PATH: DATA, "metadata/1.root.json": b"{}"}) as running:
        yield running


def channel(server: Web, silence_s: float = 10.0, least_bytes_s: float = 1.0) -> HttpsChannel:
    return HttpsChannel(
        server.url,
        "http",
        "127.0.0.1",
        server.port,
        "/repo/",
        silence_s=silence_s,
        least_bytes_s=least_bytes_s,
    )


def read(source: HttpsChannel, path: str = PATH, offset: int = 0, limit: int = len(DATA)) -> bytes:
    return b"".join(source.fetch(path, offset=offset, limit=limit))


def test_files_from_any_offset_up_to_any_limit(server: Web) -> None:
    source = channel(server)
    assert read(source) == DATA
    assert read(source, offset=100_000) == DATA[100_000:]
    assert server.asked == [(PATH, None), (PATH, "bytes=100000-")]
    assert read(source, offset=7, limit=10) == DATA[7:17]


def test_one_connection_serves_them_all_and_files_that_are_missing_too(server: Web) -> None:
    source = channel(server)
    assert read(source, "metadata/1.root.json", limit=2) == b"{}"
    with pytest.raises(ChannelMissingError, match="has no metadata/2"):
        read(source, "metadata/2.root.json")
    assert read(source) == DATA
    assert server.connections == 1


def test_a_body_that_is_longer_than_was_asked_for_is_not_taken_for_the_next_answer(
    server: Web,
) -> None:
    source = channel(server)
    assert read(source, limit=10) == DATA[:10]
    assert read(source, "metadata/1.root.json", limit=2) == b"{}"
    assert server.connections == 2


def test_a_connection_that_the_server_has_closed_meanwhile_is_opened_again(server: Web) -> None:
    server.bad[PATH] = web.hangs_up_afterwards
    source = channel(server)
    assert read(source) == DATA
    assert read(source) == DATA
    assert server.connections == 2


@pytest.mark.parametrize("bad", [web.ignores_ranges, web.sends_another_part])
def test_a_server_that_sends_something_else_than_the_rest(server: Web, bad: Behaviour) -> None:
    server.bad[PATH] = bad
    with pytest.raises(OffsetIgnoredError):
        read(channel(server), offset=100)


@pytest.mark.parametrize("bad", [web.is_endless, web.is_endless_in_chunks])
def test_a_body_without_an_end_is_cut_off(server: Web, bad: Behaviour) -> None:
    server.bad[PATH] = bad
    source = channel(server)
    assert len(read(source, limit=300_000)) == 300_000
    assert read(source, "metadata/1.root.json", limit=2) == b"{}"


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (web.breaks_off, "broke off"),
        (web.is_compressed, "compressed"),
        (web.speaks_something_else, "not a proper answer"),
        (web.sends_elsewhere, "302"),
        (web.is_broken, "500"),
    ],
)
def test_a_server_that_fails(server: Web, bad: Behaviour, says: str) -> None:
    server.bad[PATH] = bad
    with pytest.raises(ChannelError, match=says) as caught:
        read(channel(server))
    assert "\n" not in str(caught.value)
    assert server.url in str(caught.value)
    assert len(server.asked) == 1


@pytest.mark.parametrize("bad", [web.is_silent, web.stops_midway])
def test_a_server_that_falls_silent(server: Web, bad: Behaviour) -> None:
    server.bad[PATH] = bad
    with pytest.raises(ChannelError, match="slow, or silent"):
        read(channel(server, silence_s=0.2))


@pytest.mark.parametrize("bad", [web.drips, web.drips_headers])
def test_a_server_that_drips_is_never_silent_but_too_slow(server: Web, bad: Behaviour) -> None:
    server.bad[PATH] = bad
    with pytest.raises(ChannelError, match="slow, or silent"):
        read(channel(server, silence_s=0.5, least_bytes_s=10_000))


@pytest.mark.parametrize("bad", [web.regrets_for_ever, web.regrets_slowly])
def test_a_server_that_regrets_without_an_end(server: Web, bad: Behaviour) -> None:
    server.bad["2.root.json"] = bad
    source = channel(server, silence_s=0.2)
    with pytest.raises(ChannelError):
        read(source, "metadata/2.root.json")
    assert read(source, "metadata/1.root.json", limit=2) == b"{}"


def test_a_file_given_up_midway_does_not_disturb_the_next(server: Web) -> None:
    source = channel(server)
    given_up = source.fetch(PATH, limit=len(DATA))
    next(given_up)
    assert read(source) == DATA


def test_nobody_listens() -> None:
    source = HttpsChannel("http://127.0.0.1", "http", "127.0.0.1", free_port(), "")
    with pytest.raises(ChannelError, match="nobody listens"):
        read(source)


def test_there_is_no_such_host() -> None:
    source = open_channel("https://no-such-host.invalid/", inbox=Path("/nowhere"))
    with pytest.raises(ChannelError, match="no such host"):
        list(source.fetch(PATH, limit=10))


def test_nothing_but_a_repositorys_files_is_asked_for(server: Web) -> None:
    with pytest.raises(ChannelError, match="no file of a repository"):
        read(channel(server), "metadata/../../admin")
    assert server.asked == []


@pytest.fixture
def farm(tmp_path: Path) -> Path:
    """A farm's own authority, ca.crt, with a server's certificate for 127.0.0.1."""
    return certify(tmp_path, datetime.now(UTC))


def certify(folder: Path, now: datetime) -> Path:
    key, own = new_key(), new_key()
    ca = new_authority("farm", key, now, days=30)
    issued = Authority(ca, key).server(["127.0.0.1"], own, now, 20)
    for name, data in (("ca.crt", ca), ("server.crt", issued.pem), ("server.key", own)):
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def tls(farm: Path) -> Iterator[Web]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(farm / "server.crt", farm / "server.key")
    with serving({PATH: DATA}, context) as running:
        yield running


def test_a_server_with_a_certificate_of_the_farms_authority(tls: Web, farm: Path) -> None:
    source = open_channel(tls.url, inbox=farm, ca_file=farm / "ca.crt")
    for _ in range(2):
        assert b"".join(source.fetch(PATH, limit=len(DATA))) == DATA
    assert tls.connections == 1


def test_a_server_with_a_certificate_of_nobody_known(tls: Web, farm: Path) -> None:
    source = open_channel(tls.url, inbox=farm)
    with pytest.raises(ChannelError, match="certificate is not accepted"):
        list(source.fetch(PATH, limit=10))
    assert tls.asked == []


def test_a_certificate_that_is_not_good_any_more(tmp_path: Path) -> None:
    farm = certify(tmp_path, datetime.now(UTC) - timedelta(days=25))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(farm / "server.crt", farm / "server.key")
    with serving({PATH: DATA}, context) as running:
        source = open_channel(running.url, inbox=farm, ca_file=farm / "ca.crt")
        with pytest.raises(ChannelError, match="clock"):
            list(source.fetch(PATH, limit=10))


def test_an_authority_that_is_not_there(tls: Web, tmp_path: Path) -> None:
    source = open_channel(tls.url, inbox=tmp_path, ca_file=tmp_path / "none.crt")
    with pytest.raises(ChannelError, match="No such file"):
        list(source.fetch(PATH, limit=10))

"""The connection of ingest over websockets, behind a proxy that passes on many packets at once."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.ingest.subscriber import Arrival, Filter, Subscriber
from edge.messaging.broker import BrokerOptions
from edge.messaging.connection import open_connection
from edge.messaging.topics import Topics

pytestmark = pytest.mark.slow
# More than the subscriber reads before its caller has a turn.
WORDS = 600
_IDLE_S = 0.3


class GatheringProxy:
    """Passes on what a broker says when it has said nothing more for a moment, all at once.

    tls: a server's context; what comes together then shares TLS records, else one frame.
    """

    def __init__(self, port: int, tls: ssl.SSLContext | None) -> None:
        self._broker = port
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._serve, daemon=True)]

    @property
    def url(self) -> str:
        scheme = "ws" if self._tls is None else "wss"
        return f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}/mqtt"

    def __enter__(self) -> GatheringProxy:
        self._threads[0].start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for one in (self._listener, *self._open):
            one.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            client, _ = self._listener.accept()
            if self._tls is not None:
                client = self._tls.wrap_socket(client, server_side=True)
            broker = socket.create_connection(("127.0.0.1", self._broker), 5)
            broker.settimeout(None)
            self._open += [client, broker]
            up = threading.Thread(target=self._up, args=(client, broker), daemon=True)
            self._threads.append(up)
            up.start()
            self._down(broker, client)

    @staticmethod
    def _up(client: socket.socket, broker: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                broker.sendall(data)

    def _down(self, broker: socket.socket, client: socket.socket) -> None:
        said = b""
        while b"\r\n\r\n" not in said:
            said += broker.recv(65536)
        head, _, said = said.partition(b"\r\n\r\n")
        client.sendall(head + b"\r\n\r\n")
        while data := broker.recv(65536):
            said += data
            broker.settimeout(_IDLE_S)
            with contextlib.suppress(TimeoutError):
                while data := broker.recv(65536):
                    said += data
            broker.settimeout(None)
            if self._tls is None:
                frames, said = _payloads(said)
                client.sendall(_frame(frames))
            else:
                client.sendall(said)
                said = b""


def _payloads(said: bytes) -> tuple[bytes, bytes]:
    """The contents of all whole frames from a server, and what is left."""
    found = b""
    while len(said) >= 2:
        size, head = said[1], 2
        if size == 126:
            size, head = int.from_bytes(said[2:4], "big"), 4
        if len(said) < head + size:
            break
        found += said[head : head + size]
        said = said[head + size :]
    return found, said


def _frame(payload: bytes) -> bytes:
    """One whole binary frame of a server, with the longest form of its size."""
    return b"\x82\x7f" + len(payload).to_bytes(8, "big") + payload


@pytest.fixture
def web_port(start_mosquitto) -> tuple[str, int]:
    """The URL of a mosquitto, and the port where it speaks websockets."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    broker = start_mosquitto(f"listener {port} 127.0.0.1", "protocol websockets")
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)):
            pytest.skip("this mosquitto was built without websockets")
    return broker.url, port


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of 127.0.0.1 that signed itself; its key is beside it."""
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    command += " -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out certificate.pem"
    subprocess.run(command.split(), check=True, capture_output=True, cwd=tmp_path)
    return tmp_path / "certificate.pem"


@pytest.fixture
def proxy() -> Iterator[Callable[..., GatheringProxy]]:
    with contextlib.ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(GatheringProxy(*arguments))


@pytest.mark.parametrize("tls", [False, True], ids=["one-frame", "one-record"])
def test_packets_that_come_together_are_all_read(web_port, certificate, proxy, wait_until, tls):
    url, port = web_port
    speaker = open_connection(BrokerOptions(url), "speaker")
    waiting = {
        speaker.publish(Topics(f"barn-{number}").ingest, b"{}", retain=True)
        for number in range(WORDS)
    }
    while waiting:
        waiting -= {ack.ticket for ack in speaker.turn(5.0)}
    speaker.close()
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    line = proxy(port, context)
    options = BrokerOptions(line.url, ca_file=certificate if tls else None)
    subscriber = Subscriber(options, "db", [Filter("earmark/v1/+/down/ingest", stored=True)])
    arrived: list[Arrival] = []

    def all_read() -> bool:
        # Longer than the whole wait: whoever waits on the socket for what is in hand already fails.
        arrived.extend(subscriber.turn(20.0))
        return len(arrived) == WORDS

    wait_until(all_read, 15.0)
    subscriber.close()

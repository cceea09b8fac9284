"""The connection of ingest over wss, behind a proxy that passes on many packets at once."""

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
from edge.messaging.local_broker import free_port, listens
from edge.messaging.topics import Topics

pytestmark = pytest.mark.slow
# Few enough for one TLS record of 16 KiB, which is decrypted as a whole.
WORDS = 200
_IDLE_S = 0.3


class GatheringProxy:
    """Ends TLS before a broker; what that says in one go shares a record, as with a real proxy."""

    def __init__(self, port: int, tls: ssl.SSLContext) -> None:
        self._broker = port
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._serve, daemon=True)]

    @property
    def url(self) -> str:
        return f"wss://127.0.0.1:{self._listener.getsockname()[1]}/mqtt"

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
        while said := broker.recv(65536):
            broker.settimeout(_IDLE_S)
            with contextlib.suppress(TimeoutError):
                while data := broker.recv(65536):
                    said += data
            broker.settimeout(None)
            client.sendall(said)


@pytest.fixture
def web_port(start_mosquitto) -> tuple[str, int]:
    """The URL of a mosquitto, and the port where it speaks websockets."""
    port = free_port()
    broker = start_mosquitto(f"listener {port} 127.0.0.1", "protocol websockets")
    assert listens(port)
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


def test_packets_that_come_together_are_all_read(web_port, certificate, proxy, wait_until):
    url, port = web_port
    speaker = open_connection(BrokerOptions(url), "speaker")
    waiting = {
        speaker.publish(Topics(f"barn-{number}").ingest, b"{}", retain=True)
        for number in range(WORDS)
    }
    while waiting:
        waiting -= {ack.ticket for ack in speaker.turn(5.0)}
    speaker.close()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    options = BrokerOptions(proxy(port, context).url, ca_file=certificate)
    subscriber = Subscriber(options, "db", [Filter("earmark/v1/+/down/ingest", stored=True)])
    arrived: list[Arrival] = []

    def all_read() -> bool:
        # Longer than the whole wait: whoever waits on the socket for what is in hand already fails.
        arrived.extend(subscriber.turn(20.0))
        return len(arrived) == WORDS

    wait_until(all_read, 15.0)
    subscriber.close()

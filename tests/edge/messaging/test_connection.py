"""Against a byte-level fake broker: what a CONNECT is answered with is written down here."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from edge.messaging.broker import BrokerOptions, BrokerRefused, BrokerUnreachable
from edge.messaging.connection import open_connection
from edge.messaging.local_broker import free_port
from edge.messaging.login import MQTT_5, MQTT_311

TAKEN_5 = bytes([0x20, 3, 0, 0, 0])
TAKEN_311 = bytes([0x20, 2, 0, 0])
# A 3.1.1 broker's "unacceptable protocol version".
OTHER_VERSION_311 = bytes([0x20, 2, 0, 1])
OTHER_VERSION_5 = bytes([0x20, 3, 0, 0x84, 0])
BAD_LOGIN_5 = bytes([0x20, 3, 0, 0x86, 0])
BAD_LOGIN_311 = bytes([0x20, 2, 0, 4])
HANG_UP = b""


class FakeBroker:
    """Answers each CONNECT by its protocol level; None says nothing and keeps the line open."""

    def __init__(self, answers: dict[int, bytes | None]) -> None:
        self.levels: list[int] = []
        self._answers = answers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.broker = BrokerOptions(f"mqtt://127.0.0.1:{self._listener.getsockname()[1]}")
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                packet = client.recv(4096)
                # Fixed header (2), length of the name (2), "MQTT", level.
                level = packet[8]
                self.levels.append(level)
                answer = self._answers[level]
                if answer:
                    client.sendall(answer)
                if answer == HANG_UP:
                    client.close()
                else:
                    self._open.append(client)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for client in self._open:
            client.close()


@pytest.fixture
def fake() -> Iterator[Callable[[dict[int, bytes | None]], FakeBroker]]:
    with contextlib.ExitStack() as stack:

        def start(answers: dict[int, bytes | None]) -> FakeBroker:
            broker = FakeBroker(answers)
            stack.callback(broker.close)
            return broker

        yield start


def test_mqtt_5_is_tried_first(fake):
    server = fake({5: TAKEN_5})
    connection = open_connection(server.broker, "barn-7")
    assert (connection.protocol, connection.protocol_name, server.levels) == (MQTT_5, "5", [5])
    assert (connection.window, connection.packet_limit) == (100, None)
    connection.close()


def test_the_broker_limits_window_and_packets(fake):
    # Receive Maximum 7 (0x21), Maximum Packet Size 1000 (0x27).
    properties = bytes([0x21, 0, 7, 0x27, 0, 0, 3, 0xE8])
    answer = bytes([0x20, 3 + len(properties), 0, 0, len(properties)]) + properties
    connection = open_connection(fake({5: answer}).broker, "barn-7")
    assert (connection.window, connection.packet_limit) == (7, 1000)
    assert connection.fits("topic", b"x" * 900)
    assert not connection.fits("topic", b"x" * 1000)
    connection.close()


@pytest.mark.parametrize("answer", [OTHER_VERSION_311, OTHER_VERSION_5, HANG_UP, None], ids=str)
def test_who_does_not_speak_5_is_spoken_to_in_3_1_1(fake, answer):
    server = fake({5: answer, 4: TAKEN_311})
    connection = open_connection(server.broker, "barn-7", session_expiry_s=60)
    assert (connection.protocol, connection.protocol_name) == (MQTT_311, "3.1.1")
    assert server.levels == [5, 4]
    connection.close()


@pytest.mark.parametrize("answer", [HANG_UP, None], ids=str)
def test_a_bad_line_to_who_spoke_5_does_not_lead_to_3_1_1(fake, answer):
    server = fake({5: answer, 4: TAKEN_311})
    with pytest.raises(BrokerUnreachable):
        open_connection(server.broker, "barn-7", spoke_5=True)
    assert server.levels == [5]
    other = fake({5: OTHER_VERSION_5, 4: TAKEN_311})
    assert open_connection(other.broker, "barn-7", spoke_5=True).protocol == MQTT_311


def test_a_refused_login_is_not_tried_again_in_another_version(fake):
    server = fake({5: BAD_LOGIN_5})
    with pytest.raises(BrokerRefused, match="login"):
        open_connection(server.broker, "barn-7")
    assert server.levels == [5]


def test_a_login_refused_in_3_1_1_is_refused(fake):
    with pytest.raises(BrokerRefused, match="login"):
        open_connection(fake({5: HANG_UP, 4: BAD_LOGIN_311}).broker, "barn-7")


def test_who_always_hangs_up_is_no_broker(fake):
    with pytest.raises(BrokerUnreachable, match="hung up"):
        open_connection(fake({5: HANG_UP, 4: HANG_UP}).broker, "barn-7")


def test_a_broker_that_loses_what_is_sent_is_refused(fake):
    # Maximum QoS 0 (0x24).
    with pytest.raises(BrokerRefused, match="QoS 0"):
        open_connection(fake({5: bytes([0x20, 5, 0, 0, 2, 0x24, 0])}).broker, "barn-7")


def test_rubbish_is_no_crash(fake):
    with pytest.raises((BrokerRefused, BrokerUnreachable)):
        open_connection(fake({5: b"HTTP/1.1 400 Bad Request\r\n\r\n", 4: HANG_UP}).broker, "b7")


def test_nobody_there_is_one_line():
    port = free_port()
    with pytest.raises(BrokerUnreachable) as caught:
        open_connection(BrokerOptions(f"mqtt://127.0.0.1:{port}"), "barn-7")
    assert str(caught.value) == (
        f"broker 127.0.0.1:{port}: nothing listens there; start the broker or correct the address"
    )


@pytest.mark.parametrize("reset", [False, True])
def test_a_proxy_without_its_broker_is_no_refusal(reset):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            one, _ = listener.accept()
            one.recv(100)
            if reset:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            else:
                one.shutdown(socket.SHUT_RDWR)
            one.close()

        proxy = threading.Thread(target=hang_up)
        proxy.start()
        with pytest.raises(BrokerUnreachable):
            open_connection(
                BrokerOptions(f"mqtts://127.0.0.1:{listener.getsockname()[1]}"), "barn-7"
            )
        proxy.join()

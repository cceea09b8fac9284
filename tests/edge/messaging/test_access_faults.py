"""Fault table, rights: nothing of another device is written, read or taken, and it is said so.

The real mosquitto, with rules by user name as `deploy/mosquitto/` has them by certificate.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.messaging import BrokerOptions, BrokerRefused, Messenger, Outbox
from edge.messaging.connection import Connection, Message, open_connection
from edge.messaging.local_broker import Mosquitto
from edge.messaging.topics import Topics

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("mosquitto_passwd") is None, reason="no mosquitto_passwd"),
]
A, B = Topics("barn-a"), Topics("barn-b")
USERS = {"barn-a": "aa", "barn-b": "bb", "office": "oo"}
RULES = """
pattern write earmark/v1/%u/up/#
pattern read earmark/v1/%u/down/#
user office
topic readwrite earmark/v1/#
"""


@pytest.fixture
def broker(start_mosquitto, tmp_path) -> Mosquitto:
    passwords, rules = tmp_path / "passwords", tmp_path / "rules"
    passwords.write_text("".join(f"{user}:{word}\n" for user, word in USERS.items()))
    subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True)
    rules.write_text(RULES)
    return start_mosquitto(
        f"password_file {passwords}",
        f"acl_file {rules}",
        "use_username_as_clientid true",
        anonymous=False,
    )


def options(broker: Mosquitto, user: str) -> BrokerOptions:
    return BrokerOptions(broker.url, username=user, password=USERS[user])


class Office:
    """Who may see and say everything."""

    def __init__(self, broker: Mosquitto) -> None:
        self.heard: list[Message] = []
        self._connection = open_connection(
            options(broker, "office"), "office", on_message=self.heard.append
        )
        self._connection.subscribe("earmark/v1/#")

    def listen(self, for_s: float) -> None:
        end_s = time.monotonic() + for_s
        while (left_s := end_s - time.monotonic()) > 0:
            self._connection.turn(left_s)

    def say(self, topic: str, payload: bytes) -> None:
        self._connection.publish(topic, payload, retain=False)
        self.listen(0.2)

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def office(broker) -> Iterator[Office]:
    one = Office(broker)
    yield one
    one.close()


class Barn:
    def __init__(self, folder: Path, broker: BrokerOptions, device: str, **more) -> None:
        self.problems: list[str] = []
        self.outbox = Outbox(folder / f"{device}-{broker.username}.db")
        self.messenger = Messenger(
            broker, device, "b7", self.outbox, self.problems.append, gather_s=0.0, **more
        )
        self.messenger.start()

    def close(self) -> None:
        self.messenger.stop(0)
        self.outbox.close()


@pytest.fixture
def barn(tmp_path) -> Iterator[Callable[..., Barn]]:
    made: list[Barn] = []

    def make(broker: BrokerOptions, device: str, **more) -> Barn:
        made.append(Barn(tmp_path, broker, device, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_publishing_as_another_device_reaches_nobody(broker, office, barn, make_event, wait_until):
    thief = barn(options(broker, "barn-b"), "barn-a")
    thief.messenger.publish([make_event(device="barn-a")])
    wait_until(lambda: any("up/sighting" in line for line in thief.problems), 30)
    office.listen(0.5)
    assert [message.topic for message in office.heard if "barn-a" in message.topic] == []
    # Nor does the device believe that it was taken.
    assert thief.outbox.depth == 1
    assert any("refused" in line and "check its rules" in line for line in thief.problems)
    # The same, as itself.
    honest = barn(options(broker, "barn-b"), "barn-b")
    honest.messenger.publish([make_event(device="barn-b")])
    assert honest.messenger.stop(30) == 0
    wait_until(lambda: office.listen(0.1) or B.sighting in [one.topic for one in office.heard])


def test_commands_of_another_device_are_not_heard(broker, office, barn, wait_until):
    heard: list[Message] = []
    mine = barn(options(broker, "barn-b"), "barn-b", handlers={B.command: heard.append})
    mine.messenger.wait_connected(30)
    spy = open_connection(options(broker, "barn-a"), "barn-a", on_message=heard.append)
    for topic in (B.command, "earmark/v1/+/down/command", "earmark/v1/#", "#"):
        # mosquitto takes some of these, and delivers nothing.
        with contextlib.suppress(BrokerRefused):
            spy.subscribe(topic)
    office.say(B.command, b"for b")
    wait_until(lambda: heard)
    office.listen(0.2)
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        spy.turn(0.1)
    spy.close()
    assert [message.payload for message in heard] == [b"for b"]


def test_a_device_commands_nobody_not_even_itself(broker, office, barn):
    heard: list[Message] = []
    for device in ("barn-a", "barn-b"):
        one = barn(options(broker, device), device, handlers={Topics(device).command: heard.append})
        one.messenger.wait_connected(30)
    thief = open_connection(options(broker, "barn-a"), "barn-a2")
    answers = []
    for topic in (B.command, A.command, B.ingest):
        thief.publish(topic, b"{}", retain=False)
    deadline = time.monotonic() + 10
    while len(answers) < 3 and time.monotonic() < deadline:
        answers += thief.turn(0.1)
    thief.close()
    office.listen(0.5)
    assert [answer.failure for answer in answers] == [0x87] * 3
    assert heard == []
    assert not any("/down/" in message.topic for message in office.heard)


def test_a_client_id_of_another_device_is_not_taken(broker, office, barn, make_event, wait_until):
    honest = barn(options(broker, "barn-b"), "barn-b")
    honest.messenger.wait_connected(30)
    thief: Connection = open_connection(options(broker, "barn-a"), "barn-b")
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        thief.turn(0.1)
    assert honest.messenger.connected
    honest.messenger.publish([make_event(device="barn-b")])
    wait_until(lambda: office.listen(0.1) or B.sighting in [one.topic for one in office.heard])
    thief.close()
    assert honest.problems == []


def test_two_with_one_id_and_one_login_say_so(broker, barn, wait_until, tmp_path):
    """The same credentials on two devices: nobody can keep them apart, so they complain."""
    first = barn(options(broker, "barn-b"), "barn-b")
    first.messenger.wait_connected(30)
    second = tmp_path / "second"
    second.mkdir()
    other = Barn(second, options(broker, "barn-b"), "barn-b")
    try:
        problems = first.problems, other.problems
        wait_until(lambda: any("use the id" in line for lines in problems for line in lines), 60)
        # Once each, not at every turn.
        assert all(len(lines) <= 3 for lines in problems)
    finally:
        other.close()


def test_a_watermark_of_a_stranger_is_refused_by_the_broker(broker, office, barn, make_event):
    device = barn(options(broker, "barn-b"), "barn-b", ack="ingest")
    device.messenger.publish([make_event(device="barn-b")])
    device.messenger.wait_connected(30)
    thief = open_connection(options(broker, "barn-a"), "barn-a")
    word = {"schema": 1, "device": "barn-b", "stream": device.outbox.stream, "seq": 1}
    thief.publish(B.ingest, json.dumps(word).encode(), retain=True)
    answers = []
    while not answers:
        answers = thief.turn(1.0)
    thief.close()
    assert answers[0].failure == 0x87
    office.listen(0.5)
    assert device.messenger.stop(30) == 0
    assert device.outbox.depth == 1

"""Commands through a real mosquitto: good ones are executed once, floods leave the device alone."""

from __future__ import annotations

import json
import random
import re
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from edge.capture.clock import wall_time
from edge.messaging import BrokerOptions, Messenger, Outbox
from edge.messaging.commands import CommandDesk, Order, Outcome
from edge.messaging.connection import Connection, Message, Terms, open_connection
from edge.messaging.events import Alarm, Reply, decode, timestamp
from edge.messaging.local_broker import Mosquitto
from edge.messaging.topics import Topics
from edge.orders import Orders

pytestmark = pytest.mark.slow
TOPICS = Topics("barn-7")
MIB = 1 << 20


class Device:
    """A messenger that takes commands; `work` executes what waits, as the agent's loop does."""

    def __init__(self, url: str, folder: Path) -> None:
        self.done: list[str] = []
        self.problems: list[str] = []
        self.outbox = Outbox(folder / "outbox.db")
        self.desk = CommandDesk("barn-7", "b7", now=wall_time)
        self.orders = Orders(
            self.desk,
            {"identify": self._identify, "restart": self._identify},
            send=lambda reply, correlation: self.messenger.reply(reply, correlation),
            alarm=lambda kind, text: self.messenger.alarm(kind, text),
            wake=lambda: None,
        )
        self.messenger = Messenger(
            BrokerOptions(url),
            "barn-7",
            "b7",
            self.outbox,
            self.problems.append,
            handlers={TOPICS.command: self.orders.receive},
        )
        self.messenger.start()
        self.messenger.wait_connected(20)

    def _identify(self, order: Order) -> Outcome:
        self.done.append(order.id)
        return Outcome(text="told")

    def close(self) -> None:
        self.messenger.stop(5)
        self.outbox.close()


class Sender:
    """Somebody who may command the device, and hears its replies and alarms."""

    def __init__(self, url: str) -> None:
        self.heard: list[Message] = []
        self.connection: Connection = open_connection(
            BrokerOptions(url), "sender", on_message=self.heard.append
        )
        self.connection.subscribe(TOPICS.reply)
        self.connection.subscribe(TOPICS.alarm)

    def send(self, payload: bytes, *, expires_s: int | None = 60, retain: bool = False) -> None:
        terms = Terms(expires_s=expires_s, response_topic=TOPICS.reply, correlation=b"c-1")
        self.connection.publish(TOPICS.command, payload, retain=retain, terms=terms)

    def turn_until(self, condition: Callable[[], object]) -> None:
        for _ in range(600):
            if condition():
                return
            self.connection.turn(0.05)
        pytest.fail("the condition did not come true in time")

    def replies(self) -> list[Reply]:
        return [decode(one.payload, Reply) for one in self.heard if one.topic == TOPICS.reply]

    def alarms(self) -> list[Alarm]:
        return [decode(one.payload, Alarm) for one in self.heard if one.topic == TOPICS.alarm]


@pytest.fixture
def device(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[Device]:
    device = Device(mosquitto.url, tmp_path)
    yield device
    device.close()


@pytest.fixture
def sender(mosquitto: Mosquitto) -> Iterator[Sender]:
    sender = Sender(mosquitto.url)
    yield sender
    sender.connection.close()


def good(command: str, **changes: Any) -> bytes:
    said = {
        "schema": 1,
        "id": command,
        "name": "identify",
        "args": {},
        "not_after": timestamp(datetime.now(UTC) + timedelta(seconds=60)),
    }
    return json.dumps({**said, **changes}).encode()


def test_a_command_is_executed_once_and_answered_with_its_correlation(
    device: Device, sender: Sender
) -> None:
    sender.send(good("n1"))
    sender.turn_until(lambda: device.desk.accepted == 1)
    device.orders.work()
    sender.turn_until(lambda: len(sender.replies()) == 1)
    sender.send(good("n1"))
    sender.turn_until(lambda: len(sender.replies()) == 2)
    device.orders.work()
    first, second = sender.replies()
    assert first == second
    assert (first.id, first.ok, first.text) == ("n1", True, "told")
    assert [one.correlation for one in sender.heard] == [b"c-1", b"c-1"]
    assert device.done == ["n1"]
    assert device.problems == []


def test_the_shell_line_of_the_documentation_is_a_command(
    device: Device, sender: Sender, mosquitto: Mosquitto
) -> None:
    page = (Path(__file__).parents[3] / "docs" / "commands.md").read_text()
    (line,) = re.findall(r"^ +(mosquitto_pub .*?'$)", page, re.DOTALL | re.MULTILINE)
    subprocess.run(["sh", "-c", f"{line} -h 127.0.0.1 -p {mosquitto.port}"], check=True)
    sender.turn_until(lambda: device.desk.accepted == 1)
    device.orders.work()
    sender.turn_until(lambda: len(sender.replies()) == 1)
    assert (sender.replies()[0].id, device.done) == ("my-1", ["my-1"])


def test_a_retained_command_and_one_without_expiry_are_refused(
    mosquitto: Mosquitto, sender: Sender, tmp_path: Path
) -> None:
    sender.send(good("kept"), retain=True)
    device = Device(mosquitto.url, tmp_path)
    try:
        sender.turn_until(lambda: device.desk.refused.get("retained") == 1)
        sender.send(good("n1"), expires_s=None)
        sender.turn_until(lambda: len(sender.replies()) == 1)
        assert sender.replies()[0].error == "no-expiry"
        device.orders.work()
        assert device.done == []
        sender.turn_until(lambda: len(sender.alarms()) == 1)
        (alarm,) = sender.alarms()
        assert (alarm.kind, alarm.text) == ("refused-command", "1 commands refused: 1 retained")
    finally:
        device.close()


def test_hundreds_of_malformed_commands_leave_the_device_alive(
    device: Device, sender: Sender
) -> None:
    rng = random.Random(7)
    kinds: list[Callable[[int], bytes]] = [
        lambda n: rng.randbytes(rng.randrange(1, 400)),
        lambda n: b'{"args":' * rng.randrange(1, 2000),
        lambda n: good(f"x{n}", name=None),
        lambda n: good(f"x{n}", not_after="never"),
        lambda n: good(f"x{n}", extra=n),
        lambda n: good(f"x{n}")[:-2],
        lambda n: good(f"x{n}").replace(b"identify", b"\xff\xfe"),
        lambda n: b"[" * 17_000,
        lambda n: b"{" * 200_000,
    ]
    sent = 0
    for number in range(40):
        for make in kinds:
            sender.send(make(number))
            sent += 1
        if number % 10 == 0:
            # Larger than what the device takes from its broker, which drops it on the way.
            sender.send(b"x" * MIB)
        sender.connection.turn(0.0)
    sender.turn_until(lambda: sum(device.desk.refused.values()) == sent)
    device.orders.work()
    assert device.done == []
    assert device.desk.accepted == 0
    assert set(device.desk.refused) == {"malformed", "oversize"}
    assert device.outbox.depth == 0
    sender.send(good("after"))
    sender.turn_until(lambda: device.desk.accepted == 1)
    device.orders.work()
    sender.turn_until(lambda: any(reply.id == "after" for reply in sender.replies()))
    assert device.done == ["after"]
    assert len(sender.replies()) == 1
    assert len(sender.alarms()) <= 2
    assert device.messenger.connected
    assert device.problems == []


def test_a_storm_of_good_commands_is_cut_to_the_rate(device: Device, sender: Sender) -> None:
    for number in range(500):
        sender.send(good(f"n{number}", name="restart"))
        sender.connection.turn(0.0)
    sender.turn_until(lambda: device.desk.accepted + sum(device.desk.refused.values()) >= 500)
    device.orders.work()
    assert len(device.done) <= 8
    # What waited beyond eight was answered busy; nothing else was answered.
    assert device.desk.refused.keys() <= {"rate", "busy"}
    assert device.desk.refused["rate"] > 400
    assert device.outbox.depth == 0

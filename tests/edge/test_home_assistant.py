"""When this device is announced to Home Assistant, again, and taken back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.config import HomeAssistantConfig
from edge.home_assistant import HomeAssistant
from edge.messaging import BrokerOptions, Messenger, Outbox
from edge.messaging.connection import Message, open_connection
from edge.messaging.delivery import Notice

TOPIC = "homeassistant/device/barn-7/config"
STATUS = "homeassistant/status"


class Broker:
    """What was published, and whether it is acknowledged."""

    def __init__(self, *, takes: bool = True) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.takes = takes

    def set_notice(self, topic: str, payload: bytes) -> Notice:
        self.sent.append((topic, payload))
        return Notice(payload, taken=self.takes)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., tuple[HomeAssistant, Broker]]:
    """Call for one run of a device after another, on one state folder."""

    def start(*, takes: bool = True, **options: Any) -> tuple[HomeAssistant, Broker]:
        broker = Broker(takes=takes)
        config = HomeAssistantConfig(**options)
        home = HomeAssistant(config, "barn-7", ["pen-3"], tmp_path, broker.set_notice)
        return home, broker

    return start


def said(broker: Broker) -> dict[str, Any]:
    topic, payload = broker.sent[-1]
    assert topic == TOPIC
    return json.loads(payload)["components"]


def test_off_by_default_and_then_nothing_is_said_or_kept(make, tmp_path: Path) -> None:
    home, broker = make()
    home.announce(["cow004"])
    home.close()
    assert (home.handlers, broker.sent, list(tmp_path.iterdir())) == ({}, [], [])


def test_animals_are_opt_in(make) -> None:
    home, broker = make(enabled=True)
    home.announce(["cow004"])
    assert "camera_pen-3" in said(broker)
    assert not [name for name in said(broker) if "cow004" in name]
    home, broker = make(enabled=True, animals=True)
    home.announce(["cow004"])
    assert [name for name in said(broker) if "cow004" in name]


def test_announced_again_when_home_assistant_has_started(make) -> None:
    home, broker = make(enabled=True)
    handler = home.handlers[STATUS]
    handler(Message(STATUS, b"online", False))
    assert broker.sent == []  # nothing is known yet
    home.announce([])
    for payload in (b"offline", b"", b"online"):
        handler(Message(STATUS, payload, False))
    assert len(broker.sent) == 2
    assert broker.sent[0] == broker.sent[1]


def test_switched_off_it_is_taken_back_until_a_broker_has_heard_of_it(make) -> None:
    home, _ = make(enabled=True)
    home.announce([])
    home.close()
    for takes, times in ((False, 1), (True, 1), (True, 0)):
        home, broker = make(takes=takes)
        home.announce([])
        home.close()
        assert broker.sent == [(TOPIC, b"")] * times


def test_another_prefix_leaves_nothing_under_the_old_one(make) -> None:
    home, _ = make(enabled=True)
    home.announce([])
    home, broker = make(enabled=True, prefix="farm/ha")
    home.announce([])
    assert broker.sent[0] == (TOPIC, b"")
    assert broker.sent[1][0] == "farm/ha/device/barn-7/config"
    assert set(home.handlers) == {"farm/ha/status"}


def test_an_animal_that_left_the_herd_leaves_home_assistant(make) -> None:
    home, broker = make(enabled=True, animals=True)
    home.announce(["cow004", "cow009"])
    home.announce(["cow004"])
    assert said(broker)["animal_cow009_camera"] == {"platform": "sensor"}
    home.close()
    home, broker = make(enabled=True, animals=True)
    home.announce(["cow004"])
    assert "animal_cow009_camera" not in said(broker)
    home, broker = make(enabled=True)
    home.announce(["cow004"])
    assert said(broker)["animal_cow004_last_seen"] == {"platform": "sensor"}


def test_who_left_is_taken_back_until_a_broker_has_heard_of_it(make) -> None:
    home, _ = make(enabled=True, animals=True)
    home.announce(["cow004", "cow009"])
    home.close()
    for takes, told in ((False, True), (False, True), (True, True), (True, False)):
        home, broker = make(takes=takes, enabled=True, animals=True)
        home.announce(["cow004"])
        assert ("animal_cow009_camera" in said(broker)) == told
        home.close()
    # Who comes back is nobody to take back.
    home, broker = make(enabled=True, animals=True)
    home.announce(["cow009"])
    assert said(broker)["animal_cow009_camera"] != {"platform": "sensor"}
    assert said(broker)["animal_cow004_camera"] == {"platform": "sensor"}


def test_an_old_prefix_is_cleared_until_a_broker_has_heard_of_it(make) -> None:
    home, _ = make(enabled=True, animals=True)
    home.announce(["cow004"])
    home.close()
    for takes, cleared in ((False, True), (False, True), (True, True), (True, False)):
        home, broker = make(takes=takes, enabled=True, prefix="farm/ha")
        home.announce([])
        home.close()
        assert ((TOPIC, b"") in broker.sent) == cleared
        assert broker.sent[-1][0] == "farm/ha/device/barn-7/config"


def test_back_at_an_old_prefix_nobody_is_left_there(make) -> None:
    home, _ = make(enabled=True, animals=True)
    home.announce(["cow004"])
    home.close()
    home, _ = make(takes=False, enabled=True, prefix="farm/ha")
    home.announce([])
    home.close()
    home, broker = make(enabled=True)
    home.announce([])
    assert broker.sent[0] == ("farm/ha/device/barn-7/config", b"")
    assert said(broker)["animal_cow004_camera"] == {"platform": "sensor"}


def test_switched_off_it_is_taken_back_wherever_it_may_be(make, tmp_path: Path) -> None:
    home, _ = make(enabled=True)
    home.announce([])
    home.close()
    home, _ = make(takes=False, enabled=True, prefix="farm/ha")
    home.announce([])
    home.close()
    home, broker = make()
    home.announce([])
    home.close()
    assert set(broker.sent) == {(TOPIC, b""), ("farm/ha/device/barn-7/config", b"")}
    assert list(tmp_path.iterdir()) == []


def test_an_announcement_that_is_repeated_was_taken_all_the_same(make) -> None:
    home, _ = make(enabled=True, animals=True)
    home.announce(["cow004", "cow009"])
    home.announce(["cow004"])
    home._set_notice = Broker(takes=False).set_notice
    home.handlers[STATUS](Message(STATUS, b"online", False))
    home.close()
    home, broker = make(enabled=True, animals=True)
    home.announce(["cow004"])
    assert "animal_cow009_camera" not in said(broker)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b'{"topic": 1, "components": {}}'])
def test_a_damaged_memory_is_told_and_begun_anew(make, tmp_path: Path, data: bytes, caplog) -> None:
    (tmp_path / "home-assistant.json").write_bytes(data)
    home, broker = make(enabled=True)
    home.announce([])
    assert "what was announced before is not known" in caplog.text
    assert "alarm" in said(broker)
    assert json.loads((tmp_path / "home-assistant.json").read_bytes())["topic"] == TOPIC


@pytest.mark.slow
def test_home_assistant_finds_loses_and_refinds_the_device_at_a_real_broker(
    mosquitto, tmp_path: Path, wait_until
) -> None:
    heard: list[Message] = []
    url = BrokerOptions(mosquitto.url)
    assistant = open_connection(url, "assistant", on_message=heard.append)
    assistant.subscribe("homeassistant/#")

    def run_device(until: int, *, ask: bool = False, **options: Any) -> None:
        """One run of the device, until so many messages in all have come by."""
        with Outbox(tmp_path / "outbox.db") as outbox:
            home = HomeAssistant(
                HomeAssistantConfig(**options),
                "barn-7",
                ["pen-3"],
                tmp_path,
                lambda topic, payload: messenger.set_notice(topic, payload),
            )
            messenger = Messenger(url, "barn-7", "b7", outbox, handlers=home.handlers)
            home.announce(["cow004"])
            messenger.start()
            messenger.wait_connected(20)
            if ask:
                wait_until(lambda: assistant.turn(0.05) is not None and heard)
                assistant.publish(STATUS, b"online", retain=False)
            wait_until(lambda: assistant.turn(0.05) is not None and len(heard) >= until)
            messenger.stop(10)
            home.close()

    # Announced, its own `online`, and announced again.
    run_device(3, ask=True, enabled=True)
    assert [(one.topic, bool(one.payload)) for one in heard] == [
        (TOPIC, True),
        (STATUS, True),
        (TOPIC, True),
    ]
    assert heard[0].payload == heard[2].payload
    late: list[Message] = []
    newcomer = open_connection(url, "newcomer", on_message=late.append)
    newcomer.subscribe("homeassistant/#")
    wait_until(lambda: newcomer.turn(0.05) is not None and late)
    assert (late[0].retained, late[0].payload) == (True, heard[0].payload)

    run_device(4)
    assert (heard[3].topic, heard[3].payload) == (TOPIC, b"")
    assert not (tmp_path / "home-assistant.json").exists()
    for one in (assistant, newcomer):
        one.close()

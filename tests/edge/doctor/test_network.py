"""What the doctor asks a broker, and what it leaves alone there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.config import AgentConfig, BrokerConfig, CameraConfig
from edge.doctor.network import broker as ask_broker
from edge.messaging import BrokerOptions, Outbox
from edge.messaging.connection import Connection, Message
from edge.messaging.local_broker import Mosquitto
from edge.messaging.login import MQTT_5, MQTT_311

COMMAND = "earmark/v1/barn-7/down/command"
SESSION_S = 3600

pytestmark = pytest.mark.slow


@pytest.fixture
def kit(start_mosquitto: Callable[..., Mosquitto]) -> Mosquitto:
    """A broker that takes the login for the client id, as the one of docs/broker.md does."""
    return start_mosquitto("use_username_as_clientid true")


def config(url: str, folder: Path, **broker: Any) -> AgentConfig:
    return AgentConfig(
        bundle="b",
        cameras=[CameraConfig(name="pen", source="x")],
        device="barn-7",
        state_dir=str(folder),
        broker=BrokerConfig(url=url, **broker),
    )


def as_device(url: str, protocol: int, heard: list[Message]) -> Connection:
    return Connection(
        BrokerOptions(url, username="barn-7"),
        "barn-7",
        protocol,
        session_expiry_s=SESSION_S,
        on_message=heard.append,
    )


def send_command(url: str) -> None:
    office = Connection(BrokerOptions(url, username="office"), "office", MQTT_5)
    office.publish(COMMAND, b"{}", retain=False)
    while not office.turn(1.0):
        pass
    office.close()


@pytest.mark.parametrize("protocol", [MQTT_5, MQTT_311])
def test_commands_that_wait_for_the_agent_still_do_after_the_doctor(
    kit: Mosquitto, tmp_path: Path, wait_until: Callable[..., None], protocol: int
) -> None:
    agent = as_device(kit.url, protocol, [])
    agent.subscribe(COMMAND)
    agent.close()
    send_command(kit.url)
    levels = [v.level for v in ask_broker(config(kit.url, tmp_path, username="barn-7"))]
    assert levels == ["ok", "ok"]
    heard: list[Message] = []
    agent = as_device(kit.url, protocol, heard)
    wait_until(lambda: agent.turn(0.05) is not None and heard)
    assert [message.topic for message in heard] == [COMMAND]
    agent.close()


def test_an_agent_that_runs_is_not_thrown_out(kit: Mosquitto, tmp_path: Path) -> None:
    heard: list[Message] = []
    agent = as_device(kit.url, MQTT_5, heard)
    agent.subscribe(COMMAND)
    with Outbox(tmp_path / "outbox.db"):
        (verdict,) = ask_broker(config(kit.url, tmp_path, username="barn-7"))
    assert verdict.level == "warn"
    assert "not asked; an agent runs" in verdict.text
    # The line stands: what is sent now arrives on it.
    send_command(kit.url)
    while not heard:
        agent.turn(1.0)
    agent.close()


@pytest.mark.parametrize("username", [None, "barns"])
def test_with_a_login_of_many_it_asks_beside_the_agent(
    mosquitto: Mosquitto, tmp_path: Path, username: str | None
) -> None:
    with Outbox(tmp_path / "outbox.db"):
        verdicts = list(ask_broker(config(mosquitto.url, tmp_path, username=username)))
    assert [verdict.level for verdict in verdicts] == ["ok", "ok"]


def test_a_certificate_is_the_devices_own_login(tmp_path: Path) -> None:
    settings = config("mqtts://barn.example", tmp_path, ca_file="ca.pem", cert_file="device.pem")
    with Outbox(tmp_path / "outbox.db"):
        (verdict,) = ask_broker(settings)
    assert "not asked" in verdict.text

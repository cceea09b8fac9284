"""What a device listens to by its settings, and what of a run the next one knows."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import edge.correspondence
from edge.config import (
    AgentConfig,
    BrokerConfig,
    CameraConfig,
    CommandsConfig,
    HomeAssistantConfig,
    OutboxConfig,
)
from edge.correspondence import Correspondence
from edge.messaging import Outbox
from edge.messaging.commands import REFUSED, NoArguments, Order, Outcome
from edge.messaging.connection import Message
from edge.messaging.events import Reply, timestamp
from edge.messaging.local_broker import free_port

COMMAND = "earmark/v1/barn-7/down/command"


class FakeMessenger:
    def __init__(self, *given: Any, handlers: dict[str, Any], **options: Any) -> None:
        self.handlers = handlers
        self.options = options
        self.replies: list[Reply] = []
        self.alarms: list[tuple[str, str]] = []
        self.stopped: list[float] = []

    def reply(self, reply: Reply, correlation: bytes | None) -> None:
        self.replies.append(reply)

    def alarm(self, kind: str, text: str) -> None:
        self.alarms.append((kind, text))

    def stop(self, timeout_s: float) -> int:
        self.stopped.append(timeout_s)
        return 3


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge.correspondence, "Messenger", FakeMessenger)


def make(folder: Path, done: list[str] | None = None, **changes: Any) -> Any:
    config = AgentConfig(
        bundle="b",
        cameras=[CameraConfig(name="pen", source="x")],
        device="barn-7",
        broker=BrokerConfig(url=f"mqtt://127.0.0.1:{free_port()}"),
        **changes,
    )

    def restart(order: Order) -> Outcome:
        if done is not None:
            done.append(order.id)
        return Outcome()

    outbox: Any = Outbox  # never opened here
    return Correspondence(
        config,
        "b7",
        folder,
        outbox,
        {"restart": restart},
        wake=lambda: None,
        hear=lambda text: None,
    )


def test_events_go_as_the_settings_say(tmp_path):
    letters = make(tmp_path, outbox=OutboxConfig(ack="ingest", gather_s=0.5))
    assert letters.messenger.options == {"ack": "ingest", "drain_per_s": 200, "gather_s": 0.5}


def command(number: str, name: str = "restart", **args: Any) -> Message:
    said = {
        "schema": 1,
        "id": number,
        "name": name,
        "args": args,
        "not_after": timestamp(datetime.now(UTC) + timedelta(minutes=1)),
    }
    return Message(COMMAND, json.dumps(said).encode(), False, expires_s=60)


def test_it_listens_to_what_the_settings_allow(tmp_path: Path) -> None:
    assert set(make(tmp_path).messenger.handlers) == {COMMAND}
    assert make(tmp_path, commands=CommandsConfig(enabled=False)).messenger.handlers == {}
    at_home = make(tmp_path, home_assistant=HomeAssistantConfig(enabled=True))
    assert set(at_home.messenger.handlers) == {COMMAND, "homeassistant/status"}


def test_pictures_are_refused_unless_allowed(tmp_path: Path) -> None:
    letters = make(tmp_path)
    letters.messenger.handlers[COMMAND](command("n1", "snapshot"))
    assert [reply.error for reply in letters.messenger.replies] == ["not-allowed"]
    assert letters.messenger.alarms[0][0] == "refused-command"
    assert letters.commands.refused["not-allowed"] == 1
    allowed = make(tmp_path, commands=CommandsConfig(snapshots=True))
    allowed.messenger.handlers[COMMAND](command("n1", "snapshot"))
    assert allowed.commands.taken == 1
    assert sum(allowed.commands.refused.values()) == 0


def test_commands_are_counted_by_what_became_of_them(tmp_path: Path) -> None:
    letters = make(tmp_path)
    receive = letters.messenger.handlers[COMMAND]
    for _ in range(2):
        receive(command("n1"))
    receive(command("n2", "feed"))
    receive(command("n3", "set_log_level", level="loud"))
    receive(command("n4", "set_log_level"))
    receive(replace(command("n5"), retained=True))
    receive(Message(COMMAND, b"{", False))
    numbers = letters.commands
    assert (numbers.taken, numbers.repeated) == (1, 1)
    assert numbers.refused == {
        **dict.fromkeys(REFUSED, 0),
        "unknown-command": 1,
        "bad-arguments": 2,
    }
    assert numbers.ignored == {"retained": 1, "malformed": 1, "oversize": 0, "rate": 0}


def test_commands_that_nobody_has_time_for_are_taken_and_put_off(tmp_path: Path) -> None:
    letters = make(tmp_path)
    for number in range(12):
        letters.messenger.handlers[COMMAND](command(f"n{number}"))
    numbers = letters.commands
    # Ten at once, eight wait; who is slow here earns one more for each second.
    assert numbers.taken >= 10
    assert numbers.refused["busy"] == numbers.taken - 8
    assert numbers.ignored["rate"] == 12 - numbers.taken


def test_a_restart_that_is_delivered_again_is_answered_and_not_done(tmp_path: Path) -> None:
    done: list[str] = []
    first = make(tmp_path, done)
    first.messenger.handlers[COMMAND](command("n1"))
    first.work()
    first.note_restart(Order("n1", "restart", NoArguments()))
    assert done == ["n1"]
    second = make(tmp_path, done)
    second.messenger.handlers[COMMAND](command("n1"))
    second.work()
    assert done == ["n1"]
    assert [(one.id, one.ok) for one in second.messenger.replies] == [("n1", True)]
    second.messenger.handlers[COMMAND](command("n2"))
    second.work()
    assert done == ["n1", "n2"]


def test_a_disk_that_takes_nothing_prevents_no_restart(tmp_path: Path, caplog) -> None:
    letters = make(tmp_path / "none")
    (tmp_path / "none").write_text("a file where the folder should be")
    letters.note_restart(Order("n1", "restart", NoArguments()))
    assert "last-restart" in caplog.text


def test_at_the_end_what_waits_is_answered_before_the_messenger_stops(tmp_path: Path) -> None:
    letters = make(tmp_path)
    letters.messenger.handlers[COMMAND](command("n1"))
    assert letters.close(2.5) == 3
    assert [reply.error for reply in letters.messenger.replies] == ["busy"]
    assert letters.messenger.stopped == [2.5]

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from rich.console import Console

from deploy.fleet.status import Fleet, as_json, table
from edge.messaging.broker import BrokerOptions
from edge.messaging.connection import open_connection
from edge.messaging.events import (
    SCHEMA,
    Availability,
    OutboxState,
    StateReport,
    UpdateReport,
    encode,
)
from edge.messaging.local_broker import Mosquitto

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def availability(device: str, status: str) -> tuple[str, bytes]:
    said = Availability(schema=SCHEMA, device=device, status=status, boot="b7")
    return f"earmark/v1/{device}/up/availability", encode(said)


def state(device: str, **changes: object) -> tuple[str, bytes]:
    fields: dict[str, object] = {
        "agent": "0.1.0",
        "release": "9f31aa",
        "means_seq": 57,
        "backend": "edgetpu",
        "degraded": False,
        "cameras": {},
        "clock": "synced",
        "at": "2026-11-24T09:30:00.000Z",
        "disk_free_mb": 12340,
        "schema": SCHEMA,
        "device": device,
        "boot": "b7",
        "protocol": "5",
        "outbox": OutboxState(depth=3, oldest=None, lost=0, set_aside=0),
    }
    return f"earmark/v1/{device}/up/state", encode(StateReport(**{**fields, **changes}))


def update(device: str, phase: str, **changes: object) -> tuple[str, bytes]:
    report = UpdateReport(
        schema=SCHEMA,
        device=device,
        rev=7,
        phase=phase,
        release="547b5c32bf92-4",
        assignment=4,
        means=57,
        clock="synced",
        **changes,
    )
    return f"earmark/v1/{device}/up/update", encode(report)


def fleet(*messages: tuple[str, bytes]) -> Fleet:
    seen = Fleet()
    for topic, data in messages:
        seen.observe(topic, data)
    return seen


def drawn(seen: Fleet) -> dict[str, str]:
    """The table's lines by device, spaces once."""
    console = Console(width=200)
    with console.capture() as captured:
        console.print(table(seen, NOW))
    lines = [" ".join(line.split()) for line in captured.get().splitlines()]
    return {line.split()[1]: line for line in lines if line.startswith("│")}


def test_a_device_on_a_line():
    seen = fleet(availability("barn-7", "online"), state("barn-7"), update("barn-7", "idle"))
    assert drawn(seen)["barn-7"] == (
        "│ barn-7 │ online │ 547b5c32bf92-4 │ edgetpu │ 57 │ now │ 3 │ 12.3 GB │ idle │"
    )


def test_what_is_wrong_stands_out():
    lost = OutboxState(depth=70_000, oldest=None, lost=120, set_aside=0)
    seen = fleet(
        availability("barn-7", "offline"),
        state("barn-7", degraded=True, outbox=lost, disk_free_mb=90, backend="cpu"),
        update(
            "barn-7",
            "rolled_back",
            candidate="77aa00112233-5",
            reason="crashed",
            at="2026-11-24T09:40:00.000Z",
        ),
    )
    line = drawn(seen)["barn-7"]
    for text in (
        *("offline", "cpu degraded", "2 h ago", "70000 120 lost", "0.1 GB"),
        "rolled_back 77aa00112233-5 (crashed)",
    ):
        assert text in line


def test_what_a_device_has_not_told_is_not_made_up():
    seen = fleet(availability("barn-7", "stopped"), update("barn-8", "downloading", progress=0.4))
    assert drawn(seen)["barn-7"] == "│ barn-7 │ stopped │ – │ – │ – │ – │ – │ – │ – │"
    assert "downloading 40%" in drawn(seen)["barn-8"]
    rows = json.loads(as_json(seen))
    assert rows[0]["release"] is None
    assert (rows[1]["device"], rows[1]["status"], rows[1]["progress"]) == ("barn-8", None, 0.4)


def test_rubbish_is_counted_and_does_not_steer_the_terminal():
    topic, data = availability("barn-7", "online")
    seen = fleet(
        (topic, data),
        (topic, b"{}"),
        (topic.replace("barn-7", "barn-8"), data),
        state("barn-7", backend="cpu\x1b[2J"),
    )
    assert seen.bad.total() == 2
    assert "\x1b" not in drawn(seen)["barn-7"]
    console = Console(width=200)
    with console.capture() as captured:
        console.print(table(seen, NOW))
    assert "2 messages ignored: 1 bad availability payloads" in captured.get()


@pytest.mark.slow
def test_the_broker_is_asked_for_all_that_it_keeps(
    mosquitto: Mosquitto, deploy: Callable[..., object]
):
    connection = open_connection(BrokerOptions(mosquitto.url), "publisher")
    names = [f"barn-{n:03}" for n in range(120)]
    tickets = set()
    for name in names:
        for message in (availability(name, "online"), state(name), update(name, "idle")):
            tickets.add(connection.publish(*message, retain=True))
    while tickets:
        tickets -= {ack.ticket for ack in connection.turn(1.0)}
    connection.close()
    done = deploy("status", "--broker", mosquitto.url, "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["device"] for row in rows] == names
    assert {row["update"] for row in rows} == {"idle"}
    assert {row["disk_free_mb"] for row in rows} == {12340}
    shown = deploy("status", "--broker", mosquitto.url)
    assert shown.returncode == 0
    assert "120 devices: 120 online" in shown.stdout


@pytest.mark.slow
def test_a_broker_that_is_away_is_one_line(deploy):
    done = deploy("status", "--broker", "mqtt://127.0.0.1:9")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1

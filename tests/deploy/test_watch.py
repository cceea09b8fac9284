"""`earmark-deploy watch` as its own process against a real mosquitto."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from edge.messaging.broker import BrokerOptions
from edge.messaging.connection import Connection, open_connection
from edge.messaging.local_broker import Mosquitto

pytestmark = pytest.mark.slow
COMMAND = [sys.executable, "-c", "from deploy.cli import entry; entry()", "watch"]
TOPIC = "earmark/v1/barn-7/up/availability"


def said(status: str, device: str = "barn-7") -> bytes:
    return json.dumps({"schema": 1, "device": device, "status": status, "boot": "b"}).encode()


def send(connection: Connection, topic: str, payload: bytes, retain: bool = False) -> None:
    ticket = connection.publish(topic, payload, retain=retain)
    while ticket not in [ack.ticket for ack in connection.turn(1.0)]:
        pass


@pytest.fixture
def publisher(mosquitto: Mosquitto) -> Iterator[Connection]:
    connection = open_connection(BrokerOptions(mosquitto.url), "publisher")
    yield connection
    connection.close()


@pytest.fixture
def watch() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        processes.append(
            subprocess.Popen(
                [*COMMAND, *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                # A suite that a shell runs in the background has SIGINT ignored; Ctrl-C is asked.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        )
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_json_lines_are_what_was_published_and_rubbish_is_counted(mosquitto, publisher, watch):
    send(publisher, TOPIC, said("online"), retain=True)
    process = watch("--broker", mosquitto.url, "--json")
    # The retained message comes first, and says that the subscription stands.
    first = json.loads(process.stdout.readline())
    assert (first["topic"], first["retained"]) == (TOPIC, True)
    assert first["payload"]["status"] == "online"
    send(publisher, TOPIC, b"\xff rubbish")
    send(publisher, TOPIC, said("stopped", device="barn-8"))
    send(publisher, TOPIC, said("stopped"))
    second = json.loads(process.stdout.readline())
    assert (second["payload"]["status"], second["retained"]) == ("stopped", False)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "")
    assert error.startswith("2 messages ignored")


def test_one_device_only_for_some_seconds(mosquitto, publisher, watch):
    send(publisher, TOPIC, said("online"), retain=True)
    other = TOPIC.replace("barn-7", "barn-8")
    send(publisher, other, said("online", "barn-8"), retain=True)
    process = watch("--broker", mosquitto.url, "--json", "--device", "barn-8", "--for", "1")
    out, error = process.communicate(timeout=30)
    assert (process.returncode, error) == (0, "")
    assert [json.loads(line)["payload"]["device"] for line in out.splitlines()] == ["barn-8"]


@pytest.mark.parametrize("device", [[], ["--device", "barn-7"]])
def test_what_is_said_to_devices_and_by_their_doctors_is_none_of_its_business(
    mosquitto, publisher, watch, device
):
    send(publisher, TOPIC, said("online"), retain=True)
    for leaf in ("down/ingest", "down/hint"):
        send(publisher, f"earmark/v1/barn-7/{leaf}", b"{}", retain=True)
    process = watch("--broker", mosquitto.url, "--json", *device)
    process.stdout.readline()
    for leaf in ("down/command", "down/ingest", "up/doctor"):
        send(publisher, f"earmark/v1/barn-7/{leaf}", b"{}")
    send(publisher, TOPIC, said("stopped"))
    assert json.loads(process.stdout.readline())["payload"]["status"] == "stopped"
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=20)
    assert (process.returncode, out, error) == (0, "", "")


def test_without_a_terminal_the_table_is_printed_once(mosquitto, publisher, watch):
    send(publisher, TOPIC, said("online"), retain=True)
    out, error = watch("--broker", mosquitto.url, "--for", "1").communicate(timeout=30)
    assert out.count("confidence") == 1
    assert "barn-7 online" in out
    assert error == ""


def test_a_reader_that_has_had_enough_ends_it_quietly(mosquitto, publisher, watch):
    send(publisher, TOPIC, said("online"), retain=True)
    process = watch("--broker", mosquitto.url, "--json")
    process.stdout.readline()
    process.stdout.close()
    send(publisher, TOPIC, said("stopped"))
    assert process.wait(timeout=20) == 0
    assert process.stderr.read() == ""


def test_it_outlives_a_restart_of_the_broker(mosquitto, publisher, watch):
    send(publisher, TOPIC, said("online"), retain=True)
    process = watch("--broker", mosquitto.url, "--json")
    process.stdout.readline()
    mosquitto.stop()
    assert "trying again" in process.stderr.readline()
    mosquitto.start()
    again = open_connection(BrokerOptions(mosquitto.url), "publisher")
    send(again, TOPIC, said("stopped"), retain=True)
    assert json.loads(process.stdout.readline())["payload"]["status"] == "stopped"
    again.close()


def test_a_refusal_is_one_line_and_code_1(start_mosquitto, watch):
    broker = start_mosquitto(anonymous=False)
    process = watch("--broker", broker.url)
    out, error = process.communicate(timeout=20)
    assert (process.returncode, out) == (1, "")
    assert error.startswith(f"earmark-deploy: error: broker 127.0.0.1:{broker.port}: not author")
    assert error.count("\n") == 1

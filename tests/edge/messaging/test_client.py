"""The messenger against a real mosquitto, seen by a real mosquitto_sub."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from edge.messaging import BrokerOptions, BrokerRefused, BrokerUnreachable, Messenger, Outbox
from edge.messaging.connection import Connection, Message, open_connection
from edge.messaging.discovery import ALARM_KINDS
from edge.messaging.events import (
    CameraState,
    DeviceState,
    LastSeen,
    Sighting,
    StateReport,
    decode,
)
from edge.messaging.local_broker import free_port, local_broker
from edge.messaging.topics import Topics

ANIMALS = ("cow001", "cow002", "cow003")


class Device:
    """A messenger with its outbox, and everything it stored and complained of."""

    def __init__(self, folder: Path, broker: BrokerOptions, boot: str = "b7", **options) -> None:
        limits = {key: options.pop(key) for key in list(options) if key.startswith("limit_")}
        self.outbox = Outbox(folder / "outbox.db", **limits)
        self.problems: list[str] = []
        self.stored: list[Sighting] = []
        append = self.outbox.append

        def recording_append(events):
            stored = append(events)
            self.stored += stored
            return stored

        self.outbox.append = recording_append  # type: ignore[method-assign]
        self.messenger = Messenger(
            broker, "barn-7", boot, self.outbox, self.problems.append, **options
        )

    def close(self) -> None:
        self.messenger.stop(0)
        self.outbox.close()


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Callable[..., Device]]:
    devices: list[Device] = []

    def make(broker: str | BrokerOptions, **options) -> Device:
        if isinstance(broker, str):
            broker = BrokerOptions(broker)
        devices.append(Device(tmp_path, broker, **options))
        return devices[-1]

    yield make
    for one in devices:
        one.close()


def some_events(make_event: Callable[..., Sighting], count: int) -> list[Sighting]:
    return [make_event(track=n, animal=ANIMALS[n % len(ANIMALS)]) for n in range(count)]


@pytest.mark.slow
def test_every_sighting_arrives_exactly_as_in_the_outbox(
    device, mosquitto, subscribe, make_event, wait_until
):
    subscriber = subscribe(mosquitto.port)
    barn = device(mosquitto.url)
    barn.messenger.start()
    barn.messenger.wait_connected(10)
    assert (barn.messenger.connected, barn.messenger.protocol) == (True, 5)
    for start in range(0, 500, 50):
        barn.messenger.publish(some_events(make_event, 500)[start : start + 50])
    assert barn.messenger.stop(30) == 0
    wait_until(lambda: len(subscriber.payloads("sighting")) >= 500)
    assert [decode(data, Sighting) for data in subscriber.payloads("sighting")] == barn.stored
    assert [event.seq for event in barn.stored] == list(range(1, 501))
    wait_until(lambda: len(subscriber.payloads("availability")) == 2)
    said = [json.loads(data) for data in subscriber.payloads("availability")]
    assert [(one["status"], one["boot"]) for one in said] == [("online", "b7"), ("stopped", "b7")]
    assert barn.problems == []
    assert not barn.messenger.connected


def test_the_outbox_of_another_device_is_told_and_nothing_of_it_is_sent(tmp_path, make_event):
    with Outbox(tmp_path / "outbox.db", device="barn-7") as outbox:
        outbox.append([make_event(), make_event()])
    problems: list[str] = []
    broker = BrokerOptions(f"mqtt://127.0.0.1:{free_port()}")
    with Outbox(tmp_path / "outbox.db", device="barn-8") as outbox:
        messenger = Messenger(broker, "barn-8", "b8", outbox, problems.append)
        messenger.start()
        assert messenger.stop(0) == 0
        (alarm,) = messenger._mailbox.alarms
    assert alarm.kind == "outbox-of-another"
    assert alarm.kind in ALARM_KINDS
    assert alarm.text == problems[0]
    assert "'barn-7', with 2 events that wait" in alarm.text


@pytest.mark.slow
def test_whom_a_run_that_crashed_left_present_the_next_one_corrects(
    device, mosquitto, subscribe, make_event, wait_until
):
    first = device(mosquitto.url, boot="b7")
    first.messenger.start()
    first.messenger.wait_connected(10)
    first.messenger.publish([make_event(type="start", boot="b7")])
    # No end, as with a process that was killed.
    assert first.messenger.stop(10) == 0
    first.outbox.close()
    subscriber = subscribe(mosquitto.port)
    wait_until(lambda: subscriber.payloads("animal/cow004"))
    second = device(mosquitto.url, boot="b8")
    second.messenger.start()
    second.messenger.wait_connected(10)
    wait_until(lambda: len(subscriber.payloads("animal/cow004")) == 2)
    words = [decode(data, LastSeen) for data in subscriber.payloads("animal/cow004")]
    assert [(word.present, word.boot, word.seq) for word in words] == [
        (True, "b7", 1),
        (False, "b7", 1),
    ]
    wait_until(lambda: not second.outbox.present)


@pytest.mark.slow
def test_who_subscribes_later_finds_state_animals_and_availability(
    device, mosquitto, subscribe, make_event, wait_until
):
    barn = device(mosquitto.url)
    barn.messenger.set_state(
        DeviceState(
            agent="0.1.0",
            release="9f31",
            means_seq=57,
            backend="cpu",
            degraded=False,
            cameras={"pen-3": CameraState(status="up", fps=11.5)},
            clock="synced",
            temperature=51.5,
        )
    )
    barn.messenger.start()
    barn.messenger.publish([*some_events(make_event, 3), make_event(animal=None, reason="unsure")])
    assert barn.messenger.stop(10) == 0
    subscriber = subscribe(mosquitto.port)
    wait_until(lambda: len(subscriber.messages) == 5)
    assert all(message.retained for message in subscriber.messages)
    for animal, event in zip(ANIMALS, barn.stored[:3], strict=True):
        (data,) = subscriber.payloads(f"animal/{animal}")
        seen = decode(data, LastSeen)
        assert (seen.seq, seen.present, seen.box) == (event.seq, True, event.box)
    report = decode(subscriber.payloads("state")[0], StateReport)
    assert (report.protocol, report.outbox.depth, report.temperature) == ("5", 0, 51.5)
    assert report.cameras["pen-3"].fps == 11.5
    assert json.loads(subscriber.payloads("availability")[0])["status"] == "stopped"


@pytest.mark.slow
def test_events_of_an_earlier_run_arrive_replayed_and_first(
    device, mosquitto, subscribe, make_event, wait_until
):
    nobody = f"mqtt://127.0.0.1:{free_port()}"
    early = device(nobody, boot="b1")
    early.messenger.start()
    early.messenger.publish(some_events(make_event, 3))
    assert early.messenger.stop(0) == 3
    early.outbox.close()
    subscriber = subscribe(mosquitto.port)
    late = device(mosquitto.url, boot="b2")
    late.messenger.start()
    late.messenger.wait_connected(10)
    late.messenger.publish([make_event(boot="b2")])
    assert late.messenger.stop(10) == 0
    wait_until(lambda: len(subscriber.payloads("sighting")) == 4)
    received = [decode(data, Sighting) for data in subscriber.payloads("sighting")]
    assert [event.replayed for event in received] == [True, True, True, False]
    assert [msgspec.structs.replace(event, replayed=False) for event in received] == [
        *early.stored,
        *late.stored,
    ]


@pytest.mark.slow
def test_a_broker_that_restarts_in_the_middle_gets_everything_in_order(
    device, start_mosquitto, subscribe, make_event, wait_until, tmp_path
):
    folder = tmp_path / "broker"
    folder.mkdir()
    broker = start_mosquitto("persistence true", f"persistence_location {folder}/")
    # A session that outlives the broker, so that nothing is missed while it is away.
    subscriber = subscribe(broker.port, "-V", "5", "-i", "reader", "-c", "-x", "3600")
    barn = device(broker.url)
    barn.messenger.start()
    barn.messenger.wait_connected(10)
    barn.messenger.publish(some_events(make_event, 100))
    wait_until(lambda: len(subscriber.payloads("sighting")) >= 50)
    broker.stop()
    wait_until(lambda: not barn.messenger.connected)
    barn.messenger.publish(some_events(make_event, 100))
    broker.start()
    wait_until(lambda: barn.messenger.connected, 30)
    barn.messenger.publish(some_events(make_event, 100))
    assert barn.messenger.stop(30) == 0
    wait_until(
        lambda: any(decode(data, Sighting).seq == 300 for data in subscriber.payloads("sighting")),
        30,
    )
    received = [decode(data, Sighting).seq for data in subscriber.payloads("sighting")]
    # At least once: after deduplication everything is there, in order.
    assert list(dict.fromkeys(received)) == list(range(1, 301))
    assert sum("broker" in line for line in barn.problems) >= 1


KILLED = """
import sys, time
from pathlib import Path
from edge.messaging import BrokerOptions, Messenger, Outbox

outbox = Outbox(Path(sys.argv[2]))
messenger = Messenger(BrokerOptions(sys.argv[1]), "barn-7", "b8", outbox, will_delay_s=1)
messenger.start()
messenger.wait_connected(10)
print("connected", flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_the_broker_says_offline_for_a_device_that_was_killed(
    mosquitto, subscribe, wait_until, tmp_path
):
    subscriber = subscribe(mosquitto.port)
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, mosquitto.url, str(tmp_path / "outbox.db")],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"connected\n"
    wait_until(lambda: subscriber.payloads("availability"))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    wait_until(lambda: len(subscriber.payloads("availability")) == 2, 20)
    said = [json.loads(data) for data in subscriber.payloads("availability")]
    assert [(one["status"], one["boot"]) for one in said] == [("online", "b8"), ("offline", "b8")]


@pytest.mark.slow
def test_a_refused_login_is_one_line_at_once_and_loses_nothing(
    device, start_mosquitto, make_event, tmp_path
):
    broker = start_mosquitto(anonymous=False)
    barn = device(BrokerOptions(broker.url, username="barn-7", password="hunter2"))
    barn.messenger.start()
    barn.messenger.publish(some_events(make_event, 3))
    begin = time.monotonic()
    with pytest.raises(BrokerRefused) as caught:
        barn.messenger.wait_connected(60)
    assert time.monotonic() - begin < 10
    line = str(caught.value)
    assert f"127.0.0.1:{broker.port}" in line
    assert "'barn-7'" in line
    assert "check user" in line
    assert "\n" not in line
    assert barn.messenger.stop(0) == 3
    assert "hunter2" not in line + "".join(barn.problems)
    assert barn.problems == [line]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("mosquitto_passwd") is None, reason="no mosquitto_passwd")
def test_the_right_login_is_let_in(device, start_mosquitto, make_event, tmp_path):
    passwords = tmp_path / "passwords"
    subprocess.run(
        ["mosquitto_passwd", "-c", "-b", str(passwords), "barn-7", "hunter2"], check=True
    )
    broker = start_mosquitto(f"password_file {passwords}", anonymous=False)
    barn = device(BrokerOptions(broker.url, username="barn-7", password="hunter2"))
    barn.messenger.start()
    barn.messenger.wait_connected(10)
    barn.messenger.publish(some_events(make_event, 3))
    assert barn.messenger.stop(10) == 0


@pytest.mark.slow
def test_a_publish_that_the_rules_forbid_stays_in_the_outbox(
    device, start_mosquitto, make_event, wait_until, tmp_path
):
    rules = tmp_path / "rules"
    rules.write_text("topic write earmark/v1/barn-7/up/availability\n")
    broker = start_mosquitto(f"acl_file {rules}")
    barn = device(broker.url)
    barn.messenger.start()
    barn.messenger.wait_connected(10)
    barn.messenger.publish(some_events(make_event, 3))
    wait_until(lambda: any("up/sighting" in line for line in barn.problems))
    assert barn.messenger.stop(1) == 3


@pytest.mark.slow
def test_a_narrow_window_and_a_small_packet_limit_are_kept(
    device, start_mosquitto, subscribe, make_event, wait_until
):
    broker = start_mosquitto("max_inflight_messages 2", "max_packet_size 1500")
    subscriber = subscribe(broker.port, "-V", "311")
    barn = device(broker.url)
    barn.messenger.start()
    barn.messenger.wait_connected(10)
    votes = {f"animal-{n:04}": n for n in range(100)}
    barn.messenger.publish([*some_events(make_event, 50), make_event(votes=votes)])
    barn.messenger.publish(some_events(make_event, 50))
    assert barn.messenger.stop(30) == 0
    wait_until(lambda: len(subscriber.payloads("sighting")) == 100)
    received = [decode(data, Sighting).seq for data in subscriber.payloads("sighting")]
    assert received == [*range(1, 51), *range(52, 102)]
    assert barn.outbox.aside == 1


@pytest.mark.slow
def test_what_a_full_outbox_dropped_is_told(device, mosquitto, subscribe, make_event, wait_until):
    subscriber = subscribe(mosquitto.port)
    barn = device(mosquitto.url, limit_rows=10)
    barn.messenger.publish(some_events(make_event, 25))
    barn.messenger.start()
    assert barn.messenger.stop(10) == 0
    wait_until(lambda: len(subscriber.payloads("sighting")) == 10 and subscriber.payloads("alarm"))
    alarm = json.loads(subscriber.payloads("alarm")[0])
    assert alarm["gap"] == {"stream": barn.outbox.stream, "first": 1, "last": 15, "lost": 15}


@pytest.mark.slow
def test_tls_needs_a_trusted_certificate(device, start_mosquitto, make_event, tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    command += " -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out certificate.pem"
    subprocess.run(command.split(), check=True, capture_output=True, cwd=tmp_path)
    broker = start_mosquitto(f"certfile {certificate}", f"keyfile {key}")
    url = f"mqtts://127.0.0.1:{broker.port}"
    barn = device(BrokerOptions(url, ca_file=certificate))
    barn.messenger.start()
    barn.messenger.wait_connected(10)
    barn.messenger.publish(some_events(make_event, 200))
    assert barn.messenger.stop(10) == 0
    barn.outbox.close()
    stranger = device(BrokerOptions(url))
    stranger.messenger.start()
    with pytest.raises(BrokerRefused, match="not trusted"):
        stranger.messenger.wait_connected(10)


@pytest.mark.slow
def test_over_amqtt_it_is_mqtt_3_1_1_and_says_so(device, make_event):
    received: list[tuple[str, bytes]] = []
    with local_broker("amqtt") as (url, name):
        assert name.startswith("amqtt ")
        reader = open_reader(url, received)
        barn = device(url)
        barn.messenger.start()
        barn.messenger.wait_connected(20)
        assert barn.messenger.protocol == 4
        assert "3.1.1" in barn.problems[0]
        barn.messenger.publish(some_events(make_event, 100))
        assert barn.messenger.stop(20) == 0
        deadline = time.monotonic() + 10
        while sum(topic.endswith("/up/sighting") for topic, _ in received) < 100:
            assert time.monotonic() < deadline
            reader.turn(0.1)
        reader.close()
    sightings = [decode(data, Sighting) for topic, data in received if topic.endswith("/sighting")]
    assert sightings == barn.stored


def open_reader(url: str, received: list[tuple[str, bytes]]) -> Connection:
    connection = open_connection(
        BrokerOptions(url),
        "reader",
        on_message=lambda message: received.append((message.topic, message.payload)),
    )
    connection.subscribe("earmark/v1/#")
    return connection


def test_nobody_there_is_told_when_the_time_is_up(device, make_event):
    port = free_port()
    barn = device(f"mqtt://127.0.0.1:{port}")
    barn.messenger.start()
    with pytest.raises(BrokerUnreachable, match=f"127.0.0.1:{port}: nothing listens"):
        barn.messenger.wait_connected(0.2)
    assert (barn.messenger.connected, barn.messenger.protocol) == (False, None)
    barn.messenger.publish(some_events(make_event, 2))
    begin = time.monotonic()
    assert barn.messenger.stop(0.2) == 2
    assert time.monotonic() - begin < 2


def test_the_same_failure_is_told_once(device, wait_until):
    barn = device(f"mqtt://127.0.0.1:{free_port()}")
    attempts = []
    barn.messenger._connect = lambda: (
        attempts.append(1)
        or (_ for _ in ()).throw(  # type: ignore[method-assign]
            BrokerUnreachable("broker: away")
        )
    )
    barn.messenger.start()
    wait_until(lambda: len(attempts) >= 3)
    assert barn.problems == ["broker: away"]


def test_stopping_what_never_started_is_quiet(device, make_event):
    barn = device("mqtt://127.0.0.1")
    barn.messenger.publish(some_events(make_event, 2))
    assert barn.messenger.stop(5) == 2


def test_an_event_that_cannot_be_stored_is_a_problem_and_no_crash(device, make_event, wait_until):
    barn = device("mqtt://127.0.0.1")
    votes = {f"animal-{n:05}": 1 for n in range(2000)}
    barn.messenger.publish([make_event(votes=votes)])
    wait_until(lambda: barn.problems)
    assert "size limit" in barn.problems[0]
    barn.outbox.close()
    barn.messenger.publish([make_event()])
    wait_until(lambda: len(barn.problems) == 2)
    assert "closed already" in barn.problems[1]
    assert barn.messenger._intake.depth == 1


@pytest.mark.slow
def test_what_is_sent_down_reaches_its_handler_again_after_a_reconnect(device, wait_until):
    heard: list[Message] = []
    below: list[Message] = []

    def fail(message: Message) -> None:
        # Marked although the device was connected when it was published.
        raise ValueError(f"no good, retained: {message.retained}")

    with local_broker("mosquitto") as (url, _):
        topics = Topics("barn-7")
        barn = device(
            url,
            handlers={
                topics.command: heard.append,
                topics.hint: fail,
                f"{topics.repo}/#": below.append,
            },
        )
        barn.messenger.start()
        barn.messenger.wait_connected(20)
        sender = open_connection(BrokerOptions(url), "sender")
        sender.publish(topics.command, b"one", retain=False)
        sender.publish(topics.hint, b"kept", retain=True)
        # Nobody asked for this one.
        sender.publish(topics.ingest, b"{}", retain=False)
        sender.publish(f"{topics.repo}/metadata/1.root.json", b"\x00\xff", retain=True)
        while not heard:
            sender.turn(0.1)
        assert (heard[0].topic, heard[0].payload, heard[0].retained) == (
            topics.command,
            b"one",
            False,
        )
        assert heard[0].expires_s is None
        wait_until(lambda: barn.problems == [f"{topics.hint}: no good, retained: True"])
        # Another client takes the device's id: the connection breaks, and is made again.
        thief = open_connection(BrokerOptions(url), "barn-7")
        thief.abandon()
        wait_until(lambda: not barn.messenger.connected)
        wait_until(lambda: barn.messenger.connected)
        sender.publish(topics.command, b"two", retain=False)
        while len(heard) < 2:
            sender.turn(0.1)
        sender.close()
    assert [message.payload for message in heard] == [b"one", b"two"]
    # All below a topic, here a retained message, which comes again with every connection.
    assert {message.topic for message in below} == {f"{topics.repo}/metadata/1.root.json"}
    assert [message.payload for message in below] == [b"\x00\xff"] * 2

"""Fault table, the broker and the line to it: what was stored arrives, once each, in order."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from edge.messaging import BrokerOptions, BrokerUnreachable, Messenger, Outbox
from edge.messaging.connection import open_connection
from edge.messaging.delivery import Delivery
from edge.messaging.events import Sighting, decode, timestamp
from edge.messaging.local_broker import Mosquitto, free_port, listens
from edge.messaging.topics import Topics

pytestmark = pytest.mark.slow
SESSION = ("-V", "5", "-i", "reader", "-c", "-x", "3600")


class Barn:
    """A messenger with its outbox."""

    def __init__(self, folder: Path, url: str, **options) -> None:
        self.problems: list[str] = []
        limits = {key: options.pop(key) for key in list(options) if key.startswith("limit_")}
        self.outbox = Outbox(folder / "outbox.db", **limits)
        broker = BrokerOptions(url, **options.pop("broker", {}))
        self.messenger = Messenger(
            broker, "barn-7", "b7", self.outbox, self.problems.append, **options
        )

    def start(self) -> None:
        self.messenger.start()
        self.messenger.wait_connected(60)


@pytest.fixture
def barn(tmp_path: Path) -> Iterator[Callable[..., Barn]]:
    made: list[Barn] = []

    def make(url: str, **options) -> Barn:
        made.append(Barn(tmp_path, url, **options))
        return made[-1]

    yield make
    for one in made:
        one.messenger.stop(0)
        one.outbox.close()


@pytest.fixture
def lasting(start_mosquitto, tmp_path) -> Callable[..., Mosquitto]:
    """Call with configuration lines for a broker that keeps its sessions on disk."""
    folder = tmp_path / "broker"
    folder.mkdir()
    return lambda *lines: start_mosquitto(
        "persistence true", f"persistence_location {folder}/", "max_queued_messages 0", *lines
    )


def arrived(subscriber) -> list[int]:
    return [decode(data, Sighting).seq for data in subscriber.payloads("sighting")]


def once(numbers: list[int]) -> list[int]:
    """The numbers as a subscriber has them that leaves out what it has already."""
    return list(dict.fromkeys(numbers))


# Six hours at five events a second take some 30 s on two idle cores.
@pytest.mark.timeout(900)
def test_after_six_hours_without_a_broker_everything_arrives_in_order(
    barn, mosquitto, subscribe, make_event, wait_until
):
    begin = make_event().last_seen
    assert begin is not None
    at = datetime.fromisoformat(begin)
    device = barn(mosquitto.url)
    count = 6 * 3600 * 5
    for first in range(0, count, 2000):
        device.outbox.append(
            [
                make_event(
                    track=n // 20,
                    animal=f"cow{n % 40:03}",
                    monotonic=n / 5,
                    last_seen=timestamp(at + timedelta(seconds=n / 5)),
                )
                for n in range(first, min(first + 2000, count))
            ]
        )
    assert (device.outbox.depth, device.outbox.lost) == (count, 0)
    subscriber = subscribe(mosquitto.port)
    device.start()
    device.messenger.publish([make_event()])
    assert device.messenger.stop(800) == 0
    last = f'"seq":{count + 1},'.encode()
    wait_until(lambda: subscriber.messages and last in subscriber.payloads("sighting")[-1], 60)

    class Numbers(msgspec.Struct):
        seq: int
        stream: str
        monotonic: float
        replayed: bool

    decoder = msgspec.json.Decoder(Numbers)
    received = [decoder.decode(data) for data in subscriber.payloads("sighting")]
    assert once([one.seq for one in received]) == list(range(1, count + 2))
    assert {one.stream for one in received} == {device.outbox.stream}
    assert all(one.monotonic == (one.seq - 1) / 5 for one in received[:count:997])
    assert [one.replayed for one in received[:: len(received) - 1]] == [True, False]
    assert device.outbox.depth == 0


def test_a_broker_killed_again_and_again_gets_everything(
    barn, lasting, subscribe, make_event, wait_until
):
    """`ack: broker` with a broker that flushes each message, which no default broker does."""
    broker = lasting("autosave_on_changes true", "autosave_interval 1")
    subscriber = subscribe(broker.port, *SESSION)
    device = barn(broker.url, gather_s=0.0)
    device.start()
    for kill in range(4):
        device.messenger.publish([make_event(track=kill)] * 50)
        wait_until(lambda kill=kill: len(once(arrived(subscriber))) >= 50 * kill + 1, 30)
        os.kill(broker._process.pid, signal.SIGKILL)
        broker._process.wait()
        device.messenger.publish([make_event(track=kill)] * 10)
        broker.start()
        wait_until(lambda: device.messenger.connected, 60)
        wait_until(lambda kill=kill: len(once(arrived(subscriber))) >= 60 * (kill + 1), 60)
    assert device.messenger.stop(30) == 0
    assert sorted(once(arrived(subscriber))) == list(range(1, 241))


def test_a_broker_that_stands_still_is_waited_for_and_nothing_is_lost(
    barn, mosquitto, subscribe, make_event, wait_until
):
    subscriber = subscribe(mosquitto.port)
    device = barn(mosquitto.url, gather_s=0.0, broker={"keepalive_s": 5})
    device.start()
    device.messenger.publish([make_event()] * 20)
    wait_until(lambda: len(arrived(subscriber)) == 20)
    os.kill(mosquitto._process.pid, signal.SIGSTOP)
    try:
        device.messenger.publish([make_event()] * 20)
        # The keep-alive finds out, by itself.
        wait_until(lambda: not device.messenger.connected, 60)
        assert device.outbox.depth == 20
    finally:
        os.kill(mosquitto._process.pid, signal.SIGCONT)
    wait_until(lambda: device.messenger.connected, 60)
    assert device.messenger.stop(30) == 0
    wait_until(lambda: len(once(arrived(subscriber))) == 40)
    assert once(arrived(subscriber)) == list(range(1, 41))
    assert any("broker" in line for line in device.problems)


def test_a_line_that_is_cut_in_the_middle_of_packets_costs_nothing(
    barn, mosquitto, subscribe, make_event, wait_until, slow_line
):
    subscriber = subscribe(mosquitto.port)
    line = slow_line(mosquitto.port)
    # In the middle of the CONNECT, of the first event, of the third, and so on.
    cuts = iter([20, 500, 1500, 3333, 7000, 12345, 20001, 33333])
    line.quality.cut_after = next(cuts)
    device = barn(line.url, gather_s=0.0)
    device.messenger._pause = lambda wait_s: None  # type: ignore[method-assign]
    device.messenger.start()
    device.messenger.publish([make_event()] * 200)
    connections = 0
    while line.quality.cut_after is not None:
        wait_until(lambda known=connections: line.connections > known, 60)
        connections = line.connections
        line.quality.cut_after = next(cuts, None)
    assert device.messenger.stop(60) == 0
    wait_until(lambda: len(once(arrived(subscriber))) == 200)
    assert once(arrived(subscriber)) == list(range(1, 201))
    assert device.outbox.aside == 0


@pytest.mark.parametrize("silence", ["silent_up", "silent_down"])
def test_a_line_that_passes_one_way_only_is_noticed(
    barn, mosquitto, subscribe, make_event, wait_until, slow_line, silence
):
    subscriber = subscribe(mosquitto.port)
    line = slow_line(mosquitto.port)
    device = barn(line.url, gather_s=0.0, broker={"keepalive_s": 5})
    device.start()
    device.messenger.publish([make_event()] * 10)
    wait_until(lambda: len(arrived(subscriber)) == 10)
    setattr(line.quality, silence, True)
    device.messenger.publish([make_event()] * 10)
    wait_until(lambda: not device.messenger.connected, 60)
    setattr(line.quality, silence, False)
    assert device.messenger.stop(60) == 0
    wait_until(lambda: len(once(arrived(subscriber))) == 20)
    assert once(arrived(subscriber)) == list(range(1, 21))


def test_a_slow_line_with_a_small_window_delivers_in_order(
    barn, start_mosquitto, subscribe, make_event, wait_until, slow_line
):
    broker = start_mosquitto("max_inflight_messages 3", "max_packet_size 2000")
    subscriber = subscribe(broker.port)
    line = slow_line(broker.port)
    line.quality.delay_s, line.quality.bytes_per_s = 0.02, 60_000
    device = barn(line.url, gather_s=0.0)
    device.start()
    large = {f"animal-{n:04}": n for n in range(120)}
    device.messenger.publish([make_event()] * 30 + [make_event(votes=large)] + [make_event()] * 30)
    assert device.messenger.stop(60) == 0
    wait_until(lambda: len(arrived(subscriber)) == 60)
    assert arrived(subscriber) == [*range(1, 31), *range(32, 62)]
    assert device.outbox.aside == 1
    # The number that is missing is told of.
    wait_until(lambda: subscriber.payloads("alarm"))
    gaps = [json.loads(data)["gap"] for data in subscriber.payloads("alarm")]
    assert [(gap["first"], gap["last"], gap["lost"]) for gap in gaps] == [(31, 31, 1)]


def test_what_a_full_outbox_lost_and_what_arrived_add_up(
    barn, mosquitto, subscribe, make_event, wait_until
):
    subscriber = subscribe(mosquitto.port)
    size = 100 * 700
    device = barn(mosquitto.url, limit_bytes=size)
    for n in range(60):
        device.outbox.append([make_event(track=n)] * 7)
    kept = [row.seq for row in device.outbox.pending(10_000)]
    assert 100 <= len(kept) <= 175
    device.start()
    device.messenger.publish([make_event()] * 3)
    assert device.messenger.stop(30) == 0

    def gaps() -> list[dict]:
        return [json.loads(data)["gap"] for data in subscriber.payloads("alarm")]

    # The new ones may have pushed out a few more, before or after the first gap was told.
    wait_until(lambda: len(arrived(subscriber)) + sum(gap["lost"] for gap in gaps()) == 423)
    # What was pushed out while on its way may have arrived: a range spans it, its count does not.
    spanned = {n for gap in gaps() for n in range(gap["first"], gap["last"] + 1)}
    assert set(range(1, 424)) - set(arrived(subscriber)) <= spanned
    assert sum(gap["lost"] for gap in gaps()) >= kept[0] - 1
    assert arrived(subscriber) == sorted(set(arrived(subscriber)))


def test_who_stops_tells_first_what_is_missing(
    barn, mosquitto, subscribe, make_event, wait_until, monkeypatch
):
    subscriber = subscribe(mosquitto.port)
    device = barn(mosquitto.url)
    sends = Delivery._send_events

    def lose_behind_the_word_on_gaps(delivery: Delivery) -> None:
        if device.outbox.last_seq == 3:
            device.outbox.lose(5)
        sends(delivery)

    monkeypatch.setattr(Delivery, "_send_events", lose_behind_the_word_on_gaps)
    device.outbox.append([make_event()] * 3)
    device.start()
    assert device.messenger.stop(30) == 0
    wait_until(lambda: subscriber.payloads("alarm"))
    (gap,) = (json.loads(data)["gap"] for data in subscriber.payloads("alarm"))
    assert (gap["first"], gap["last"], gap["lost"]) == (4, 8, 5)


def test_the_drain_rate_spares_the_broker(barn, mosquitto, subscribe, make_event, wait_until):
    subscriber = subscribe(mosquitto.port)
    device = barn(mosquitto.url, drain_per_s=20)
    device.outbox.append([make_event()] * 200)
    device.start()
    wait_until(lambda: len(arrived(subscriber)) >= 20)
    # A second's worth at once, and then twenty a second: a hundred take four seconds more.
    device.messenger.stop(1)
    assert device.outbox.depth >= 100


def test_what_is_sent_to_a_device_while_it_is_away_waits_for_it(
    barn, mosquitto, wait_until, slow_line
):
    heard: list[bytes] = []
    topics = Topics("barn-7")
    line = slow_line(mosquitto.port)
    device = barn(
        line.url, handlers={topics.command: lambda message: heard.append(message.payload)}
    )
    device.messenger._pause = lambda wait_s: time.sleep(0.5)  # type: ignore[method-assign]
    device.start()
    line.quality.cut_after = 0
    line.cut()
    wait_until(lambda: not device.messenger.connected)
    office = open_connection(BrokerOptions(mosquitto.url), "office")
    office.publish(topics.command, b"meanwhile", retain=False)
    while not office.turn(1.0):
        pass
    office.close()
    assert heard == []
    line.quality.cut_after = None
    wait_until(lambda: heard == [b"meanwhile"], 60)


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_over_websockets_it_is_the_same(
    barn, start_mosquitto, subscribe, make_event, wait_until, tmp_path, scheme
):
    port = free_port()
    lines, options = [f"listener {port} 127.0.0.1", "protocol websockets"], {}
    if scheme == "wss":
        command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
        command += " -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out certificate.pem"
        subprocess.run(command.split(), check=True, capture_output=True, cwd=tmp_path)
        options = {"broker": {"ca_file": tmp_path / "certificate.pem"}}
        lines += [f"certfile {tmp_path}/certificate.pem", f"keyfile {tmp_path}/key.pem"]
    broker = start_mosquitto(*lines)
    assert listens(port)
    subscriber = subscribe(broker.port)
    device = barn(f"{scheme}://127.0.0.1:{port}/mqtt", gather_s=0.0, **options)
    device.start()
    assert device.messenger.protocol == 5
    for _ in range(6):
        device.messenger.publish([make_event()] * 50)
    assert device.messenger.stop(60) == 0
    wait_until(lambda: len(arrived(subscriber)) == 300)
    assert arrived(subscriber) == list(range(1, 301))
    assert device.problems == []


def test_what_is_no_websocket_is_one_line(mosquitto):
    with pytest.raises(BrokerUnreachable) as caught:
        open_connection(BrokerOptions(f"ws://127.0.0.1:{mosquitto.port}/mqtt"), "barn-7")
    assert f"127.0.0.1:{mosquitto.port}" in str(caught.value)
    assert "\n" not in str(caught.value)


# -- the agent's process ---------------------------------------------------------------------------

PROCESS = """
import sys, time
from pathlib import Path
import msgspec
from edge.messaging import BrokerOptions, BrokerUnreachable, Messenger, Outbox
from edge.messaging.events import Sighting

event = msgspec.convert(msgspec.json.decode(sys.argv[3]), Sighting)
outbox = Outbox(Path(sys.argv[2]))
append = outbox.append

def telling(events):
    stored = append(events)
    print(" ".join(f"{one.stream}:{one.seq}" for one in stored), flush=True)
    return stored

outbox.append = telling
messenger = Messenger(BrokerOptions(sys.argv[1]), "barn-7", "b7", outbox, gather_s=0.01)
messenger.start()
while True:
    messenger.publish([event] * 3)
    time.sleep(0.002)
"""


@pytest.mark.timeout(900)
def test_an_agent_killed_at_fifty_instants_loses_nothing_that_it_stored(
    barn, lasting, subscribe, make_event, wait_until, tmp_path
):
    rng = random.Random(6)
    broker = lasting()
    subscriber = subscribe(broker.port, *SESSION)
    event = make_event(id="0" * 26, seq=1, stream="0" * 32)
    command = [sys.executable, "-c", PROCESS, broker.url, str(tmp_path / "outbox.db")]
    stored: list[str] = []
    for _ in range(50):
        process = subprocess.Popen(
            [*command, msgspec.json.encode(event).decode()], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        for _ in range(rng.randrange(20)):
            lines.append(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
        lines += process.stdout.read().splitlines(keepends=True)
        process.stdout.close()
        process.wait()
        # The last line may be torn; what is whole was printed after it was stored.
        stored += [word for line in lines if line.endswith(b"\n") for word in line.decode().split()]
    assert len(stored) == len(set(stored)) > 500
    device = barn(broker.url)
    device.start()
    assert device.messenger.stop(120) == 0
    last = max(int(word.split(":")[1]) for word in stored)
    wait_until(lambda: any(seq >= last for seq in arrived(subscriber)[-200:]), 60)
    received = [decode(data, Sighting) for data in subscriber.payloads("sighting")]
    assert set(stored) <= {f"{one.stream}:{one.seq}" for one in received}
    numbers = once([one.seq for one in received])
    assert numbers == sorted(numbers)
    assert len({one.stream for one in received}) == 1

"""What a flood of commands does to a device: python benchmarks/commands.py [--commands 10000].

Starts a mosquitto and a device (messenger, outbox, judge of commands) in a process of its own,
lets it settle, sends malformed, oversize, expired and good commands as fast as the broker takes
them, and prints the device's resident memory before and after, what it refused and executed, and
whether it still answers. Exit code 1 when memory grew by more than 10 %, or it does not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from edge.capture.clock import wall_time
from edge.memory import resident_mb
from edge.messaging import BrokerOptions, Messenger, Outbox
from edge.messaging.commands import CommandDesk, Order, Outcome
from edge.messaging.connection import Connection, Message, Terms, open_connection
from edge.messaging.events import Reply, decode, timestamp
from edge.messaging.local_broker import Mosquitto
from edge.messaging.topics import Topics
from edge.orders import Orders

_TOPICS = Topics("barn-7")
_MIB = 1 << 20
_GROWTH = 0.10
_WINDOW = 50


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commands", type=int, default=10_000)
    parser.add_argument("--device", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.device:
        return device(options.device)
    with Mosquitto() as broker:
        child = subprocess.Popen(
            [sys.executable, __file__, "--device", broker.url], stdout=subprocess.PIPE, text=True
        )
        try:
            return flood(broker.url, child, options.commands)
        finally:
            child.terminate()
            child.wait()


def flood(url: str, child: subprocess.Popen[str], count: int) -> int:
    """Send `count` commands to the device of `child`, and print what it made of them."""
    heard: list[Message] = []
    sender = open_connection(BrokerOptions(url), "flood", on_message=heard.append)
    sender.subscribe(_TOPICS.reply)
    # The first thousand fill what is filled once: buffers, the remembered ids, the allocator.
    send(sender, 1000, seed=1)
    before = asked(sender, heard, "before")
    before_mb = resident_mb(child.pid)[1]
    started_s = time.monotonic()
    send(sender, count, seed=2)
    sent_s = time.monotonic() - started_s
    after = asked(sender, heard, "after")
    after_mb = resident_mb(child.pid)[1]
    growth = after_mb / before_mb - 1
    seen = {key: after[key] - before[key] for key in after}
    print(f"commands sent      {count} in {sent_s:.1f} s")
    print(f"judged             {seen['refused'] + seen['accepted'] + seen['repeated']}")
    print(f"executed           {seen['executed']} (identify, of those that were good)")
    print(f"resident memory    {before_mb:.1f} MB before, {after_mb:.1f} MB after, {growth:+.1%}")
    return 0 if growth <= _GROWTH else 1


def send(sender: Connection, count: int, seed: int) -> None:
    """Send so many commands of every bad kind, and a good one now and then."""
    rng = random.Random(seed)
    late = timestamp(datetime.now(UTC) - timedelta(minutes=1)) or ""
    kinds: list[Callable[[int], bytes]] = [
        lambda n: rng.randbytes(rng.randrange(1, 400)),
        lambda n: b'{"args":' * rng.randrange(1, 2000),
        lambda n: b"[" * 15_000,
        lambda n: good(f"s{seed}-{n}").replace(b"identify", b"\xff\xfe"),
        lambda n: good(f"s{seed}-{n}")[:-2],
        lambda n: good(f"s{seed}-{n}", not_after=late),
        lambda n: good(f"s{seed}-{n}", name="explode"),
        lambda n: b"{" * 100_000 if n % 50 == 0 else b"x" * (_MIB if n % 500 == 1 else 20_000),
        lambda n: good(f"s{seed}-{n}"),
    ]
    unanswered = 0
    for number in range(count):
        payload = kinds[number % len(kinds)](number)
        sender.publish(_TOPICS.command, payload, retain=False, terms=Terms(expires_s=60))
        unanswered += 1
        while unanswered >= _WINDOW:
            unanswered -= len(sender.turn(1.0))
    while unanswered:
        unanswered -= len(sender.turn(1.0))


def asked(sender: Connection, heard: list[Message], name: str) -> dict[str, int]:
    """Return the device's own counts, by a command that it must still take."""
    for attempt in range(60):
        heard.clear()
        command = f"{name}-{attempt}"
        sender.publish(
            _TOPICS.command,
            good(command, name="check_update"),
            retain=False,
            terms=Terms(expires_s=60),
        )
        until_s = time.monotonic() + 2.0
        while time.monotonic() < until_s:
            sender.turn(0.1)
            for message in heard:
                reply = decode(message.payload, Reply)
                if reply.id == command and reply.ok:
                    return {key: int(str(value)) for key, value in reply.result.items()}
    raise SystemExit("the device does not answer any more")


def good(command: str, **changes: object) -> bytes:
    """Return a command that is in order, but for the changes."""
    said = {
        "schema": 1,
        "id": command,
        "name": "identify",
        "args": {},
        "not_after": timestamp(datetime.now(UTC) + timedelta(minutes=5)),
    }
    return json.dumps({**said, **changes}).encode()


def device(url: str) -> int:
    """Be the device, until terminated."""
    executed = 0

    def identify(order: Order) -> Outcome:
        nonlocal executed
        executed += 1
        return Outcome()

    def counts(order: Order) -> Outcome:
        return Outcome(
            result={
                "refused": sum(desk.refused.values()),
                "accepted": desk.accepted,
                "repeated": desk.repeated,
                "executed": executed,
            }
        )

    desk = CommandDesk("barn-7", "b7", now=wall_time)
    orders = Orders(
        desk,
        {"identify": identify, "check_update": counts},
        send=lambda reply, correlation: messenger.reply(reply, correlation),
        alarm=lambda kind, text: messenger.alarm(kind, text),
        wake=lambda: None,
    )
    with tempfile.TemporaryDirectory() as folder, Outbox(Path(folder) / "outbox.db") as outbox:
        messenger = Messenger(
            BrokerOptions(url),
            "barn-7",
            "b7",
            outbox,
            handlers={_TOPICS.command: orders.receive},
        )
        messenger.start()
        parent = os.getppid()
        while os.getppid() == parent:
            orders.work()
            time.sleep(0.02)
        messenger.stop(0)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Events a second from the outbox to a subscriber: python benchmarks/outbox.py [--count 20000].

A real mosquitto on the loopback, QoS 1, an outbox with `synchronous=FULL` on the disk of --folder,
and a subscriber in a process of its own that counts what arrives. Twice: `backlog`, what an outage
left behind goes as fast as it can; `live`, events are stored and sent at once. Printed, and written
to OUT/outbox.json: events a second, and the share of the time that each stage took in the device's
threads. Exit code 1 below --least events a second.

A figure of a machine that does other work beside it means nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho

from edge.messaging import BrokerOptions, Messenger, Outbox
from edge.messaging import delivery as delivery_module
from edge.messaging.connection import Connection
from edge.messaging.events import Sighting
from edge.messaging.flow import Flow
from edge.messaging.local_broker import local_broker

_GROUP = 100
_WAIT_S = 600.0
EVENT = Sighting(
    schema=1,
    id="",
    seq=0,
    stream="",
    type="update",
    device="barn-7",
    camera="pen-3",
    track=4411,
    animal="cow004",
    reason=None,
    confidence=0.97,
    distance=0.11,
    margin=0.38,
    votes={"cow004": 9, "unknown": 1},
    box=(0.21, 0.34, 0.40, 0.61),
    first_seen="2026-11-24T04:31:07.120Z",
    last_seen="2026-11-24T04:31:09.000Z",
    clock="synced",
    boot="b7",
    monotonic=8123.4,
    release="9f31",
    means_seq=57,
    replayed=False,
)

# Counts sightings, and ends when it has so many: its own process, for it is not the device's work.
SUBSCRIBER = """
import sys
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

port, wanted, seen = int(sys.argv[1]), int(sys.argv[2]), 0

def message(client, data, message):
    global seen
    seen += 1
    if seen >= wanted:
        client.disconnect()

client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
client.on_connect = lambda client, *rest: client.subscribe("earmark/v1/+/up/sighting", qos=1)
client.on_subscribe = lambda *rest: print("ready", flush=True)
client.on_message = message
client.connect("127.0.0.1", port)
client.loop_forever()
print(seen, flush=True)
"""


class Stages:
    """Adds up how long named functions take, each without those within it, by thread."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._open = threading.local()

    def watch(self, owner: Any, name: str, stage: str) -> Callable[[], None]:
        """Measure a function of a class or module as `stage`; returns what undoes it."""
        inner = getattr(owner, name)

        def timed(*arguments: Any, **options: Any) -> Any:
            outer = getattr(self._open, "within", 0.0)
            self._open.within = 0.0
            begin = time.perf_counter()
            try:
                return inner(*arguments, **options)
            finally:
                took = time.perf_counter() - begin
                self.seconds[stage] += took - self._open.within
                self._open.within = outer + took

        setattr(owner, name, timed)
        return lambda: setattr(owner, name, inner)


@contextmanager
def watched(stages: Stages) -> Iterator[None]:
    """Measure the stages of an event's way while the block runs."""
    undo = [
        stages.watch(Outbox, "append", "number, encode, insert"),
        stages.watch(Outbox, "pending", "read rows"),
        stages.watch(Outbox, "delivered", "delete rows"),
        stages.watch(Flow, "next", "choose"),
        stages.watch(delivery_module, "decode", "validate"),
        stages.watch(delivery_module, "encode", "mark as replayed"),
        stages.watch(Connection, "publish", "publish"),
        stages.watch(Connection, "turn", "wait for the network"),
        stages.watch(paho.Client, "loop_read", "read answers"),
        stages.watch(paho.Client, "loop_write", "write"),
    ]
    try:
        yield
    finally:
        for one in undo:
            one()


def main() -> int:
    """Run, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="events of each run")
    parser.add_argument("--least", type=float, default=2000.0, help="events a second")
    parser.add_argument("--folder", type=Path, help="where the outbox lies; by default in /tmp")
    parser.add_argument("--stages", action="store_true", help="measure stages; costs some speed")
    parser.add_argument("--out", type=Path, default=Path("out/outbox"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {
        "count": options.count,
        "cpus": os.cpu_count(),
        "load": os.getloadavg(),
    }
    for name, run in (("backlog", backlog), ("live", live)):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder, local_broker() as broker:
            stages = Stages()
            with watched(stages) if options.stages else nullcontext():
                report[name] = measure(run, Path(folder), broker.url, options.count)
            report[name]["stages_s"] = dict(stages.seconds)
    (options.out / "outbox.json").write_text(json.dumps(report, indent=1) + "\n")
    for name in ("backlog", "live"):
        show(name, report[name])
    return int(min(report[name]["per_s"] for name in ("backlog", "live")) < options.least)


def measure(
    run: Callable[[Outbox, Messenger, int], None], folder: Path, url: str, count: int
) -> dict[str, Any]:
    """Return events a second until the subscriber has all, and the device's CPU time for one."""
    subscriber = subprocess.Popen(
        [sys.executable, "-c", SUBSCRIBER, url.rpartition(":")[2], str(count)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert subscriber.stdout is not None
    subscriber.stdout.readline()
    with Outbox(folder / "outbox.db") as outbox:
        messenger = Messenger(BrokerOptions(url), "barn-7", "b7", outbox, print)
        if run is backlog:
            fill(outbox, count)
        begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
        run(outbox, messenger, count)
        subscriber.wait(_WAIT_S)
        wall_s = time.perf_counter() - begin_s
        cpu_s = time.process_time() - begin_cpu_s
        messenger.stop(10)
    subscriber.stdout.close()
    return {"per_s": count / wall_s, "wall_s": wall_s, "cpu_us_per_event": cpu_s / count * 1e6}


def fill(outbox: Outbox, count: int) -> None:
    """Store events as an outage leaves them behind."""
    for begin in range(0, count, 1000):
        outbox.append([EVENT] * min(1000, count - begin))


def backlog(outbox: Outbox, messenger: Messenger, count: int) -> None:
    """Send what waits."""
    messenger.start()


def live(outbox: Outbox, messenger: Messenger, count: int) -> None:
    """Publish as cameras do, but never more than some thousand ahead of what is sent."""
    messenger.start()
    messenger.wait_connected(30)
    for begin in range(0, count, _GROUP):
        messenger.publish([EVENT] * min(_GROUP, count - begin))
        while outbox.depth > 5000:
            time.sleep(0.001)


def show(name: str, run: dict[str, Any]) -> None:
    """Print one run."""
    print(f"{name:8}{run['per_s']:8.0f} events/s, {run['cpu_us_per_event']:.0f} us of CPU each")
    total_s = sum(run["stages_s"].values())
    for stage, spent_s in sorted(run["stages_s"].items(), key=lambda item: -item[1]):
        print(f"    {spent_s / total_s:6.1%}  {stage}")


if __name__ == "__main__":
    sys.exit(main())

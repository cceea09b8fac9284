"""Whether ingest keeps up with a fleet: python benchmarks/ingest_rate.py.

Simulated devices (200, five events a second each) publish through a mosquitto of its own, and
`earmark-deploy ingest` stores what comes, once into SQLite and once into a PostgreSQL that is
started for it. Printed, and written to OUT/ingest_rate.json, by database: `published`, `stored`,
`lag_s_p50`, `lag_s_p95` (from the moment of an event to its row), `keeps_up` (all is stored two
seconds after the last event), and `rows_per_s_max`: how fast a backlog that had waited in the
broker was stored. Exit code 1 when ingest does not keep up, or a row is missing or doubled.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from deploy.ingest.database import Database, open_database
from deploy.ingest.local_postgres import LocalPostgres, find_postgres
from edge.errors import EarmarkError
from edge.messaging.broker import BrokerOptions
from edge.messaging.connection import Connection, open_connection
from edge.messaging.events import SCHEMA, Sighting, encode, timestamp
from edge.messaging.local_broker import Mosquitto
from edge.messaging.topics import Topics
from edge.messaging.ulid import UlidMaker

# So many simulated devices share a connection: two hundred sockets would measure this script.
_PER_CONNECTION = 50
_GRACE_S = 2.0
_BROKER = ("max_queued_messages 1000000", "max_inflight_messages 200", "set_tcp_nodelay true")


@dataclass(frozen=True, slots=True)
class Load:
    """What the devices do."""

    devices: int
    events_per_s: float
    seconds: float
    backlog: int


class Fleet:
    """Devices that publish; each event carries the moment it was made in `last_seen`."""

    def __init__(self, url: str, devices: int) -> None:
        self._names = [f"barn-{number:03d}" for number in range(devices)]
        self._seq = dict.fromkeys(self._names, 0)
        self._new_id = UlidMaker()
        self._connections = [
            open_connection(BrokerOptions(url), f"fleet-{number}")
            for number in range(-(-devices // _PER_CONNECTION))
        ]
        self._waiting: list[set[int]] = [set() for _ in self._connections]
        self.published = 0

    def tell(self, number: int) -> None:
        """Publish the next event of a device."""
        name = self._names[number % len(self._names)]
        self._seq[name] += 1
        at = number % len(self._names) // _PER_CONNECTION
        event = self._event(name, self._seq[name])
        ticket = self._connections[at].publish(Topics(name).sighting, event, retain=False)
        self._waiting[at].add(ticket)
        self.published += 1

    def knock(self) -> None:
        """Publish one event of a device of its own, the same one each time; it counts once."""
        topic, event = Topics("knocking").sighting, self._event("knocking", 1)
        ticket = self._connections[0].publish(topic, event, retain=False)
        self._waiting[0].add(ticket)
        self.settle()
        self.published = max(self.published, 1)

    def turn(self) -> int:
        """Read answers; return how many are awaited."""
        for connection, waiting in zip(self._connections, self._waiting, strict=True):
            if waiting:
                self._read(connection, waiting)
        return sum(map(len, self._waiting))

    def settle(self) -> None:
        """Wait for all answers."""
        while self.turn():
            time.sleep(0.001)

    def close(self) -> None:
        """Disconnect."""
        for connection in self._connections:
            connection.close()

    @staticmethod
    def _read(connection: Connection, waiting: set[int]) -> None:
        for ack in connection.turn(0.0):
            if ack.failure is not None:
                raise EarmarkError(f"the broker refused an event: {ack.reason}")
            waiting.discard(ack.ticket)

    def _event(self, device: str, seq: int) -> bytes:
        now = timestamp(datetime.now(UTC))
        return encode(
            Sighting(
                schema=SCHEMA,
                id=self._new_id(),
                seq=seq,
                stream="0" * 32,
                type="update",
                device=device,
                camera="pen-3",
                track=seq % 40,
                animal=f"cow{seq % 40:03d}",
                reason=None,
                confidence=0.9,
                distance=0.1,
                margin=0.3,
                votes={f"cow{seq % 40:03d}": 9, "unknown": 1},
                box=(0.1, 0.2, 0.3, 0.4),
                first_seen=now,
                last_seen=now,
                clock="synced",
                boot="b1",
                monotonic=float(seq),
                release="9f31",
                means_seq=1,
                replayed=False,
            )
        )


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=200)
    parser.add_argument("--events-per-s", type=float, default=5.0, help="of each device")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--backlog", type=int, default=20_000, help="events for the highest rate")
    parser.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--out", type=Path, default=Path("out/ingest-rate"))
    options = parser.parse_args()
    load = Load(options.devices, options.events_per_s, options.seconds, options.backlog)
    kinds = ["sqlite", "postgresql"] if options.database == "both" else [options.database]
    report: dict[str, Any] = {"load": {name: getattr(load, name) for name in Load.__slots__}}
    for kind in kinds:
        if kind == "postgresql" and find_postgres() is None:
            print("postgresql: not installed (apt-get install postgresql), left out")
            continue
        report[kind] = measure(kind, load)
        print(f"{kind}: " + ", ".join(f"{name} {value}" for name, value in report[kind].items()))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "ingest_rate.json").write_text(json.dumps(report, indent=1) + "\n")
    results = [report[kind] for kind in kinds if kind in report]
    return 0 if results and all(each["keeps_up"] and each["exact"] for each in results) else 1


def measure(kind: str, load: Load) -> dict[str, Any]:
    """Return the figures of one database."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(Mosquitto(_BROKER))
        url = str(folder / "sightings.db")
        if kind == "postgresql":
            url = stack.enter_context(LocalPostgres()).url
        fleet = Fleet(broker.url, load.devices)
        stack.callback(fleet.close)
        with ingest(broker.url, url):
            database = wait_for_rows(url, fleet)
            stack.callback(database.close)
            first = fleet.published
            late_s = publish(fleet, load)
            time.sleep(_GRACE_S)
            in_time = rows(database)
            last = fleet.published
            wait(lambda: rows(database) >= last)
        for number in range(load.backlog):
            fleet.tell(number)
            if number % 1000 == 0:
                fleet.settle()
        fleet.settle()
        with ingest(broker.url, url):
            wait(lambda: rows(database) >= fleet.published)
        lags = lag_s(database, first, last)
        return {
            "published": last - first,
            "publisher_late_s": round(late_s, 2),
            "stored": in_time - first,
            "keeps_up": in_time >= last,
            "exact": exact(database, fleet.published),
            "lag_s_p50": round(float(np.percentile(lags, 50)), 3),
            "lag_s_p95": round(float(np.percentile(lags, 95)), 3),
            "rows_per_s_max": round(highest_rate(database, load.backlog)),
        }


def publish(fleet: Fleet, load: Load) -> float:
    """Publish evenly for the time asked; return how late the last was, for want of processor."""
    rate = load.devices * load.events_per_s
    total = round(rate * load.seconds)
    begin = time.monotonic()
    done = 0
    while done < total:
        due = min(int((time.monotonic() - begin) * rate) + 1, total)
        while done < due:
            fleet.tell(done)
            done += 1
        fleet.turn()
        time.sleep(0.002)
    fleet.settle()
    return max(time.monotonic() - begin - load.seconds, 0.0)


@contextmanager
def ingest(broker: str, url: str) -> Iterator[None]:
    """Run `earmark-deploy ingest` while the block runs."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", "from deploy.cli import entry; entry()"),
            *("ingest", "--broker", broker, "--db", url),
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def wait_for_rows(url: str, fleet: Fleet) -> Database:
    """Return the database once the subscription stands, which a stored event shows."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            database = open_database(url, read_only=True)
            if rows(database):
                return database
            database.close()
        except EarmarkError:
            pass
        fleet.knock()
        time.sleep(0.2)
    raise EarmarkError("ingest stored nothing within a minute")


def wait(condition: Any) -> None:
    """Wait for a condition, ten minutes at most."""
    deadline = time.monotonic() + 600
    while not condition():
        if time.monotonic() > deadline:
            raise EarmarkError("not everything was stored within ten minutes")
        time.sleep(0.05)


def rows(database: Database) -> int:
    """Return how many rows there are."""
    return int(database.execute("SELECT count(*) FROM sighting")[0][0])


def exact(database: Database, published: int) -> bool:
    """Whether every event is there once, and every watermark at its stream's end."""
    distinct = database.execute(
        "SELECT count(*) FROM (SELECT DISTINCT stream_id, seq FROM sighting) AS each_once"
    )
    behind = database.execute("SELECT count(*) FROM stream WHERE watermark < highest")
    return rows(database) == int(distinct[0][0]) == published and not behind[0][0]


def lag_s(database: Database, first: int, last: int) -> list[float]:
    """Return the seconds from each event of the steady part to its row."""
    pairs = database.execute(
        "SELECT last_seen, received_at FROM sighting ORDER BY received_at LIMIT ? OFFSET ?",
        (last - first, first),
    )
    lags = []
    for made, stored in pairs:
        begin, end = database.moment(made), database.moment(stored)
        assert begin is not None
        assert end is not None
        lags.append((end - begin).total_seconds())
    return lags


def highest_rate(database: Database, backlog: int) -> float:
    """Return rows a second over the backlog, from its first transaction to its last."""
    moments = [
        moment
        for (value,) in database.execute(
            "SELECT received_at FROM sighting ORDER BY received_at DESC LIMIT ?", (backlog,)
        )
        if (moment := database.moment(value)) is not None
    ]
    span_s = (moments[0] - moments[-1]).total_seconds()
    # The first transaction's rows were there before the clock began to run.
    timed = sum(moment != moments[-1] for moment in moments)
    return timed / span_s if span_s else float("nan")


if __name__ == "__main__":
    sys.exit(main())

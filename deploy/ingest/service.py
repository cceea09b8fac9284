"""The loop of `earmark-deploy ingest`: read, store, only then acknowledge, tell the devices."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from deploy.ingest.acknowledge import Acknowledger
from deploy.ingest.database import DatabaseUnavailableError
from deploy.ingest.records import Elsewhere, Record, read_record
from deploy.ingest.rejections import Rejections
from deploy.ingest.store import Store
from deploy.ingest.streams import Key
from deploy.ingest.subscriber import SESSION_S, WINDOW, Arrival, Filter, Subscriber
from edge.errors import BrokerError
from edge.messaging.broker import BrokerOptions, BrokerRefused
from edge.messaging.events import Ingested, encode
from edge.messaging.retry import Backoff
from edge.messaging.topics import ROOT, Topics

# A transaction waits so long for more to join it.
_BATCH_S = 0.1
_BATCH = 500
_TURN_S = 0.5
_STUCK_S = 600.0
_STABLE_S = 10.0
# A broker deals the events out to all members of a group, and those of a member that is away lie in
# its session until that ends; then the devices' repetitions go to those who are there.
SHARED_SESSION_S = 60
# Reading what the broker has queued for a member that leaves its group.
_LEAVE_S = 10.0
# So many connections that were cut off soon after each other are no accident.
_CUT_OFF = 4
_EVENTS = tuple(f"{ROOT}/+/up/{leaf}" for leaf in ("sighting", "alarm"))
_WORDS = f"{ROOT}/+/down/ingest"


def _shared(group: str) -> tuple[str, ...]:
    return tuple(f"$share/{group}/{topic}" for topic in _EVENTS)


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """name: the client id, under which the broker keeps what we have not acknowledged.

    share: group of ingests that share the work; None for one alone. acknowledge_every_s: how often
    a device is told at most; None for a mere copy, which tells nobody.
    """

    name: str = "earmark-ingest"
    share: str | None = None
    acknowledge_every_s: float | None = 1.0
    window: int = WINDOW

    @property
    def events(self) -> list[str]:
        """The filters of what is stored."""
        return list(_EVENTS if self.share is None else _shared(self.share))

    @property
    def session_s(self) -> int:
        """How long the broker keeps what it has for us while we are away."""
        return SESSION_S if self.share is None else SHARED_SESSION_S

    @property
    def filters(self) -> list[Filter]:
        """What to subscribe to."""
        filters = [Filter(topic) for topic in self.events]
        if self.acknowledge_every_s is not None:
            filters.append(Filter(_WORDS, stored=True))
        return filters

    @property
    def unwanted(self) -> list[str]:
        """What a session of this name may have subscribed to when it had other options.

        Not what it shared in another group, whose name is not known: that is left at a clean stop.
        """
        wanted = {each.topic for each in self.filters}
        return [topic for topic in (*_EVENTS, _WORDS) if topic not in wanted]


class Ingest:
    """Runs until it is told to stop, through losses of the broker and of the database.

    tell: one line each about what a person should know.
    """

    def __init__(
        self,
        broker: BrokerOptions,
        store: Store,
        options: IngestOptions,
        tell: Callable[[str], None],
    ) -> None:
        broker.tls_context()
        self.counts: Counter[str] = Counter()
        self._broker = broker
        self._store = store
        self._options = options
        self._tell = tell
        self._stopping = False
        self._told: set[str] = set()
        self._batch: list[Arrival] = []
        self._batch_s = 0.0
        self._cut_off = 0
        self._outgoing: dict[str, Ingested] = {}
        self._acknowledger = (
            Acknowledger(store.watermarks, options.acknowledge_every_s)
            if options.acknowledge_every_s is not None
            else None
        )
        self._database_backoff = Backoff(0.5, 10.0)
        self._database_at_s = 0.0
        self._stuck_at_s = time.monotonic() + _STUCK_S
        self._behind: dict[Key, int] = {}
        self._stuck: set[Key] = set()
        self._rejections = Rejections(tell, time.monotonic())

    def stop(self) -> None:
        """End soon; safe in a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """Work until `stop`.

        BrokerRefused when the broker says no at the first connection; a broker or a database that
        is away is waited for.
        """
        backoff = Backoff(0.5, 30.0)
        self._open_store()
        accepted = False
        while not self._stopping:
            since_s = time.monotonic()
            try:
                subscriber = Subscriber(
                    self._broker,
                    self._options.name,
                    self._options.filters,
                    unwanted=self._options.unwanted,
                    session_s=self._options.session_s,
                    window=self._options.window,
                )
                accepted = True
                self._cut_off += 1
                self._well("broker")
                self._serve(subscriber)
            except BrokerError as error:
                if isinstance(error, BrokerRefused) and not accepted:
                    raise
                self._complain("broker", str(error))
                if time.monotonic() - since_s >= _STABLE_S:
                    backoff.reset()
                    self._cut_off = 0
                self._look_for_double()
                self._pause(backoff.next_s())
        self._store.close()

    # -- one connection --------------------------------------------------------------------------

    def _serve(self, subscriber: Subscriber) -> None:
        # What was not acknowledged on the last connection comes again on this one.
        self._batch.clear()
        if self._acknowledger is not None:
            self._acknowledger.connected(time.monotonic())
        try:
            while not self._stopping:
                self._step(subscriber)
            if self._options.share is not None:
                self._leave(subscriber)
            self._flush(subscriber)
            self._publish(subscriber, at_once=True)
        except BaseException:
            subscriber.abandon()
            raise
        subscriber.close()

    def _leave(self, subscriber: Subscriber) -> None:
        """Leave the group, so that the others get everything, and store what is ours already."""
        subscriber.unsubscribe(self._options.events)
        until_s = time.monotonic() + _LEAVE_S
        while time.monotonic() < until_s and self._database_ready(time.monotonic()):
            if not self._step(subscriber) and not self._batch:
                return

    def _step(self, subscriber: Subscriber) -> bool:
        """Do what there is to do; return whether something came."""
        arrived = subscriber.turn(self._wait_s())
        if arrived and not self._batch:
            self._batch_s = time.monotonic()
        self._batch += arrived
        if self._acknowledger is not None and any(arrival.retained for arrival in arrived):
            self._acknowledger.heard(time.monotonic())
        if len(self._batch) >= _BATCH or time.monotonic() - self._batch_s >= _BATCH_S:
            self._flush(subscriber)
        self._publish(subscriber)
        now_s = time.monotonic()
        if now_s >= self._stuck_at_s and self._database_ready(now_s):
            self._stuck_at_s = now_s + _STUCK_S
            self._look_for_holes()
        self._rejections.look(now_s)
        return bool(arrived)

    def _wait_s(self) -> float:
        now_s = time.monotonic()
        if not self._database_ready(now_s):
            return min(_TURN_S, self._database_at_s - now_s)
        if self._batch:
            return max(self._batch_s + _BATCH_S - now_s, 0.0)
        return min(_TURN_S, self._options.acknowledge_every_s or _TURN_S)

    def _flush(self, subscriber: Subscriber) -> None:
        """Store the batch and acknowledge it; it stays when the database is away."""
        if not self._batch or not self._database_ready(time.monotonic()):
            return
        records = [record for arrival in self._batch for record in self._records(arrival)]
        if not records:
            subscriber.acknowledge(self._batch)
            self._batch.clear()
            return
        try:
            written = self._store.write(records)
        except DatabaseUnavailableError as error:
            self._database_lost(error)
            return
        self._database_well()
        subscriber.acknowledge(self._batch)
        self._batch.clear()
        for name in ("stored", "duplicates", "alarms", "rejected"):
            self.counts[name] += getattr(written, name)
        self._rejections.note(written.refused)
        if self._acknowledger is not None:
            # Who sends what is settled has not heard so, or has forgotten.
            again = written.duplicates + written.conflicts > 0
            self._acknowledger.note(written.devices, time.monotonic(), again=again)

    @staticmethod
    def _records(arrival: Arrival) -> list[Record]:
        record = read_record(arrival.topic, arrival.payload)
        if isinstance(record, Elsewhere) and not arrival.retained:
            # Another ingest's word on the database that we share; it is there already.
            return []
        return [record]

    def _publish(self, subscriber: Subscriber, *, at_once: bool = False) -> None:
        if self._acknowledger is None or not self._database_ready(time.monotonic()):
            return
        try:
            due = self._acknowledger.due(time.monotonic(), at_once=at_once)
        except DatabaseUnavailableError as error:
            self._database_lost(error)
            return
        # A newer word on a device takes the place of one that has not been sent yet.
        self._outgoing.update({each.device: each for each in due})
        for device in list(self._outgoing)[: subscriber.room]:
            subscriber.publish(Topics(device).ingest, encode(self._outgoing.pop(device)))
        for topic, reason in subscriber.failures():
            self._complain(
                "rules",
                f"broker {self._broker.address}: refused {topic} ({reason}); devices that wait for "
                "ingest will fill up; check the broker's rules",
            )

    # -- what goes wrong -------------------------------------------------------------------------

    def _open_store(self) -> None:
        """Wait for the database before anything is read; a newer schema is an error at once."""
        while not self._stopping:
            try:
                self._store.open()
                self._database_well()
                return
            except DatabaseUnavailableError as error:
                self._database_lost(error)
                self._pause(self._database_at_s - time.monotonic())

    def _database_ready(self, now_s: float) -> bool:
        return now_s >= self._database_at_s

    def _database_lost(self, error: DatabaseUnavailableError) -> None:
        self._complain("database", str(error))
        self._database_at_s = time.monotonic() + self._database_backoff.next_s()

    def _database_well(self) -> None:
        self._database_backoff.reset()
        self._well("database")

    def _look_for_double(self) -> None:
        """Two of one name cut each other off; mosquitto before 2.0.12 does not say so."""
        if self._cut_off >= _CUT_OFF:
            self._complain(
                "name",
                f"the broker ended {_CUT_OFF} connections in a row; does another ingest run as "
                f"{self._options.name}? Give each its own --name, or certificate",
            )

    def _complain(self, what: str, text: str) -> None:
        """Tell of a trouble once, until it is over."""
        if what not in self._told:
            self._told.add(what)
            away = what in ("broker", "database")
            self._tell(f"{text}; trying again" if away else text)

    def _well(self, what: str) -> None:
        if what in self._told:
            self._told.discard(what)
            self._tell(f"{what} is back")

    def _pause(self, wait_s: float) -> None:
        until_s = time.monotonic() + wait_s
        while not self._stopping and (left_s := until_s - time.monotonic()) > 0:
            time.sleep(min(left_s, 0.2))

    def _look_for_holes(self) -> None:
        """Tell of streams whose watermark has stood before a hole since the last look."""
        try:
            behind = self._store.behind()
        except DatabaseUnavailableError as error:
            self._database_lost(error)
            return
        stuck = {key for key, watermark in behind.items() if self._behind.get(key) == watermark}
        for device, stream in sorted(stuck - self._stuck):
            self._tell(
                f"{device}: event {behind[device, stream] + 1} of stream {stream[:8]} has been "
                f"missing for {_STUCK_S / 60:.0f} minutes; it comes when the device sends again, "
                "see docs/ingest.md, Holes"
            )
        self._behind, self._stuck = behind, stuck

    def summary(self) -> str:
        """Return what was done so far, one line."""
        counts = self.counts
        return (
            f"{counts['stored']} stored, {counts['duplicates']} came again, "
            f"{counts['alarms']} alarms, {counts['rejected']} rejected"
        )

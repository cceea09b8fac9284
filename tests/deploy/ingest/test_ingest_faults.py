"""`earmark-deploy ingest` as its own process, killed and deprived: every row once, none missing."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from deploy.ingest.database import DatabaseUnavailableError, open_database
from deploy.ingest.service import IngestOptions
from deploy.ingest.subscriber import Subscriber
from edge.errors import EarmarkError
from edge.memory import family, resident_mb
from edge.messaging import Messenger, Outbox
from edge.messaging.broker import BrokerOptions
from edge.messaging.connection import Connection, open_connection
from edge.messaging.events import SCHEMA, Ingested, Sighting, encode
from edge.messaging.flow import Acknowledgement
from edge.messaging.local_broker import Mosquitto
from edge.messaging.topics import Topics

pytestmark = pytest.mark.slow
STREAM = "6f0c" * 8
TOPICS = Topics("barn-7")

# Kills itself, as kill -9 would, before or after the commit number N of a batch with sightings.
SUICIDE = """
import os, signal
from contextlib import contextmanager
from deploy.cli import entry
from deploy.ingest import {module} as module
whole = module.{kind}.transaction
many = module.{kind}.execute_many
count = 0
wrote = False
def execute_many(self, sql, rows):
    global wrote
    rows = list(rows)
    wrote = wrote or ("INTO sighting" in sql and bool(rows))
    many(self, sql, rows)
@contextmanager
def transaction(self):
    global count, wrote
    wrote = False
    with whole(self):
        yield
        count += wrote
        if wrote and count == {number} and {before}:
            os.kill(os.getpid(), signal.SIGKILL)
    if wrote and count == {number}:
        os.kill(os.getpid(), signal.SIGKILL)
module.{kind}.execute_many = execute_many
module.{kind}.transaction = transaction
entry()
"""


class Device:
    """Publishes events of barn-7 over one connection, as fast as the broker takes them."""

    def __init__(self, url: str, sighting: Callable[..., Sighting]) -> None:
        self._connection: Connection = open_connection(BrokerOptions(url), "barn-7")
        self._sighting = sighting

    def send(self, *seqs: int, **changes: object) -> None:
        waiting = {
            self._connection.publish(
                TOPICS.sighting,
                encode(self._sighting(seq, **changes)),
                retain=False,
            )
            for seq in seqs
        }
        self._settle(waiting)

    def say(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self._settle({self._connection.publish(topic, payload, retain=retain)})

    def _settle(self, waiting: set[int]) -> None:
        while waiting:
            for ack in self._connection.turn(5.0):
                assert ack.failure is None
                waiting.discard(ack.ticket)

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def device(mosquitto: Mosquitto, sighting) -> Iterator[Device]:
    device = Device(mosquitto.url, sighting)
    yield device
    device.close()


def stored(url: str) -> list[int]:
    """The seqs in the database, in order, each as often as it is there; none before the tables."""
    try:
        database = open_database(url, read_only=True)
    except EarmarkError:
        return []
    try:
        return [row[0] for row in database.execute("SELECT seq FROM sighting ORDER BY seq")]
    except DatabaseUnavailableError:
        return []
    finally:
        database.close()


def count(url: str) -> int:
    """How many rows there are, cheaper than all of them."""
    try:
        database = open_database(url, read_only=True)
    except EarmarkError:
        return 0
    try:
        return int(database.execute("SELECT count(*) FROM sighting")[0][0])
    except DatabaseUnavailableError:
        return 0
    finally:
        database.close()


def told(subscriber) -> list[int]:
    """The watermarks that barn-7 was told, as they came."""
    return [
        json.loads(message.payload)["seq"]
        for message in subscriber.messages
        if message.topic == TOPICS.ingest
    ]


def listening(url: str, device: Device, patient) -> None:
    """Wait until ingest's subscription stands, which a first event shows."""
    device.send(1)
    patient(lambda: device.send(1) or count(url))


def test_sightings_and_alarms_are_stored_and_the_device_is_told(
    mosquitto, device, subscribe, ingest, database_url, patient, gap_record
):
    subscriber = subscribe(mosquitto.port)
    process = ingest("--broker", mosquitto.url, "--db", database_url, "--acknowledge-every", "0.1")
    listening(database_url, device, patient)
    device.send(2, 3, 7)
    device.say(TOPICS.sighting, b"\xff rubbish")
    patient(lambda: told(subscriber)[-1:] == [3])
    device.say(TOPICS.alarm, encode(gap_record(4, 6, 3).alarm))
    patient(lambda: told(subscriber)[-1:] == [7])
    assert process.terminate() == 0
    assert "4 stored" in process.words
    assert "1 rejected" in process.words
    assert "barn-7: a message was rejected (Sighting: " in process.words
    assert stored(database_url) == [1, 2, 3, 7]
    database = open_database(database_url)
    assert database.execute("SELECT kind FROM alarm") == [("outbox-gap",)]
    ((why, payload),) = database.execute("SELECT why, payload FROM rejected")
    assert "malformed" in why
    assert bytes(payload) == b"\xff rubbish"
    database.close()
    # Retained: a device that was away hears of it when it comes back.
    late = subscribe(mosquitto.port)
    patient(lambda: told(late) == [7])


def test_a_device_that_waits_for_ingest_from_now_on_keeps_nothing_behind_what_the_broker_took(
    mosquitto, ingest, tmp_path, patient, make_event, wait_until, monkeypatch
):
    monkeypatch.setattr("edge.messaging.flow._FIRST_STALL_S", 0.5)

    def barn(ack: Acknowledgement, outbox: Outbox) -> Messenger:
        messenger = Messenger(BrokerOptions(mosquitto.url), "barn-7", "b7", outbox, ack=ack)
        messenger.start()
        messenger.publish([make_event() for _ in range(10)])
        return messenger

    with Outbox(tmp_path / "outbox.db") as outbox:
        first = barn("broker", outbox)
        wait_until(lambda: outbox.last_seq == 10 and outbox.depth == 0)
        first.stop(10)
    url = str(tmp_path / "sightings.db")
    process = ingest("--broker", mosquitto.url, "--db", url, "--acknowledge-every", "0.1")
    with Outbox(tmp_path / "outbox.db") as outbox:
        second = barn("ingest", outbox)
        patient(lambda: outbox.last_seq == 20 and outbox.depth == 0 and not outbox.has_gap)
        assert (second.stop(10), outbox.lost) == (0, 0)
    assert stored(url) == list(range(11, 21))
    assert process.terminate() == 0
    database = open_database(url)
    assert database.execute("SELECT first_seq, last_seq, lost, why FROM gap") == [
        (1, 10, 0, "outbox-passed-on")
    ]
    database.close()


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("number", [1, 2, 4])
def test_killed_around_its_commit_every_row_is_there_once(
    mosquitto, device, subscribe, ingest, database_url, patient, number, before
):
    kind, module = (
        ("Postgres", "postgres") if database_url.startswith("postgres") else ("Sqlite", "sqlite")
    )
    script = SUICIDE.format(kind=kind, module=module, number=number, before=before)
    arguments = ("--broker", mosquitto.url, "--db", database_url, "--acknowledge-every", "0.1")
    subscriber = subscribe(mosquitto.port)
    begun = ingest(*arguments)
    listening(database_url, device, patient)
    begun.terminate()
    process = ingest(*arguments, script=script)
    seq = 1
    while process.ended is None:
        device.send(*range(seq + 1, seq + 21))
        seq += 20
        time.sleep(0.02)
    assert process.ended == -signal.SIGKILL
    ingest(*arguments)
    patient(lambda: count(database_url) >= seq)
    assert stored(database_url) == list(range(1, seq + 1))
    patient(lambda: told(subscriber)[-1:] == [seq])
    assert told(subscriber) == sorted(told(subscriber))


def test_killed_at_random_instants_every_row_is_there_once(
    mosquitto, device, ingest, database_url, patient
):
    rng = random.Random(6)
    arguments = ("--broker", mosquitto.url, "--db", database_url)
    process = ingest(*arguments)
    listening(database_url, device, patient)
    seq = 1
    for _ in range(8):
        until_s = time.monotonic() + rng.uniform(0.0, 0.4)
        while time.monotonic() < until_s:
            device.send(*range(seq + 1, seq + 11))
            seq += 10
        process.kill()
        device.send(seq + 1)
        seq += 1
        process = ingest(*arguments)
        # Far enough that something can be interrupted.
        there = count(database_url)
        patient(lambda there=there: count(database_url) > there)
    patient(lambda: count(database_url) >= seq)
    assert stored(database_url) == list(range(1, seq + 1))
    assert process.ended is None


def test_it_outlives_a_killed_broker_and_tells_the_device_again(
    start_mosquitto, sighting, subscribe, ingest, database_url, patient, tmp_path
):
    broker = start_mosquitto("persistence true", f"persistence_location {tmp_path}/")
    device = Device(broker.url, sighting)
    process = ingest("--broker", broker.url, "--db", database_url, "--acknowledge-every", "0.1")
    listening(database_url, device, patient)
    device.send(2, 3)
    patient(lambda: stored(database_url) == [1, 2, 3])
    # What a broker without a moment to save anything leaves is nothing: no session, no retained.
    os.kill(broker._process.pid, signal.SIGKILL)
    broker.stop()
    patient(lambda: "trying again" in process.words)
    broker.start()
    subscriber = subscribe(broker.port)
    patient(lambda: told(subscriber)[-1:] == [3])
    device = Device(broker.url, sighting)
    device.send(3, 4, replayed=True)
    patient(lambda: stored(database_url) == [1, 2, 3, 4])
    patient(lambda: told(subscriber)[-1:] == [4])
    device.close()
    assert "broker is back" in process.words
    assert process.terminate() == 0


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGQUIT], ids=["stopped", "crashed"])
def test_postgresql_may_go_and_come_back(
    mosquitto, device, ingest, postgres, postgres_url, patient, sign
):
    process = ingest("--broker", mosquitto.url, "--db", postgres_url)
    listening(postgres_url, device, patient)
    postgres.stop(sign)
    try:
        device.send(*range(2, 1500))
        patient(lambda: "trying again" in process.words)
        assert process.ended is None
    finally:
        postgres.start()
    device.send(1500)
    patient(lambda: count(postgres_url) >= 1500)
    assert stored(postgres_url) == list(range(1, 1501))
    assert process.words.count("trying again") == 1
    assert "database is back" in process.words


def test_a_frozen_postgresql_delays_but_loses_nothing(
    mosquitto, device, subscribe, ingest, postgres, postgres_url, patient
):
    subscriber = subscribe(mosquitto.port)
    process = ingest(
        *("--broker", mosquitto.url, "--db", postgres_url, "--acknowledge-every", "0.1")
    )
    listening(postgres_url, device, patient)
    # The server first, so that it starts no more of them.
    os.kill(postgres.pid, signal.SIGSTOP)
    frozen = family(postgres.pid)
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    try:
        device.send(*range(2, 300))
        time.sleep(0.5)
        assert told(subscriber)[-1:] in ([], [1])
    finally:
        # The server last: it would bury those that ended meanwhile.
        for pid in reversed(frozen):
            os.kill(pid, signal.SIGCONT)
    patient(lambda: count(postgres_url) >= 299)
    assert stored(postgres_url) == list(range(1, 300))
    assert process.ended is None


def test_while_the_database_is_away_the_broker_keeps_what_is_beyond_the_window(
    mosquitto, device, ingest, postgres, postgres_url, patient
):
    """The memory of ingest does not grow with what is waiting."""
    process = ingest("--broker", mosquitto.url, "--db", postgres_url)
    listening(postgres_url, device, patient)
    # While the window fills is no time to measure: how far it is depends on the machine.
    before = resident_mb(process.pid)[1]
    postgres.stop()
    try:
        device.send(*range(2, 1200))
        patient(lambda: "trying again" in process.words)
        for begin in range(1200, 6_000, 1200):
            device.send(*range(begin, begin + 1200))
        after = resident_mb(process.pid)[1]
    finally:
        postgres.start()
    # The window and the failure itself are three megabytes; 5,000 events more would be four more.
    assert after - before < 5
    patient(lambda: count(postgres_url) >= 5_999)
    assert stored(postgres_url) == list(range(1, 6_000))


def test_two_share_the_work_each_row_is_there_once(
    mosquitto, device, subscribe, ingest, database_url, patient
):
    subscriber = subscribe(mosquitto.port)
    arguments = ("--broker", mosquitto.url, "--db", database_url, "--share", "ingest")
    arguments = (*arguments, "--acknowledge-every", "0.1")
    pair = [ingest(*arguments, "--name", f"ingest-{number}") for number in (1, 2)]
    listening(database_url, device, patient)
    rng = random.Random(7)
    seq = 1
    for number in range(6):
        device.send(*range(seq + 1, seq + 201))
        seq += 200
        time.sleep(rng.uniform(0.0, 0.1))
        pair[number % 2].kill()
        pair[number % 2] = ingest(*arguments, "--name", f"ingest-{number % 2 + 1}")
        for watermark in told(subscriber)[-1:]:
            assert stored(database_url)[:watermark] == list(range(1, watermark + 1))
    patient(lambda: count(database_url) >= seq)
    assert stored(database_url) == list(range(1, seq + 1))
    patient(lambda: told(subscriber)[-1:] == [seq])
    for process in pair:
        assert process.terminate() == 0


@pytest.mark.parametrize("cleanly", [True, False], ids=["stopped", "killed"])
def test_one_of_two_that_goes_for_good_does_not_keep_its_share(
    mosquitto, device, subscribe, ingest, patient, tmp_path, cleanly
):
    # With a database of its own it shows that it has joined the group, and what it was dealt.
    path, other = str(tmp_path / "s.db"), str(tmp_path / "other.db")
    subscriber = subscribe(mosquitto.port)
    arguments = ("--broker", mosquitto.url, "--share", "ingest")
    # A clean stop must not need the end of the session.
    session_s = 3600 if cleanly else 2
    script = (
        f"from deploy.ingest import service; service.SHARED_SESSION_S = {session_s}; "
        "from deploy.cli import entry; entry()"
    )
    stays = (*arguments, "--db", path, "--name", "stays", "--acknowledge-every", "0.1")
    ingest(*stays, script=script)
    listening(path, device, patient)
    goes = ingest(*(*arguments, "--db", other, "--name", "goes", "--no-acknowledge"), script=script)
    patient(lambda: device.send(1, 2) or count(other))
    if cleanly:
        assert goes.terminate() == 0
    else:
        goes.kill()
    # An even number: dealt in turn to two, every repetition takes each event the same way.
    seq = 22
    device.send(*range(3, seq + 1))

    def repeated() -> bool:
        device.send(*range(1, seq + 1), replayed=True)
        time.sleep(0.3)
        return told(subscriber)[-1:] == [seq]

    patient(repeated)
    assert stored(path) == list(range(1, seq + 1))


def test_a_fresh_database_does_not_wait_for_what_the_device_has_deleted(
    mosquitto, device, subscribe, ingest, patient, tmp_path
):
    first, second = str(tmp_path / "first.db"), str(tmp_path / "second.db")
    arguments = ("--broker", mosquitto.url, "--acknowledge-every", "0.1")
    subscriber = subscribe(mosquitto.port)
    process = ingest(*arguments, "--db", first)
    listening(first, device, patient)
    device.send(2, 3)
    patient(lambda: told(subscriber)[-1:] == [3])
    process.terminate()
    ingest(*arguments, "--db", second)
    device.send(4)
    patient(lambda: told(subscriber)[-1:] == [4])
    assert stored(second) == [4]


@pytest.mark.parametrize("kept", [0, 3], ids=["fresh", "restored"])
def test_the_word_that_is_retained_is_read_before_a_backlog_and_never_set_back(
    mosquitto, device, subscribe, ingest, patient, tmp_path, kept
):
    """The database knows less than the broker: events 1 to `kept` of 5000, and none at all."""
    path = str(tmp_path / "s.db")
    arguments = ("--broker", mosquitto.url, "--acknowledge-every", "0.1")
    process = ingest(*arguments, "--db", path)
    listening(path, device, patient)
    if kept:
        device.send(*range(2, kept + 1))
        patient(lambda: count(path) == kept)
    assert process.terminate() == 0
    if not kept:
        path = str(tmp_path / "fresh.db")
    word = Ingested(schema=SCHEMA, device="barn-7", stream=STREAM, seq=5000)
    device.say(TOPICS.ingest, encode(word), retain=True)
    device.send(*range(5001, 6501))
    subscriber = subscribe(mosquitto.port)
    # A database that is slow over the backlog: what it says meanwhile would take the word's place.
    script = (
        "import time; from deploy.ingest import store; whole = store.Store._write\n"
        "def slow(self, records):\n    time.sleep(0.3); return whole(self, records)\n"
        "store.Store._write = slow; from deploy.cli import entry; entry()"
    )
    ingest(*arguments, "--db", path, script=script)
    patient(lambda: told(subscriber)[-1:] == [6500])
    assert told(subscriber) == sorted(told(subscriber))
    assert told(subscriber)[0] == 5000


def test_words_that_the_broker_withholds_are_not_overwritten(
    start_mosquitto, sighting, ingest, patient, tmp_path
):
    """With check_retain_source, mosquitto hides what somebody said who may say it no more."""
    acl, path = tmp_path / "acl", str(tmp_path / "s.db")
    rules = "topic readwrite earmark/v1/#\n"
    acl.write_text(f"user old\n{rules}user new\n{rules}user barn-7\n{rules}")
    broker = start_mosquitto(f"acl_file {acl}", "check_retain_source true")
    old = open_connection(BrokerOptions(broker.url, username="old", password="x"), "old")
    word = Ingested(schema=SCHEMA, device="barn-7", stream=STREAM, seq=5000)
    ticket = old.publish(TOPICS.ingest, encode(word), retain=True)
    assert [ack.ticket for ack in old.turn(5.0)] == [ticket]
    old.close()
    acl.write_text(f"user new\n{rules}user barn-7\n{rules}")
    assert broker._process is not None
    broker._process.send_signal(signal.SIGHUP)
    password = tmp_path / "password"
    password.write_text("x")
    arguments = ("--broker", broker.url, "--username", "new", "--password-file", str(password))
    process = ingest(*arguments, "--db", path, "--acknowledge-every", "0.1")
    device = open_connection(BrokerOptions(broker.url, username="barn-7", password="x"), "barn-7")

    def sent() -> int:
        device.publish(TOPICS.sighting, encode(sighting(5001)), retain=False)
        device.turn(0.2)
        return count(path)

    patient(sent)
    assert process.terminate() == 0
    # Whoever may speak again is heard again.
    acl.write_text(f"user old\n{rules}user barn-7\n{rules}")
    broker._process.send_signal(signal.SIGHUP)
    heard: list[bytes] = []
    device.close()
    device = open_connection(
        BrokerOptions(broker.url, username="barn-7", password="x"),
        "barn-7",
        on_message=lambda message: heard.append(message.payload),
    )
    device.subscribe(TOPICS.ingest)
    patient(lambda: device.turn(0.1) or heard)
    device.close()
    assert json.loads(heard[0])["seq"] == 5000


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (IngestOptions(), IngestOptions(share="a"), (4, 1)),
        (IngestOptions(), IngestOptions(acknowledge_every_s=None), (8, 0)),
        (IngestOptions(acknowledge_every_s=None), IngestOptions(), (8, 1)),
    ],
    ids=["shared", "copy", "counts"],
)
def test_a_session_with_other_options_forgets_what_it_wanted(
    mosquitto, device, before, after, expected
):
    """As with the kit, where the certificate is the session's name. expected: events, words."""
    broker = BrokerOptions(mosquitto.url)
    Subscriber(broker, "db-1", before.filters, session_s=before.session_s).close()
    other = Subscriber(broker, "db-2", after.filters)
    one = Subscriber(
        *(broker, "db-1", after.filters), unwanted=after.unwanted, session_s=after.session_s
    )
    device.send(*range(1, 9))
    device.say(TOPICS.ingest, b"{}")
    arrived = []
    # The broker answers in order: what comes before this has all come.
    device.say(TOPICS.alarm, b"last")
    device.say(TOPICS.alarm, b"last")
    while not any(arrival.payload == b"last" for arrival in arrived):
        more = one.turn(5.0)
        assert more
        one.acknowledge(more)
        arrived += more
    arrived += one.turn(0.3)
    leaves = [arrival.topic.rpartition("/")[2] for arrival in arrived]
    assert (leaves.count("sighting"), leaves.count("ingest")) == expected
    one.close()
    other.close()


def test_numbers_that_are_given_out_twice_are_told_and_the_second_events_kept_aside(
    mosquitto, device, subscribe, ingest, patient, tmp_path
):
    path = str(tmp_path / "s.db")
    process = ingest("--broker", mosquitto.url, "--db", path, "--acknowledge-every", "0.1")
    listening(path, device, patient)
    subscriber = subscribe(mosquitto.port)
    device.send(2, 3)
    patient(lambda: told(subscriber)[-1:] == [3])
    before = len(told(subscriber))
    device.send(2, id="01JD" + "Z" * 22)
    patient(lambda: "barn-7: a message was rejected (another event of this" in process.words)
    # The device is told again how far it is, or it would send for ever.
    patient(lambda: len(told(subscriber)) > before)
    assert stored(path) == [1, 2, 3]
    assert process.terminate() == 0
    assert "3 stored" in process.words
    assert "1 rejected" in process.words


def test_a_copy_tells_the_devices_nothing(mosquitto, device, subscribe, ingest, patient, tmp_path):
    path = str(tmp_path / "copy.db")
    subscriber = subscribe(mosquitto.port)
    process = ingest("--broker", mosquitto.url, "--db", path, "--no-acknowledge", "--name", "copy")
    listening(path, device, patient)
    device.send(2)
    patient(lambda: stored(path) == [1, 2])
    assert process.terminate() == 0
    assert told(subscriber) == []


def test_two_of_one_name_lose_nothing_and_are_told_what_is_wrong(
    mosquitto, device, ingest, patient, tmp_path
):
    path = str(tmp_path / "s.db")
    pair = [ingest("--broker", mosquitto.url, "--db", path)]
    listening(path, device, patient)
    pair.append(ingest("--broker", mosquitto.url, "--db", path))
    patient(lambda: any("own --name" in process.words for process in pair))
    device.send(2)
    patient(lambda: count(path) == 2)
    assert stored(path) == [1, 2]


def test_a_broker_that_says_no_is_one_line_and_code_1(start_mosquitto, ingest, tmp_path):
    broker = start_mosquitto(anonymous=False)
    process = ingest("--broker", broker.url, "--db", str(tmp_path / "s.db"))
    assert process.wait() == 1
    assert "not authorised" in process.words
    assert process.words.count("\n") == 1


def test_holes_are_listed_and_given_up_on_the_command_line(
    mosquitto, device, subscribe, ingest, patient, tmp_path
):
    path = str(tmp_path / "s.db")
    process = ingest("--broker", mosquitto.url, "--db", path, "--acknowledge-every", "0.1")
    listening(path, device, patient)
    device.send(4, 5)
    patient(lambda: stored(path) == [1, 4, 5])
    listed = ingest("--db", path, "--holes")
    assert listed.wait() == 0
    assert listed.words == f"barn-7\t{STREAM}\t2\t3\n"
    given_up = ingest("--db", path, "--give-up", "barn-7")
    assert given_up.wait() == 0
    assert "2 events of barn-7 counted as lost" in given_up.words
    subscriber = subscribe(mosquitto.port)
    device.send(6)
    patient(lambda: told(subscriber)[-1:] == [6])
    assert process.ended is None


def test_holes_of_a_database_that_is_not_there_make_no_file(ingest, tmp_path):
    process = ingest("--db", str(tmp_path / "none.db"), "--holes")
    assert process.wait() == 2
    assert not (tmp_path / "none.db").exists()

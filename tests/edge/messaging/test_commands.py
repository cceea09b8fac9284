"""The judge of commands: what is executed, what is answered, and what costs nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.messaging.commands import (
    COMMAND_LIMIT_BYTES,
    COMMANDS,
    CommandDesk,
    LevelArguments,
    Order,
    Outcome,
    Ruling,
    SnapshotArguments,
)
from edge.messaging.connection import Message
from edge.messaging.events import (
    PAYLOAD_LIMIT_BYTES,
    Reply,
    ReplyError,
    decode,
    encode,
    timestamp,
)
from edge.messaging.login import MQTT_5, MQTT_311

NOON = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
GOOD: dict[str, Any] = {
    "schema": 1,
    "id": "a-1",
    "name": "identify",
    "args": {},
    "not_after": "2026-11-24T12:00:30.000Z",
}


class Clocks:
    """Monotonic seconds, and the wall time of a device that has one."""

    def __init__(self) -> None:
        self.s = 100.0
        self.wall: datetime | None = NOON

    def wait(self, seconds: float) -> None:
        self.s += seconds
        if self.wall is not None:
            self.wall += timedelta(seconds=seconds)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def make_desk(clocks: Clocks, **options: Any) -> CommandDesk:
    return CommandDesk("barn-7", "b7", clock=lambda: clocks.s, now=lambda: clocks.wall, **options)


@pytest.fixture
def desk(clocks: Clocks) -> CommandDesk:
    return make_desk(clocks)


def message(
    payload: bytes | None = None,
    *,
    retained: bool = False,
    expires_s: int | None = 30,
    protocol: int = MQTT_5,
    correlation: bytes | None = None,
    **changes: Any,
) -> Message:
    """A good command, or one with `changes`, or `payload` as it is."""
    if payload is None:
        payload = json.dumps({**GOOD, **changes}).encode()
    return Message(
        "earmark/v1/barn-7/down/command",
        payload,
        retained,
        expires_s=expires_s,
        correlation=correlation,
        protocol=protocol,
    )


def refusal(ruling: Ruling) -> ReplyError | None:
    """The error it answers; every refusal that is answered executes nothing."""
    assert ruling.order is None
    assert ruling.reply is not None
    assert not ruling.reply.ok
    assert (ruling.reply.device, ruling.reply.boot) == ("barn-7", "b7")
    return ruling.reply.error


# -- what is executed ------------------------------------------------------------------------------


def test_a_good_command_becomes_an_order_and_says_nothing_yet(desk: CommandDesk) -> None:
    ruling = desk.rule(message(correlation=b"x1"))
    assert ruling.order is not None
    assert (ruling.order.id, ruling.order.name) == ("a-1", "identify")
    assert ruling.order.correlation == b"x1"
    assert (ruling.reply, ruling.alarm) == (None, None)
    assert (desk.accepted, desk.refused) == (1, {})


def test_arguments_come_typed_and_with_defaults(desk: CommandDesk) -> None:
    level = desk.rule(message(id="1", name="set_log_level", args={"level": "debug"}))
    assert level.order is not None
    assert level.order.arguments == LevelArguments(level="debug")
    still = desk.rule(message(id="2", name="snapshot", args={"camera": "pen-3"}))
    assert still.order is not None
    assert still.order.arguments == SnapshotArguments(camera="pen-3", width=640)


def test_every_command_has_a_schema_of_its_arguments() -> None:
    assert set(COMMANDS) == {
        "identify",
        "restart",
        "reload",
        "set_log_level",
        "snapshot",
        "means",
        "check_update",
    }
    for kind in COMMANDS.values():
        assert msgspec.json.schema(kind)["$defs"][kind.__name__]["additionalProperties"] is False


def test_what_became_of_it_is_told_with_its_id(desk: CommandDesk) -> None:
    order = desk.rule(message()).order
    assert order is not None
    reply = desk.done(order, Outcome(text="5 told again", result={"sightings": 5}))
    assert decode(encode(reply), Reply) == reply
    assert (reply.id, reply.ok, reply.error) == ("a-1", True, None)
    assert reply.result == {"sightings": 5}
    failed = desk.done(order, Outcome("failed", "x" * 900))
    assert (failed.ok, failed.error, len(failed.text)) == (False, "failed", 500)


# -- what is ignored -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"retained": True}, "retained"),
        ({"payload": b" " * (COMMAND_LIMIT_BYTES + 1)}, "oversize"),
        ({"payload": b""}, "malformed"),
        ({"payload": b"null"}, "malformed"),
        ({"payload": b"\xff\xfe{}"}, "malformed"),
        ({"payload": b'{"args":' * 2000}, "malformed"),
        ({"payload": b"[" * COMMAND_LIMIT_BYTES}, "malformed"),
        ({"payload": json.dumps(GOOD).encode()[:-1]}, "malformed"),
        ({"schema": 2}, "malformed"),
        ({"schema": True}, "malformed"),
        ({"id": ""}, "malformed"),
        ({"id": "a\n"}, "malformed"),
        ({"id": "../etc"}, "malformed"),
        ({"id": "x" * 65}, "malformed"),
        ({"id": 7}, "malformed"),
        ({"name": "rm -rf"}, "malformed"),
        ({"name": None}, "malformed"),
        ({"args": []}, "malformed"),
        ({"args": {"a": {"b": 1}}}, "malformed"),
        ({"args": {"a": "x" * 201}}, "malformed"),
        ({"args": {f"k{'x' * n}": 1 for n in range(9)}}, "malformed"),
        ({"not_after": "tomorrow"}, "malformed"),
        ({"not_after": "2026-99-99T99:99:99.999Z"}, "malformed"),
        ({"not_after": None}, "malformed"),
        ({"user": "me"}, "malformed"),
    ],
)
def test_what_is_no_command_is_counted_and_not_answered(
    desk: CommandDesk, changes: dict[str, Any], reason: str
) -> None:
    ruling = desk.rule(message(**changes))
    assert (ruling.order, ruling.reply) == (None, None)
    assert ruling.alarm == f"1 commands refused: 1 {reason}"
    assert (desk.accepted, desk.refused) == (0, {reason: 1})


def test_a_retained_command_does_not_use_its_id_up(desk: CommandDesk) -> None:
    assert desk.rule(message(retained=True)).order is None
    assert desk.rule(message()).order is not None


# -- expiry and clocks -----------------------------------------------------------------------------


def test_without_message_expiry_mqtt_5_is_refused(desk: CommandDesk) -> None:
    assert refusal(desk.rule(message(expires_s=None))) == "no-expiry"


def test_not_after_decides_alone_where_the_protocol_knows_no_expiry(
    desk: CommandDesk, clocks: Clocks
) -> None:
    assert desk.rule(message(expires_s=None, protocol=MQTT_311)).order is not None
    clocks.wait(31)
    late = message(id="b", expires_s=None, protocol=MQTT_311)
    assert refusal(desk.rule(late)) == "expired"


def test_a_command_is_late_to_the_millisecond(desk: CommandDesk, clocks: Clocks) -> None:
    clocks.wall = NOON + timedelta(seconds=30)
    assert desk.rule(message()).order is not None
    clocks.wall += timedelta(milliseconds=1)
    assert refusal(desk.rule(message(id="b"))) == "expired"


def test_while_the_clock_is_not_set_only_message_expiry_is_believed(
    desk: CommandDesk, clocks: Clocks
) -> None:
    clocks.wall = None
    assert desk.rule(message(not_after="2020-01-01T00:00:00.000Z")).order is not None
    assert refusal(desk.rule(message(id="b", expires_s=None))) == "no-expiry"
    old = message(id="c", expires_s=None, protocol=MQTT_311)
    assert refusal(desk.rule(old)) == "clock-unsynced"


# -- what is answered with an error ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"name": "self_destruct"}, "unknown-command"),
        ({"name": "identify", "args": {"loud": True}}, "bad-arguments"),
        ({"name": "set_log_level"}, "bad-arguments"),
        ({"name": "set_log_level", "args": {"level": "loud"}}, "bad-arguments"),
        ({"name": "set_log_level", "args": {"level": 10}}, "bad-arguments"),
        ({"name": "snapshot", "args": {"camera": "../pen"}}, "bad-arguments"),
        ({"name": "snapshot", "args": {"width": 100_000}}, "bad-arguments"),
        ({"name": "snapshot", "args": {"width": "640"}}, "bad-arguments"),
        ({"name": "restart"}, "not-allowed"),
    ],
)
def test_a_command_that_cannot_be_is_answered_with_why(
    clocks: Clocks, changes: dict[str, Any], error: str
) -> None:
    desk = make_desk(clocks, forbidden=frozenset({"restart"}))
    ruling = desk.rule(message(correlation=b"c", **changes))
    assert refusal(ruling) == error
    assert ruling.correlation == b"c"
    assert ruling.reply is not None
    assert ruling.reply.text
    assert desk.refused == {error: 1}


def test_an_endless_correlation_is_not_carried_back(desk: CommandDesk) -> None:
    order = desk.rule(message(correlation=b"x" * 129)).order
    assert order is not None
    assert order.correlation is None


# -- once ------------------------------------------------------------------------------------------


def test_a_repeated_command_gets_its_first_reply_and_is_not_executed(desk: CommandDesk) -> None:
    order = desk.rule(message()).order
    assert order is not None
    underway = desk.rule(message())
    assert (underway.order, underway.reply) == (None, None)
    reply = desk.done(order, Outcome(text="done"))
    again = desk.rule(message(correlation=b"2"))
    assert (again.order, again.reply, again.correlation) == (None, reply, b"2")
    assert (desk.accepted, desk.repeated, desk.refused) == (1, 2, {})


def test_a_repetition_is_answered_even_when_its_time_has_passed(
    desk: CommandDesk, clocks: Clocks
) -> None:
    order = desk.rule(message()).order
    assert order is not None
    reply = desk.done(order, Outcome())
    clocks.wait(3600)
    assert desk.rule(message()).reply == reply


def test_what_an_earlier_run_executed_is_not_executed_again(desk: CommandDesk) -> None:
    desk.remember("a-1", Outcome(text="restarted"))
    ruling = desk.rule(message(name="restart"))
    assert ruling.order is None
    assert ruling.reply is not None
    assert (ruling.reply.ok, ruling.reply.text) == (True, "restarted")


def test_what_nobody_had_time_for_may_be_sent_again(desk: CommandDesk) -> None:
    order = desk.rule(message()).order
    assert order is not None
    assert desk.put_off(order).error == "busy"
    assert desk.rule(message()).order is not None


def test_the_last_256_ids_are_remembered(desk: CommandDesk, clocks: Clocks) -> None:
    clocks.wall = None
    for number in range(300):
        clocks.wait(1)
        order = desk.rule(message(id=f"n{number}")).order
        assert order is not None
        desk.done(order, Outcome())
    clocks.wait(10)
    assert desk.rule(message(id="n44")).reply is not None
    assert desk.rule(message(id="n43")).order is not None


def test_of_pictures_only_the_last_is_kept(desk: CommandDesk, clocks: Clocks) -> None:
    picture = {"jpeg": "A" * 100_000}
    orders: list[Order] = []
    for number in range(3):
        order = desk.rule(message(id=f"n{number}")).order
        assert order is not None
        orders.append(order)
        assert desk.done(order, Outcome(result=dict(picture))).result == picture
    replies = [desk.rule(message(id=order.id)).reply for order in orders]
    assert [len(encode(reply)) > 100_000 for reply in replies] == [False, False, True]
    assert all(reply is not None and reply.ok for reply in replies)


# -- floods ----------------------------------------------------------------------------------------


def test_beyond_the_rate_nothing_is_executed_answered_or_remembered(
    desk: CommandDesk, clocks: Clocks
) -> None:
    rulings = [desk.rule(message(id=f"n{number}", name="reload")) for number in range(10_000)]
    assert sum(ruling.order is not None for ruling in rulings) == 10
    assert all(ruling.reply is None for ruling in rulings)
    assert [ruling.alarm for ruling in rulings if ruling.alarm] == ["1 commands refused: 1 rate"]
    assert desk.refused == {"rate": 9_990}
    clocks.wait(2)
    after = [desk.rule(message(id=f"m{number}")).order is not None for number in range(4)]
    assert after == [True, True, False, False]


def test_refusals_and_repetitions_are_held_to_the_rate_as_well(desk: CommandDesk) -> None:
    replies = [desk.rule(message(name="nonsense")).reply for _ in range(100)]
    assert sum(reply is not None for reply in replies) == 10
    again = make_desk(Clocks())
    order = again.rule(message()).order
    assert order is not None
    again.done(order, Outcome())
    assert sum(again.rule(message()).reply is not None for _ in range(100)) == 9


def test_garbage_keeps_nobody_from_commanding(desk: CommandDesk) -> None:
    for _ in range(1000):
        desk.rule(message(payload=b"{"))
        desk.rule(message(retained=True))
    assert desk.rule(message()).order is not None


def test_one_alarm_a_minute_counts_what_came_meanwhile(desk: CommandDesk, clocks: Clocks) -> None:
    alarms = []
    for _ in range(121):
        for payload in (b"{", b"[", b" " * 20_000):
            alarms.append(desk.rule(message(payload=payload)).alarm)
        clocks.wait(1)
    told = [alarm for alarm in alarms if alarm]
    assert told == [
        "1 commands refused: 1 malformed",
        "180 commands refused: 120 malformed, 60 oversize",
        "180 commands refused: 120 malformed, 60 oversize",
    ]


# -- whatever comes --------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=10,
)
WRONG: dict[str, st.SearchStrategy[Any]] = {
    "schema": JSON.filter(lambda value: value is True or value != 1),
    "id": st.text(max_size=80).filter(lambda text: not text.isascii() or " " in text)
    | JSON.filter(lambda value: not isinstance(value, str)),
    "name": st.text(max_size=40).filter(lambda text: text not in COMMANDS)
    | JSON.filter(lambda value: not isinstance(value, str)),
    "args": JSON.filter(lambda value: value != {}),
    "not_after": JSON | st.just("2026-11-24T11:59:59.999Z"),
}


def _broken(field: str) -> st.SearchStrategy[bytes]:
    return WRONG[field].map(lambda value: json.dumps({**GOOD, field: value}).encode())


MALFORMED = st.one_of(
    st.binary(max_size=200),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.sampled_from(sorted(WRONG)).flatmap(_broken),
    st.sampled_from(sorted(GOOD)).map(
        lambda field: json.dumps({k: v for k, v in GOOD.items() if k != field}).encode()
    ),
    st.text(min_size=1, max_size=8)
    .filter(lambda text: text not in GOOD)
    .map(lambda key: json.dumps({**GOOD, key: 1}).encode()),
    st.integers(1, 5000).map(lambda depth: b"[" * depth + b"]" * depth),
    st.integers(1, 2500).map(
        lambda depth: (
            json.dumps(GOOD)
            .replace('"args": {}', '"args": ' + '{"a":' * depth + "1" + "}" * depth)
            .encode()
        )
    ),
    st.binary(min_size=1, max_size=20).map(
        lambda junk: json.dumps(GOOD).encode()[:40] + b"\xff" + junk
    ),
    st.sampled_from([1, 16, 64, 1024]).map(lambda kb: b"{" * 1024 * kb),
)


@pytest.mark.slow
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_ten_thousand_malformed_commands_execute_nothing(data: st.DataObject) -> None:
    clocks = Clocks()
    desk = make_desk(clocks)
    payloads = data.draw(st.lists(MALFORMED, min_size=100, max_size=100))
    for payload in payloads:
        clocks.wait(0.01)
        for protocol, expires_s in ((MQTT_5, 30), (MQTT_5, None), (MQTT_311, None)):
            ruling = desk.rule(message(payload, protocol=protocol, expires_s=expires_s))
            assert ruling.order is None, payload
            assert ruling.reply is None or not ruling.reply.ok
            assert ruling.reply is None or len(encode(ruling.reply)) < PAYLOAD_LIMIT_BYTES
    assert desk.accepted == 0
    assert sum(desk.refused.values()) == 300


@pytest.fixture
def counted() -> Iterator[Callable[[], int]]:
    import tracemalloc

    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()


def test_a_flood_leaves_the_memory_flat(
    desk: CommandDesk, clocks: Clocks, counted: Callable[[], int]
) -> None:
    payloads = [b"\xff" * 200, b'{"a":' * 500, json.dumps(GOOD).encode() + b"x", b"{" * 20_000]

    def flood(start: int) -> None:
        for number in range(start, start + 1000):
            clocks.wait(0.001)
            desk.rule(message(payloads[number % len(payloads)]))
            desk.rule(message(id=f"flood-{number}", not_after=timestamp(NOON)))

    flood(0)
    before = counted()
    flood(1000)
    assert counted() - before < 64 * 1024

"""Which commands a device takes, and the judge of every message that claims to be one.

Pure: nothing is executed, sent or read here. Whoever may publish to `down/command` can send
anything at any rate, so whatever comes costs a bounded time and leaves the memory flat.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Literal, get_args

import msgspec

from edge.messaging.connection import Message
from edge.messaging.events import (
    SCHEMA,
    Command,
    Id,
    PayloadError,
    Reply,
    ReplyError,
    ResultValue,
    decode,
    encode,
)
from edge.messaging.login import MQTT_5
from edge.messaging.retry import Rate

COMMAND_LIMIT_BYTES = 16 * 1024
_CORRELATION_LIMIT_BYTES = 128
_REMEMBERED = 256
_HEAVY_BYTES = 4 * 1024
_BURST = 10
_PER_S = 1.0
_ALARM_EVERY_S = 60.0

Level = Literal["debug", "info", "warning", "error"]
# Why a message is not even answered: there is no id to trust, or answers are what it is after.
Ignored = Literal["retained", "oversize", "malformed", "rate"]
IGNORED: tuple[Ignored, ...] = get_args(Ignored)
# With what the judge itself answers; the other errors are an order's, once it is carried out.
REFUSED: tuple[ReplyError, ...] = (
    *("no-expiry", "expired", "clock-unsynced"),
    *("unknown-command", "bad-arguments", "not-allowed", "busy"),
)


class _Arguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every command's arguments: immutable, unknown ones refused."""


class NoArguments(_Arguments, frozen=True):
    """For commands that take none."""


class LevelArguments(_Arguments, frozen=True):
    """level: from which on log lines are written, until the next restart."""

    level: Level


class SnapshotArguments(_Arguments, frozen=True):
    """camera: which one; may be left out where there is one. width: of the picture, pixels."""

    camera: Id | None = None
    width: Annotated[int, msgspec.Meta(ge=160, le=1280)] = 640


COMMANDS: dict[str, type[_Arguments]] = {
    "identify": NoArguments,
    "restart": NoArguments,
    "reload": NoArguments,
    "set_log_level": LevelArguments,
    "snapshot": SnapshotArguments,
    "means": NoArguments,
    "check_update": NoArguments,
}


@dataclass(frozen=True, slots=True)
class Order:
    """A command that was found good, to be executed once. correlation: what its reply carries."""

    id: str
    name: str
    arguments: _Arguments
    correlation: bytes | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an order: done when `error` is None. text, result: see `Reply`."""

    error: ReplyError | None = None
    text: str = ""
    result: dict[str, ResultValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ruling:
    """What is to be done about one message; all three may be None.

    order: to be executed. reply: to be sent at once, with `correlation`. alarm: text of an alarm.
    """

    order: Order | None = None
    reply: Reply | None = None
    correlation: bytes | None = None
    alarm: str | None = None


class CommandDesk:
    """Judges every message on `down/command`, and remembers what was answered.

    In this order, so that the cheapest and the most telling refusals come first:

    1. ignored without an answer: retained (it would be executed again at every connection),
       larger than 16 kB, not a `Command`, or beyond ten at once and one a second;
    2. a known id: the reply of the first time again, nothing is executed twice;
    3. `no-expiry`: MQTT 5 without Message Expiry. The broker counts that down, so it is right
       whatever this device's clock says. MQTT 3.1.1 has none, there `not_after` decides alone;
    4. `clock-unsynced`, `expired`: by `not_after`. While the clock is not set `not_after` says
       nothing: then Message Expiry is all there is, and without it (3.1.1) the answer is no;
    5. `unknown-command`, `bad-arguments`, `not-allowed`.

    device, boot: for the replies. forbidden: commands that the settings do not allow. clock:
    monotonic seconds; now: wall time, None while it is not set. Thread-safe. What is not a command
    costs no token: nobody is kept from commanding a device by garbage.
    """

    def __init__(
        self,
        device: str,
        boot: str,
        *,
        forbidden: frozenset[str] = frozenset(),
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime | None],
    ) -> None:
        self._device, self._boot = device, boot
        self._forbidden = forbidden
        self._clock, self._now = clock, now
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Reply | None] = OrderedDict()
        self._heavy: str | None = None
        self._rate = Rate(_PER_S, clock, burst=_BURST)
        self._refused: Counter[str] = Counter()
        self._accepted = self._repeated = 0
        self._untold: Counter[str] = Counter()
        self._alarm_from_s = float("-inf")

    @property
    def accepted(self) -> int:
        """How many commands were found good; those put off are among them."""
        return self._accepted

    @property
    def repeated(self) -> int:
        """How many were known already and not executed again."""
        return self._repeated

    @property
    def refused(self) -> Mapping[str, int]:
        """How many were refused, by reason: an `Ignored` or a `ReplyError`."""
        with self._lock:
            return dict(self._refused)

    def rule(self, message: Message) -> Ruling:
        """Judge one message; it never raises."""
        with self._lock:
            return self._rule(message)

    def done(self, order: Order, outcome: Outcome) -> Reply:
        """Return the reply to an order that was executed; it answers repetitions as well."""
        with self._lock:
            reply = self._reply(order.id, outcome)
            self._remember(order.id, reply)
            return reply

    def put_off(self, order: Order) -> Reply:
        """Return the reply to an order that nobody has time for; it may be sent again."""
        with self._lock:
            self._known.pop(order.id, None)
            self._refused["busy"] += 1
            return self._reply(order.id, Outcome("busy", "too many commands wait; send it again"))

    def remember(self, command: str, outcome: Outcome) -> None:
        """Take note of a command's id that an earlier run has executed."""
        with self._lock:
            self._remember(command, self._reply(command, outcome))

    def _rule(self, message: Message) -> Ruling:
        if message.retained:
            return self._ignore("retained")
        if len(message.payload) > COMMAND_LIMIT_BYTES:
            return self._ignore("oversize")
        try:
            command = decode(message.payload, Command)
            not_after = datetime.fromisoformat(command.not_after)
        except (PayloadError, ValueError, OverflowError):
            return self._ignore("malformed")
        if not self._rate.allowed():
            return self._ignore("rate")
        self._rate.use(1)
        correlation = message.correlation
        if correlation is not None and len(correlation) > _CORRELATION_LIMIT_BYTES:
            correlation = None
        if command.id in self._known:
            self._repeated += 1
            return Ruling(reply=self._known[command.id], correlation=correlation)
        late = self._lateness(message, not_after)
        if late is not None:
            return self._refuse(command, late, correlation)
        kind = COMMANDS.get(command.name)
        if kind is None:
            known = ", ".join(COMMANDS)
            return self._refuse(
                command, Outcome("unknown-command", f"this device knows {known}"), correlation
            )
        try:
            arguments = msgspec.convert(command.args, kind)
        except msgspec.ValidationError as error:
            return self._refuse(command, Outcome("bad-arguments", str(error)[:500]), correlation)
        if command.name in self._forbidden:
            text = "switched off in this device's agent.yaml (commands)"
            return self._refuse(command, Outcome("not-allowed", text), correlation)
        self._accepted += 1
        self._remember(command.id, None)
        return Ruling(order=Order(command.id, command.name, arguments, correlation))

    def _lateness(self, message: Message, not_after: datetime) -> Outcome | None:
        """Return why the time has passed, or cannot be told; None while a command is in time."""
        versioned = message.protocol == MQTT_5
        if versioned and message.expires_s is None:
            return Outcome("no-expiry", "send it with a Message Expiry Interval (MQTT 5)")
        now = self._now()
        if now is None:
            if versioned:
                return None
            return Outcome("clock-unsynced", "without MQTT 5 and a set clock no expiry is known")
        if now > not_after:
            return Outcome("expired", "not_after has passed by this device's clock")
        return None

    def _ignore(self, reason: Ignored) -> Ruling:
        return Ruling(alarm=self._count(reason))

    def _refuse(self, command: Command, outcome: Outcome, correlation: bytes | None) -> Ruling:
        assert outcome.error is not None
        return Ruling(
            reply=self._reply(command.id, outcome),
            correlation=correlation,
            alarm=self._count(outcome.error),
        )

    def _count(self, reason: str) -> str | None:
        """Count a refusal; return the text of an alarm when one is due, at most one a minute."""
        self._refused[reason] += 1
        self._untold[reason] += 1
        if self._clock() < self._alarm_from_s:
            return None
        self._alarm_from_s = self._clock() + _ALARM_EVERY_S
        told, self._untold = self._untold, Counter()
        reasons = ", ".join(f"{count} {why}" for why, count in told.most_common())
        return f"{told.total()} commands refused: {reasons}"

    def _reply(self, command: str, outcome: Outcome) -> Reply:
        return Reply(
            schema=SCHEMA,
            device=self._device,
            boot=self._boot,
            id=command,
            ok=outcome.error is None,
            error=outcome.error,
            text=outcome.text[:500],
            result=outcome.result,
        )

    def _remember(self, command: str, reply: Reply | None) -> None:
        self._known[command] = reply
        self._known.move_to_end(command)
        if reply is not None and len(encode(reply)) > _HEAVY_BYTES:
            # Of pictures only the last is kept: a hundred would be megabytes.
            heavy = None if self._heavy is None else self._known.get(self._heavy)
            if self._heavy is not None and heavy is not None and self._heavy != command:
                self._known[self._heavy] = msgspec.structs.replace(
                    heavy, result={}, text="done; the result is not kept any more"
                )
            self._heavy = command
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

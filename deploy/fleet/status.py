"""`earmark-deploy status`: every device of a broker, from what it last said of itself."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.table import Table
from rich.text import Text

from deploy.board import BadMessage, printable, read_message
from edge.messaging.broker import BrokerOptions
from edge.messaging.connection import Message, open_connection
from edge.messaging.events import Availability, StateReport, UpdateReport
from edge.messaging.topics import ROOT

# Retained, one each a device; nothing else is looked at.
_FILTERS = tuple(f"{ROOT}/+/up/{leaf}" for leaf in ("availability", "state", "update"))
# Whoever may publish could make up names.
_DEVICES = 20_000
# The broker does not say which retained message is the last; silence for so long does.
_QUIET_S = 0.7
_LOW_DISK_MB = 500
_STYLES = {"online": "green", "offline": "red", "stopped": "yellow"}


@dataclass(slots=True)
class Known:
    """What one device last said of itself."""

    availability: Availability | None = None
    state: StateReport | None = None
    update: UpdateReport | None = None

    @property
    def seen(self) -> str | None:
        """When it last spoke, as far as it has told."""
        times = [said.at for said in (self.state, self.update) if said is not None and said.at]
        return max(times, default=None)


@dataclass(slots=True)
class Fleet:
    """All devices by id; bad: messages that were no use, by reason."""

    devices: dict[str, Known] = field(default_factory=dict)
    bad: Counter[str] = field(default_factory=Counter)

    def observe(self, topic: str, data: bytes) -> None:
        """Take in one message of a device."""
        try:
            payload = read_message(topic, data)
        except BadMessage as error:
            self.bad[str(error)] += 1
            return
        name = getattr(payload, "device", "")
        if name not in self.devices and len(self.devices) >= _DEVICES:
            self.bad["of more devices than there can be"] += 1
            return
        known = self.devices.setdefault(name, Known())
        match payload:
            case Availability():
                known.availability = payload
            case StateReport():
                known.state = payload
            case UpdateReport():
                known.update = payload


def ask(broker: BrokerOptions, wait_s: float, clock: Callable[[], float] = time.monotonic) -> Fleet:
    """Return what the broker keeps of every device, asking for `wait_s` seconds at most.

    BrokerRefused where this user may not read it, BrokerUnreachable.
    """
    fleet = Fleet()
    heard_s = clock()

    def hear(message: Message) -> None:
        nonlocal heard_s
        heard_s = clock()
        fleet.observe(message.topic, message.payload)

    connection = open_connection(broker, f"earmark-status-{uuid.uuid4().hex[:8]}", on_message=hear)
    try:
        for topics in _FILTERS:
            connection.subscribe(topics)
        end_s = clock() + wait_s
        heard_s = clock()
        while (left_s := min(heard_s + _QUIET_S, end_s) - clock()) > 0:
            connection.turn(left_s)
    except BaseException:
        connection.abandon()
        raise
    connection.close()
    return fleet


def as_json(fleet: Fleet) -> str:
    """Return every device as an object of an array; what it has not told is null."""
    rows = [_fields(name, known) for name, known in sorted(fleet.devices.items())]
    return msgspec.json.format(msgspec.json.encode(rows), indent=1).decode()


def _fields(name: str, known: Known) -> dict[str, Any]:
    state, update = known.state, known.update
    return {
        "device": name,
        "status": None if known.availability is None else known.availability.status,
        "agent": state and state.agent,
        "release": update.release if update is not None else state and state.release,
        "means_seq": state and state.means_seq,
        "backend": state and state.backend,
        "degraded": state and state.degraded,
        "last_seen": known.seen,
        "outbox": state and state.outbox.depth,
        "lost": state and state.outbox.lost,
        "disk_free_mb": state and state.disk_free_mb,
        "update": update and update.phase,
        "update_reason": update and update.reason,
        "update_text": update and update.text,
        "candidate": update and update.candidate,
        "progress": update and update.progress,
        "closed": update and update.closed,
    }


def table(fleet: Fleet, now: datetime) -> Table:
    """Draw every device as a line."""
    drawn = Table(
        title=_title(fleet), title_justify="left", caption=_caption(fleet), caption_justify="left"
    )
    for column in ("device", "status", "release", "backend"):
        drawn.add_column(column)
    for column in ("means", "last seen", "outbox", "disk free"):
        drawn.add_column(column, justify="right")
    drawn.add_column("update")
    for name, known in sorted(fleet.devices.items()):
        row = _fields(name, known)
        drawn.add_row(
            name,
            Text(row["status"] or "?", style=_STYLES.get(row["status"] or "", "")),
            _text(row["release"]),
            _backend(row),
            _text(row["means_seq"]),
            _ago(known, now),
            _outbox(row),
            _disk(row["disk_free_mb"]),
            _update(row),
        )
    return drawn


def _backend(row: dict[str, Any]) -> Text:
    text = _text(row["backend"])
    if row["degraded"]:
        text.append(" degraded", style="yellow")
    return text


def _outbox(row: dict[str, Any]) -> Text:
    text = _text(row["outbox"])
    if row["lost"]:
        text.append(f" {row['lost']} lost", style="yellow")
    return text


def _disk(free_mb: int | None) -> Text:
    if free_mb is None:
        return Text("–")
    return Text(f"{free_mb / 1000:.1f} GB", style="red" if free_mb < _LOW_DISK_MB else "")


def _update(row: dict[str, Any]) -> Text:
    if row["update"] is None:
        return Text("–")
    words = [row["update"]]
    if row["progress"] is not None:
        words.append(f"{row['progress']:.0%}")
    if row["candidate"] and row["update"] != "idle":
        words.append(row["candidate"])
    if row["update_reason"]:
        words.append(f"({row['update_reason']})")
    if row["closed"]:
        words.append("closed")
    bad = row["closed"] or row["update"] in ("rejected", "rolled_back")
    return Text(printable(" ".join(words)), style="yellow" if bad else "")


def _ago(known: Known, now: datetime) -> str:
    if known.availability is not None and known.availability.status == "online":
        return "now"
    if known.seen is None:
        return "–"
    moment = datetime.fromisoformat(known.seen)
    seconds = (now.astimezone(UTC) - moment).total_seconds()
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)} {unit} ago"
    return "just now"


def _text(value: object) -> Text:
    return Text("–" if value is None else printable(str(value)))


def _title(fleet: Fleet) -> str:
    counts = Counter(
        "?" if known.availability is None else known.availability.status
        for known in fleet.devices.values()
    )
    parts = [f"{count} {status}" for status, count in counts.most_common()]
    return f"{len(fleet.devices)} devices" + (f": {', '.join(parts)}" if parts else "")


def _caption(fleet: Fleet) -> str | None:
    if not fleet.bad:
        return None
    reasons = ", ".join(f"{count} {why}" for why, count in fleet.bad.most_common())
    return printable(f"{fleet.bad.total()} messages ignored: {reasons}")

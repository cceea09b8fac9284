"""Who is where, as far as the messages of a broker tell: untrusted bytes in, a table out."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from datetime import datetime

import msgspec
from rich.table import Table
from rich.text import Text

from edge.messaging.events import (
    PAYLOADS,
    Alarm,
    Availability,
    LastSeen,
    PayloadError,
    Sighting,
    StateReport,
    decode,
)
from edge.messaging.topics import is_doctors, parse_topic

# Anybody who may publish could fill the memory with made-up names.
_ROWS = 5000
_DEVICES = 1000

_STYLES = {"here": "green", "gone": "dim", "nameless": "yellow", "offline": "red"}


class BadMessage(Exception):  # noqa: N818 - not an error of ours
    """A message that is not one of earmark's; its text is a word for the count."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. state: `here`, `gone`, or `nameless` for a track without a name."""

    device: str
    camera: str
    animal: str
    confidence: float
    last_seen: str | None
    state: str


@dataclass(slots=True)
class Device:
    """What is known of a device: availability, and its last state report."""

    status: str = "?"
    report: StateReport | None = None


@dataclass(slots=True)
class Board:
    """Keeps what the table shows, bounded whatever arrives; `bad` counts what was no use."""

    rows: OrderedDict[tuple[str, ...], Row] = field(default_factory=OrderedDict)
    devices: OrderedDict[str, Device] = field(default_factory=OrderedDict)
    bad: Counter[str] = field(default_factory=Counter)
    alarm: Alarm | None = None

    def observe(self, topic: str, data: bytes) -> msgspec.Struct | None:
        """Take in one message; return its payload, or None when it was bad and is counted.

        What a doctor tries to publish says nothing, and is passed over.
        """
        if is_doctors(topic):
            return None
        try:
            payload = read_message(topic, data)
        except BadMessage as error:
            self.bad[str(error)] += 1
            return None
        match payload:
            case Availability():
                self._device(payload.device).status = payload.status
            case StateReport():
                self._device(payload.device).report = payload
            case Alarm():
                self.alarm = payload
            case LastSeen():
                self._put(
                    (payload.device, payload.animal),
                    Row(
                        payload.device,
                        payload.camera,
                        payload.animal,
                        payload.confidence,
                        payload.last_seen,
                        "here" if payload.present else "gone",
                    ),
                )
            case Sighting():
                self._track(payload)
        return payload

    def table(self, rows: int) -> Table:
        """Draw at most `rows` lines: those who are here first."""
        table = Table(title=self._title(), caption=self._caption(), expand=True)
        for name in ("device", "camera", "animal"):
            table.add_column(name)
        table.add_column("confidence", justify="right")
        table.add_column("last seen", justify="right")
        table.add_column("state")
        order = {"here": 0, "nameless": 1, "gone": 2}
        ranked = sorted(
            self.rows.values(), key=lambda row: (order[row.state], row.device, row.animal)
        )
        for row in ranked[:rows]:
            device = self.devices.get(row.device)
            away = device is not None and device.status == "offline"
            state = "offline" if away else row.state
            table.add_row(
                row.device,
                row.camera,
                row.animal,
                f"{row.confidence:.0%}",
                local_time(row.last_seen),
                Text(state, style=_STYLES[state]),
            )
        if len(ranked) > rows:
            table.add_row("…", "", f"{len(ranked) - rows} more", "", "", "")
        return table

    def bad_summary(self) -> str:
        """Return the counts of bad messages as text, empty when there were none."""
        if not self.bad:
            return ""
        reasons = ", ".join(f"{count} {why}" for why, count in self.bad.most_common())
        return f"{self.bad.total()} messages ignored: {reasons}"

    def _track(self, event: Sighting) -> None:
        """Named animals come from `up/animal`; a sighting shows those whom nobody can name."""
        key = (event.device, event.camera, str(event.track))
        if event.type == "end" or event.reason is None:
            self.rows.pop(key, None)
            return
        row = Row(
            event.device,
            event.camera,
            f"({event.reason})",
            event.confidence,
            event.last_seen,
            "nameless",
        )
        self._put(key, row)

    def _put(self, key: tuple[str, ...], row: Row) -> None:
        self.rows[key] = row
        self.rows.move_to_end(key)
        if len(self.rows) > _ROWS:
            self.rows.popitem(last=False)

    def _device(self, name: str) -> Device:
        device = self.devices.setdefault(name, Device())
        self.devices.move_to_end(name)
        if len(self.devices) > _DEVICES:
            self.devices.popitem(last=False)
        return device

    def _title(self) -> Text:
        parts = []
        for name, device in sorted(self.devices.items())[:4]:
            text = f"{name} {device.status}"
            if device.report is not None:
                text += f" · {device.report.backend} · MQTT {device.report.protocol}"
                if device.report.outbox.depth:
                    text += f" · {device.report.outbox.depth} waiting"
            parts.append(text)
        if len(self.devices) > 4:
            parts.append(f"{len(self.devices) - 4} devices more")
        return Text(printable("   ".join(parts) or "no device has spoken yet"))

    def _caption(self) -> Text:
        parts = []
        if self.alarm is not None:
            parts.append(f"alarm {self.alarm.device}: {self.alarm.kind}: {self.alarm.text}")
        if self.bad:
            parts.append(self.bad_summary())
        return Text(printable("\n".join(parts)), style="yellow")


def read_message(topic: str, data: bytes) -> msgspec.Struct:
    """Return the payload of a message; BadMessage when topic or payload are not as they should."""
    address = parse_topic(topic)
    if address is None:
        raise BadMessage("on foreign topics")
    try:
        payload = decode(data, PAYLOADS[address.kind])
    except PayloadError as error:
        raise BadMessage(f"bad {address.kind} payloads") from error
    if getattr(payload, "device", None) != address.device:
        raise BadMessage("in another device's name")
    if address.animal is not None and getattr(payload, "animal", None) != address.animal:
        raise BadMessage("in another animal's name")
    return payload


def printable(text: str) -> str:
    """Return `text` without control characters: what arrives must not steer the terminal."""
    return "".join(char for char in text if char.isprintable() or char == "\n")


def local_time(stamp: str | None) -> str:
    """Return a payload's time as local `HH:MM:SS`, `–` when the device's clock is not set."""
    if stamp is None:
        return "–"
    try:
        return datetime.fromisoformat(stamp).astimezone().strftime("%H:%M:%S")
    except (ValueError, OverflowError):
        return stamp

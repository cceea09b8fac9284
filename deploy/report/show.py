"""Stays and last signs as a table for people, as CSV and as JSON for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import Any

import msgspec
from rich.table import Table

from deploy.report.presence import Stay
from deploy.report.query import LastSign

STAY_COLUMNS = ("animal", "device", "camera", "from", "to", "minutes", "state", "approximate")
SIGN_COLUMNS = (
    *("animal", "last_seen", "hours_ago", "device", "camera", "approximate", "device_last_heard"),
)


def stay_fields(stay: Stay, zone: tzinfo) -> dict[str, Any]:
    """Return a stay by STAY_COLUMNS; times are ISO 8601 in `zone`."""
    return {
        "animal": stay.animal,
        "device": stay.device,
        "camera": stay.camera,
        "from": _iso(stay.begin, zone),
        "to": _iso(stay.end, zone),
        "minutes": round((stay.end - stay.begin).total_seconds() / 60, 1),
        "state": stay.state,
        "approximate": stay.approximate,
    }


def sign_fields(sign: LastSign, now: datetime, zone: tzinfo) -> dict[str, Any]:
    """Return a last sign by SIGN_COLUMNS; None for what is not known."""
    return {
        "animal": sign.animal,
        "last_seen": _iso(sign.at, zone),
        "hours_ago": None if sign.at is None else round(_hours(now - sign.at), 1),
        "device": sign.device,
        "camera": sign.camera,
        "approximate": sign.approximate,
        "device_last_heard": _iso(sign.device_heard, zone),
    }


def as_json(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as a JSON array."""
    return msgspec.json.format(msgspec.json.encode(rows), indent=1).decode()


def as_csv(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    """Return rows as CSV (RFC 4180) with a header; what is not known is empty."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\r\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return out.getvalue()


def stay_table(found: Sequence[Stay], zone: tzinfo, title: str) -> Table:
    """Draw stays; `~` marks times of a device whose clock was not set."""
    table = Table(title=title, title_justify="left")
    for name in ("animal", "device", "camera", "from", "to"):
        table.add_column(name)
    table.add_column("for", justify="right")
    table.add_column("")
    say = _clock_of(found, lambda stay: [stay.begin, stay.end], zone)
    for stay in found:
        about = "~" if stay.approximate else ""
        table.add_row(
            stay.animal,
            stay.device,
            stay.camera,
            about + say(stay.begin),
            about + say(stay.end),
            span_text(stay.end - stay.begin),
            stay.state,
            style=None if stay.state == "here" else "dim",
        )
    return table


def sign_table(
    found: Sequence[LastSign], now: datetime, zone: tzinfo, title: str, silent: timedelta
) -> Table:
    """Draw last signs; a device that has been silent for longer than `silent` is marked."""
    table = Table(title=title, title_justify="left")
    for name in ("animal", "last seen", "ago", "device", "camera", "device last heard"):
        table.add_column(name, justify="right" if name == "ago" else "left")
    for sign in found:
        if sign.at is None:
            table.add_row(sign.animal, "never", "", "", "", "")
            continue
        heard = sign.device_heard
        gone = heard is not None and now - heard > silent
        table.add_row(
            sign.animal,
            ("~" if sign.approximate else "") + f"{sign.at.astimezone(zone):%d %b %H:%M}",
            span_text(now - sign.at),
            sign.device,
            sign.camera,
            "" if heard is None else f"{heard.astimezone(zone):%d %b %H:%M}",
            style="yellow" if gone else None,
        )
    return table


def _clock_of(
    found: Sequence[Stay], moments: Callable[[Stay], list[datetime]], zone: tzinfo
) -> Callable[[datetime], str]:
    """Return how to print times: without the day when all are of one."""
    days = {moment.astimezone(zone).date() for stay in found for moment in moments(stay)}
    form = "%H:%M:%S" if len(days) == 1 else "%d %b %H:%M"
    return lambda moment: moment.astimezone(zone).strftime(form)


def span_text(span: timedelta) -> str:
    """Return a span for people: `37 s`, `12 min`, `3 h 05`, `4 days`."""
    minutes = int(span.total_seconds() // 60)
    if minutes < 1:
        return f"{int(span.total_seconds())} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d}"
    return f"{minutes // (24 * 60)} days"


def _hours(span: timedelta) -> float:
    return span.total_seconds() / 3600


def _iso(moment: datetime | None, zone: tzinfo) -> str | None:
    return None if moment is None else moment.astimezone(zone).isoformat(timespec="seconds")


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else value

"""`earmark-deploy report`."""

from __future__ import annotations

import argparse
import os
import re
import sys
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from deploy.connecting import Commands
from deploy.ingest.database import DEFAULT, HELP, Database, open_database
from edge.errors import UsageError
from edge.messaging.topics import check_id

if TYPE_CHECKING:
    from deploy.report.presence import Stay

_LOCAL_TIME = Path("/etc/localtime")
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_SPAN = re.compile(r"(\d+(?:\.\d+)?) ?(s|m|min|h|d)")


def add_parser(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "report",
        parents=[common],
        help="say who was where and when, or who has not been seen for hours",
        description="Read the database that ingest fills: who was where and when (the last day, "
        "unless told otherwise), or with --not-seen-for who is missing.",
    )
    parser.add_argument("--db", default=DEFAULT, metavar="URL", help=HELP)
    parser.add_argument("--animal", action="append", default=[], metavar="ID", help="only this")
    parser.add_argument("--camera", action="append", default=[], metavar="ID", help="only this")
    parser.add_argument(
        "--since", metavar="TIME", help="24h (ago), 2026-11-24 or 2026-11-24T06:00; 24h"
    )
    parser.add_argument("--until", metavar="TIME", help="likewise; now")
    parser.add_argument(
        "--not-seen-for", type=_span, metavar="SPAN", help="who has not been seen for 12h, 2d, …"
    )
    parser.add_argument(
        "--herd",
        type=Path,
        metavar="F",
        help="ids, one a line, of animals that are missing even if they never were seen",
    )
    parser.add_argument(
        "--merge",
        type=_span,
        default=timedelta(minutes=1),
        metavar="SPAN",
        help="join stays before one camera that are at most so far apart (1m)",
    )
    parser.add_argument(
        "--time-zone", metavar="NAME", help="such as Europe/Berlin; this machine's by default"
    )
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--csv", action="store_true", help="as CSV, for spreadsheets")
    shape.add_argument("--json", action="store_true", help="as a JSON array")
    shape.add_argument("--picture", type=Path, metavar="FILE.png", help="as a timeline")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from deploy.ingest.schema import check

    zone = _zone(options.time_zone)
    now = datetime.now(UTC)
    for what, ids in (("animal", options.animal), ("camera", options.camera)):
        for each in ids:
            check_id(what, each)
    if options.picture is not None and options.not_seen_for is not None:
        raise UsageError("--picture shows who was where; --not-seen-for is a list")
    since = _moment(options.since, now, zone) if options.since else now - timedelta(days=1)
    until = _moment(options.until, now, zone) if options.until else now
    if since >= until:
        raise UsageError("--since must lie before --until")
    database = open_database(options.db, read_only=True)
    try:
        check(database)
        if options.not_seen_for is not None:
            _missing(database, options, now, zone)
        else:
            _present(database, options, since, until, zone)
    finally:
        database.close()
    return 0


def _present(
    database: Database,
    options: argparse.Namespace,
    since: datetime,
    until: datetime,
    zone: tzinfo,
) -> None:
    from deploy.report.presence import clipped, merged
    from deploy.report.query import stays_between
    from deploy.report.show import STAY_COLUMNS, as_csv, as_json, stay_fields, stay_table

    found = clipped(stays_between(database, since, until, options.camera), since, until)
    if options.animal:
        found = [stay for stay in found if stay.animal in options.animal]
    found = merged(found, options.merge)
    title = f"Who was where, {_said(since, until, zone)}"
    rows = [stay_fields(stay, zone) for stay in found]
    if options.csv:
        sys.stdout.write(as_csv(rows, STAY_COLUMNS))
    elif options.json:
        print(as_json(rows))
    elif options.picture is not None:
        _draw(options.picture, found, since, until, zone, title, options.animal)
    else:
        _print(stay_table(found, zone, title) if found else f"{title}: nobody was seen")


def _draw(
    path: Path,
    found: list[Stay],
    since: datetime,
    until: datetime,
    zone: tzinfo,
    title: str,
    animals: list[str],
) -> None:
    import cv2

    from deploy.report.picture import draw_timeline
    from edge.files import write_atomically

    if path.suffix.lower() != ".png":
        raise UsageError(f"{path}: give a name that ends in .png")
    picture = draw_timeline(found, since, until, zone, title=title, animals=animals)
    done, data = cv2.imencode(".png", picture[..., ::-1])
    assert done
    write_atomically(path, data.tobytes())
    print(path)


def _missing(database: Database, options: argparse.Namespace, now: datetime, zone: tzinfo) -> None:
    from deploy.report.query import last_signs
    from deploy.report.show import (
        SIGN_COLUMNS,
        as_csv,
        as_json,
        sign_fields,
        sign_table,
        span_text,
    )

    herd = [] if options.herd is None else _read_herd(options.herd)
    found = [
        sign
        for sign in last_signs(database, [*herd, *options.animal])
        if (sign.at is None or now - sign.at >= options.not_seen_for)
        and (not options.animal or sign.animal in options.animal)
        and (not options.camera or sign.camera in options.camera)
    ]
    never = datetime.min.replace(tzinfo=UTC)
    found.sort(key=lambda sign: (sign.at or never, sign.animal))
    rows = [sign_fields(sign, now, zone) for sign in found]
    local = now.astimezone(zone)
    title = f"Not seen for {span_text(options.not_seen_for)}, at {local:%d %b %Y %H:%M %Z}"
    if options.csv:
        sys.stdout.write(as_csv(rows, SIGN_COLUMNS))
    elif options.json:
        print(as_json(rows))
    elif found:
        _print(sign_table(found, now, zone, title, options.not_seen_for))
    else:
        _print(f"{title}: nobody; every known animal was seen since")


def _print(what: object) -> None:
    from rich.console import Console

    Console(highlight=False).print(what)


def _said(since: datetime, until: datetime, zone: tzinfo) -> str:
    begin, end = since.astimezone(zone), until.astimezone(zone)
    return f"{begin:%d %b %Y %H:%M} to {end:%d %b %Y %H:%M} {end:%Z}"


def _zone(name: str | None) -> tzinfo:
    if name is None and not (name := os.environ.get("TZ", "").lstrip(":")):
        return _machine_zone()
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UsageError(
            f"--time-zone {name!r}: not known here; write it like Europe/Berlin"
        ) from error


def _machine_zone() -> tzinfo:
    """Return this machine's zone with its summer times; failing that, today's offset."""
    try:
        with _LOCAL_TIME.open("rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError):
        local = datetime.now().astimezone().tzinfo
        assert local is not None
        return local


def _moment(text: str, now: datetime, zone: tzinfo) -> datetime:
    """Read `24h` (ago), or an ISO date or time, in `zone` unless it names its own."""
    if _SPAN.fullmatch(text):
        return now - _span(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{text!r}: write 24h, 2026-11-24 or 2026-11-24T06:00") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    return moment.astimezone(UTC)


def _span(text: str) -> timedelta:
    match = _SPAN.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError("write a span like 90s, 30m, 12h or 2d")
    try:
        return timedelta(seconds=float(match[1]) * _UNITS[match[2]])
    except OverflowError as error:
        raise argparse.ArgumentTypeError("too long a span") from error


def _read_herd(path: Path) -> list[str]:
    try:
        words = path.read_text(encoding="utf-8").split()
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file of ids") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not a text file; put one id on each line") from error
    return [check_id("animal", word) for word in words]

"""`run/update.json`: what the updater says of itself; the agent publishes it as `up/update`."""

from __future__ import annotations

from pathlib import Path

from edge.durable import UNFINISHED
from edge.messaging.events import (
    EVENT_LIMIT_BYTES,
    PayloadError,
    UpdateReport,
    decode,
    encode,
)

_PATH = ("run", "update.json")


def report_path(root: Path) -> Path:
    """Return where the report of a store's updater lies."""
    return root.joinpath(*_PATH)


def write_report(root: Path, report: UpdateReport) -> None:
    """Replace the report by rename, not synced: what must last is in the journal. Raises OSError.

    PayloadError for one that nobody could read.
    """
    data = encode(report)
    decode(data, UpdateReport)
    path = report_path(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}{UNFINISHED}")
    temporary.write_bytes(data)
    temporary.replace(path)


def read_report(root: Path) -> UpdateReport | None:
    """Return the last report; None when there is none that can be read."""
    try:
        with report_path(root).open("rb") as stream:
            return decode(stream.read(EVENT_LIMIT_BYTES + 1), UpdateReport)
    except (OSError, PayloadError):
        return None

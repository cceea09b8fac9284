"""The state folder: writable, with room, and how much waits in it."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

from edge.doctor.verdict import Verdict

_LEAST_FREE_MB = 500.0
_MANY = 10_000


def storage(folder: Path) -> Iterator[Verdict]:
    """Say whether events can wait on disk."""
    existing = folder
    while not existing.exists():
        existing = existing.parent
    free_mb = shutil.disk_usage(existing).free / 1e6
    if not _writable(existing):
        yield Verdict(
            "fail", "storage", f"{folder}: this user cannot write there", "give it to the user"
        )
        return
    text = f"{folder}: {free_mb:,.0f} MB free"
    if free_mb < _LEAST_FREE_MB:
        yield Verdict("warn", "storage", text, "make room: events that wait for the broker need it")
    else:
        yield Verdict("ok", "storage", text)
    outbox = folder / "outbox.db"
    if outbox.exists():
        yield from _outbox(outbox)


def _writable(folder: Path) -> bool:
    with contextlib.suppress(OSError), tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(b"x")
        probe.flush()
        os.fsync(probe.fileno())
        return True
    return False


def agent_runs(folder: Path) -> bool:
    """Say whether an agent holds this state folder's outbox."""
    try:
        _depth(folder / "outbox.db")
    except sqlite3.Error as error:
        return "locked" in str(error)
    return False


def _depth(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        (depth,) = database.execute("SELECT count(*) FROM event").fetchone()
    return int(depth)


def _outbox(path: Path) -> Iterator[Verdict]:
    """Look into the outbox of an agent that does not run; one that does holds it for itself."""
    try:
        depth = _depth(path)
    except sqlite3.Error as error:
        if "locked" in str(error):
            yield Verdict("ok", "outbox", "in use: an agent runs; its state says how much waits")
            return
        yield Verdict("warn", "outbox", f"{path}: cannot be read: {error}")
        return
    if depth > _MANY:
        yield Verdict("warn", "outbox", f"{depth} events wait", "is the broker reachable?")
    else:
        yield Verdict("ok", "outbox", f"{depth} events wait")

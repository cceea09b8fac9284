"""`run/agent.json`: what the agent says of itself every second to whoever tries a release on it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edge.durable import UNFINISHED

SCHEMA = 1
_PATH = ("run", "agent.json")
_MAX_BYTES = 16 << 10


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A running agent.

    boot: the id of this start of the agent. release: what it runs, trial: whether that has yet to
    prove itself, since_s: for how many seconds it has been running. frames, named, unknown: frames
    processed and tracks settled with a name and without, since then. error: why a release on
    trial could not be run. at_monotonic_s: when this was written, on the machine's monotonic clock.
    """

    schema: int = SCHEMA
    pid: int
    boot: str
    release: str
    trial: bool
    since_s: float
    frames: int
    named: int
    unknown: int
    backend: str
    degraded: bool
    error: str | None
    at_monotonic_s: float


def heartbeat_path(root: Path) -> Path:
    """Return where the heartbeat of a store's agent lies."""
    return root.joinpath(*_PATH)


def write_heartbeat(root: Path, heartbeat: Heartbeat) -> None:
    """Replace the heartbeat by rename, not synced: it is of this moment only. Raises OSError."""
    path = heartbeat_path(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}{UNFINISHED}")
    temporary.write_bytes(msgspec.json.encode(heartbeat))
    temporary.replace(path)


def read_heartbeat(root: Path) -> Heartbeat | None:
    """Return the last heartbeat; None when there is none that can be read."""
    try:
        with heartbeat_path(root).open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
        heartbeat = msgspec.json.decode(data, type=Heartbeat)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return heartbeat if heartbeat.schema == SCHEMA else None

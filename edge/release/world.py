"""What an updater does outside its store, and how patient it is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from edge.files import write_atomically
from edge.messaging.events import UpdateReport
from edge.release.channels import Channel
from edge.release.gate import Answer, Request
from edge.release.heartbeat import Heartbeat
from edge.release.soak import Baseline, SoakTerms
from edge.release.state import Floor
from edge.release.trust import Blob, Wanted


@dataclass(frozen=True, slots=True)
class World:
    """Everything that an updater does outside its store.

    clock: monotonic seconds. now: the time of day, None while it cannot be believed. refresh: see
    `Trust.refresh`. download: brings a blob's content into the store, telling how many bytes are
    here. try_out: see `check_release`. heartbeat: the agent's last. report: tells what became of
    it. free_bytes: of the store's disk.
    """

    clock: Callable[[], float]
    now: Callable[[], datetime | None]
    refresh: Callable[[Channel, Floor], Wanted | None]
    download: Callable[[Channel, Blob, Callable[[int], None]], object]
    try_out: Callable[[Request], Answer]
    heartbeat: Callable[[], Heartbeat | None]
    report: Callable[[UpdateReport], None]
    free_bytes: Callable[[], int]


@dataclass(frozen=True, slots=True)
class Options:
    """How patient an updater is. every_s: between two looks. soak, means_soak: what the agent must
    show of other models, and of other class means alone. agent_s: how long an agent is waited for.

    agent: False where none runs, and the gate's child process alone decides.
    """

    every_s: float
    soak: SoakTerms
    means_soak: SoakTerms
    threads: int = 2
    agent_s: float = 60.0
    agent: bool = True


def _path(root: Path) -> Path:
    return root / "run" / "baseline.json"


def keep_baseline(root: Path, before: Baseline) -> None:
    """Leave it for whoever goes on when this process ends; a trial goes on without it as well."""
    with contextlib.suppress(OSError):
        write_atomically(_path(root), msgspec.json.encode(before), synced=False)


def kept_baseline(root: Path) -> Baseline | None:
    """Return what was left; None where nothing can be read."""
    try:
        return msgspec.json.decode(_path(root).read_bytes(), type=Baseline)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None

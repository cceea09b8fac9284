"""Whose turn it is to work on a store: a daemon runs, and a person asks for something beside it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from edge.errors import EarmarkError

_LOOK_S = 0.1


class SecondUpdaterError(EarmarkError):
    """Another updater runs by the same store, or is at work on it for too long."""


@contextlib.contextmanager
def only_updater(root: Path) -> Iterator[None]:
    """Be the one updater of a store that runs for ever; SecondUpdaterError where there is one."""
    with _file(root / "run" / "updater.lock") as handle:
        if not _take(handle):
            raise SecondUpdaterError(
                f"{root / 'run' / 'updater.lock'}: another updater runs here already; to have it "
                "look now use `earmark-edge update`"
            )
        yield


@contextlib.contextmanager
def turn(
    root: Path, timeout_s: float = 0.0, waiting: Callable[[], object] = lambda: None
) -> Iterator[bool]:
    """Work on a store for a block, if that may begin within `timeout_s`; yield whether it may.

    waiting: called once when somebody else is at work.
    """
    with _file(root / "run" / "turn.lock") as handle:
        end_s = time.monotonic() + timeout_s
        mine = _take(handle)
        if not mine and timeout_s > 0:
            waiting()
        while not mine and time.monotonic() < end_s:
            time.sleep(_LOOK_S)
            mine = _take(handle)
        yield mine


@contextlib.contextmanager
def _file(path: Path) -> Iterator[int]:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        yield handle
    finally:
        os.close(handle)


def _take(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True

"""The updater that runs for ever: steps while there is something to do, and waits to be woken."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable
from pathlib import Path

from edge.health.notify import Notifier
from edge.messaging.retry import Rate
from edge.release.inbox import wake_path
from edge.release.turn import only_updater, turn
from edge.release.updater import Updater

_LOOK_S = 0.2
_BUSY_S = 1.0
# Whoever may publish to the device can wake the updater, but not keep it busy.
_WAKES_PER_S, _WAKES_AT_ONCE = 0.1, 20


class Daemon:
    """Runs one updater of the store `root` until `stop`, which any thread or handler may call."""

    def __init__(
        self,
        root: Path,
        updater: Updater,
        notifier: Notifier,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root, self._updater, self._notifier, self._clock = root, updater, notifier, clock
        self._stopping = False
        # Unlike an event's, its `put` may interrupt its own `get`, as a signal handler does.
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._rate = Rate(_WAKES_PER_S, clock, burst=_WAKES_AT_ONCE)
        self._woken_by = self._signature()

    def stop(self) -> None:
        """End `run` after the step that is being done; the next run goes on from there."""
        self._stopping = True
        self._wake.put(None)

    def run(self) -> None:
        """Keep the store up to date. SecondUpdaterError where another one does."""
        with only_updater(self._root):
            self._notifier.ready("looking for releases")
            while not self._stopping:
                self._sleep(self._work(), wakeful=True)
            self._notifier.stopping()

    def _work(self) -> float:
        """Step until nothing is under way; return for how long."""
        with turn(self._root) as mine:
            if not mine:
                return _BUSY_S
            self._updater.begin_anew()
            while not self._stopping:
                wait_s = self._updater.step()
                self._notifier.alive()
                if self._updater.resting and wait_s > 0:
                    return wait_s
                self._sleep(wait_s)
            return 0.0

    def _sleep(self, wait_s: float, *, wakeful: bool = False) -> None:
        """Wait, and tell systemd that it is well; wakeful: until somebody wants a look, at most."""
        end_s = self._clock() + wait_s
        while not self._stopping and (left_s := end_s - self._clock()) > 0:
            if wakeful and self._woken():
                self._updater.look()
                return
            with contextlib.suppress(queue.Empty):
                self._wake.get(timeout=min(left_s, _LOOK_S))
            self._notifier.alive()

    def _woken(self) -> bool:
        signature = self._signature()
        if signature == self._woken_by or not self._rate.allowed():
            return False
        self._rate.use(1)
        self._woken_by = signature
        return True

    def _signature(self) -> object:
        try:
            found = wake_path(self._root).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

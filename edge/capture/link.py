"""How good the connection to a camera is: its rate, and how often it was lost or stood still."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

Grade = Literal["good", "fair", "poor"]

_HOUR_S = 3600.0
_WINDOW_S = 10.0
_WINDOWS = int(_HOUR_S / _WINDOW_S)
# Back-off keeps losses below this; a camera that stutters without end is poor long before.
_MOST = 1000
# A gap so long, and of so many usual periods, is a stall.
_STALL_S, _STALL_PERIODS = 2.0, 3.0
# Beyond either of an hour's reconnects or stalls, or below that share of the usual rate.
_FAIR_TIMES, _FAIR_RATE = 2, 0.8
_POOR_TIMES, _POOR_RATE = 10, 0.5
_USUAL_QUANTILE = 0.9
_RATE_IF_UNKNOWN = 1.0


@dataclass(frozen=True, slots=True)
class LinkReport:
    """A camera's connection over the last hour.

    fps: frames that arrived a second, lately; None in the first seconds of a connection.
    reconnects: how often it came back. stalls: how often it stood still, lost then or not.
    """

    grade: Grade
    fps: float | None
    reconnects: int
    stalls: int


class Link:
    """Counts what happens to a connection. Thread-safe; times are of the monotonic `clock`.

    The usual rate is the 90th percentile of the hour's windows of ten seconds: a camera may be
    slower than its setting from the first, and sends its newest seconds in a burst.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._reconnects: deque[float] = deque(maxlen=_MOST)
        self._stalls: deque[float] = deque(maxlen=_MOST)
        self._rates: deque[float] = deque(maxlen=_WINDOWS)
        self._usual: float | None = None
        self._fps: float | None = None
        self._last_s: float | None = None
        self._window_s = 0.0
        self._frames = 0
        self._lost = False

    def frame(self) -> None:
        """Note that a frame arrived."""
        now_s = self._clock()
        with self._lock:
            if self._lost:
                self._lost = False
                self._reconnects.append(now_s)
            if self._last_s is None:
                self._window_s, self._frames = now_s, 0
            else:
                self._note_gap(now_s)
                self._frames += 1
            self._last_s = now_s
            if now_s - self._window_s >= _WINDOW_S:
                self._end_window(now_s)

    def lost(self) -> None:
        """Note that the camera was lost, or still is."""
        now_s = self._clock()
        with self._lock:
            self._note_gap(now_s)
            self._lost = True
            self._fps = self._last_s = None

    def report(self) -> LinkReport:
        """Return how the connection is."""
        since_s = self._clock() - _HOUR_S
        with self._lock:
            for times in (self._reconnects, self._stalls):
                while times and times[0] < since_s:
                    times.popleft()
            reconnects, stalls = len(self._reconnects), len(self._stalls)
            rate = self._fps / self._usual if self._fps is not None and self._usual else 1.0
            times_most = max(reconnects, stalls)
            grade: Grade = "good"
            if times_most > _FAIR_TIMES or rate < _FAIR_RATE:
                grade = "fair"
            if self._lost or times_most > _POOR_TIMES or rate < _POOR_RATE:
                grade = "poor"
            return LinkReport(grade, self._fps, reconnects, stalls)

    def _note_gap(self, now_s: float) -> None:
        usual = self._usual or _RATE_IF_UNKNOWN
        if self._last_s is not None and now_s - self._last_s > max(
            _STALL_S, _STALL_PERIODS / usual
        ):
            self._stalls.append(now_s)

    def _end_window(self, now_s: float) -> None:
        rate = self._frames / (now_s - self._window_s)
        self._rates.append(rate)
        self._usual = float(np.quantile(self._rates, _USUAL_QUANTILE))
        self._fps = round(rate, 1)
        self._window_s, self._frames = now_s, 0

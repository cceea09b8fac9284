"""Sources looked through one after another, until they end, time is up, or somebody says stop."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.capture import SourceOptions, open_source
from edge.capture.clock import believe_system
from edge.capture.source import Source, Status
from edge.errors import SourceError, UsageError
from edge.vision.types import Frame, FrameDetector
from trainer.labelling.places import Place
from trainer.labelling.propose import ProposeOptions, Proposer
from trainer.labelling.tracklets import Tracklet
from trainer.progress import Report


@dataclass(frozen=True, slots=True, eq=False)
class Watched:
    """What all sources gave. frames: looked at. stopped: before everything was looked at."""

    tracklets: tuple[Tracklet, ...]
    skipped: Counter[str]
    frames: int
    stopped: bool


class Stop:
    """Somebody's wish to end soon, heard by whatever source is open."""

    def __init__(self) -> None:
        self.asked = False
        self._source: Source | None = None

    def ask(self) -> None:
        """End soon; from any thread, or from a signal's handler."""
        self.asked = True
        if (source := self._source) is not None:
            # Closing takes a lock that the interrupted thread may hold.
            threading.Thread(target=source.close, daemon=True).start()

    def listen(self, source: Source | None) -> None:
        """Say which source is open."""
        self._source = source
        if self.asked:
            self.ask()


def watch(
    places: Sequence[Place],
    detector: FrameDetector,
    folder: Path,
    options: ProposeOptions,
    *,
    seconds: float | None,
    fps: float | None,
    stop: Stop,
    report: Report,
    say: Callable[[str], None],
) -> Watched:
    """Look through all sources, writing crops into `folder` as `Proposer` does.

    seconds: of each source's own time, None for all of it. fps: see `SourceOptions`. say: hears of
    cameras that come and go, and of a source that breaks off. Raises UsageError and SourceError as
    `open_source` does, before anything is looked at.
    """
    check_seconds(places, seconds)
    # A person sits in front of this machine, who would have noticed.
    believe_system()
    tracklets: list[Tracklet] = []
    skipped: Counter[str] = Counter()
    frames = 0

    def listener(status: Status, text: str) -> None:
        say(text)

    sources = [open_source(p.url, p.camera, SourceOptions(fps=fps), listener) for p in places]
    total = sum(place.frames for place in places)
    done = 0
    for place, source in zip(places, sources, strict=True):
        if stop.asked:
            break
        proposer = Proposer(detector, place, folder, options)
        with _opened(source, stop, seconds if place.live else None):
            try:
                for frame in _during(source.frames(), seconds):
                    proposer.look(frame)
                    count = done + frame.index + 1
                    report(count, max(total, count), place.camera)
                    if stop.asked:
                        break
            except SourceError as error:
                if not proposer.frames:
                    raise
                # What was found until then is not to be lost.
                say(str(error))
        done += place.frames
        tracklets += proposer.finish()
        skipped += proposer.skipped
        frames += proposer.frames
    return Watched(tuple(tracklets), skipped, frames, stop.asked)


def _during(frames: Iterator[Frame], seconds: float | None) -> Iterator[Frame]:
    """Yield frames of the first so many seconds."""
    first_s = None
    for frame in frames:
        first_s = frame.monotonic_s if first_s is None else first_s
        if seconds is not None and frame.monotonic_s - first_s >= seconds:
            return
        yield frame


def check_seconds(places: Sequence[Place], seconds: float | None) -> None:
    """Raise UsageError where one camera would be watched for ever, and the next one never."""
    if seconds is None and len(places) > 1 and any(place.live for place in places):
        raise UsageError("a camera never ends: give --seconds, or name it alone and stop by Ctrl-C")


@contextmanager
def stop_by_signal(stop: Stop) -> Iterator[None]:
    """Let the first Ctrl-C (or SIGTERM) end the work early, and the second one break it off."""

    def ask(number: int, _: Any) -> None:
        signal.signal(number, before[number])
        stop.ask()

    before: dict[int, Any] = {
        number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _opened(source: Source, stop: Stop, seconds: float | None) -> Iterator[None]:
    """Close a source in the end; a camera that gives no pictures must not be waited for for ever.

    seconds: after which it is closed in any case.
    """
    timer = None if seconds is None else threading.Timer(seconds, source.close)
    stop.listen(source)
    try:
        if timer is not None:
            timer.daemon = True
            timer.start()
        yield
    finally:
        if timer is not None:
            timer.cancel()
        stop.listen(None)
        source.close()

"""A running agent at the heels of its store: which release it runs, and what it says of that."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from edge.errors import BundleError, EarmarkError
from edge.pipeline import FrameResult
from edge.release.bundle import Bundle, with_other_means
from edge.release.heartbeat import Heartbeat, write_heartbeat
from edge.release.selection import Selected, peek, select
from edge.release.store import Store
from edge.vision.types import Frame

LOG = logging.getLogger("earmark.releases")
_ERROR_CHARACTERS = 500
# Tracks of a camera that was lost never end in a frame.
_TRACKS = 4096

Restart = Literal["restart"]


class SecondAgentError(EarmarkError):
    """Another agent runs by the same store."""


@contextlib.contextmanager
def only_agent(root: Path) -> Iterator[None]:
    """Be the one agent of a store for a block; SecondAgentError where there is one already."""
    path = root / "run" / "agent.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            with contextlib.suppress(OSError):
                who = os.pread(handle, 32, 0).decode(errors="replace").strip()
            raise SecondAgentError(
                f"{path}: another agent runs here already (process {who or 'unknown'}); end it, "
                "or give this one a store of its own"
            ) from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


class FrameCount:
    """What came of the frames since a release began. An observer of frames, from any thread.

    frames: how many. named, unknown: tracks that were settled, by whether they had a name last.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._alive: dict[tuple[str, int], bool] = {}
        self.frames = 0
        self._ended = {True: 0, False: 0}

    def __call__(self, frame: Frame, result: FrameResult) -> None:
        """Count one frame."""
        with self._lock:
            self.frames += 1
            for track in result.tracks:
                if track.settled:
                    self._alive[frame.camera, track.id] = track.animal is not None
            for track in result.ended:
                self._end((frame.camera, track.id))
            while len(self._alive) > _TRACKS:
                self._end(next(iter(self._alive)))

    def reset(self) -> None:
        """Begin again."""
        with self._lock:
            self.frames = 0
            self._alive.clear()
            self._ended = {True: 0, False: 0}

    def tracks(self) -> tuple[int, int]:
        """Return how many tracks were named, and how many were not."""
        with self._lock:
            here = sum(self._alive.values())
            return self._ended[True] + here, self._ended[False] + len(self._alive) - here

    def _end(self, key: tuple[str, int]) -> None:
        named = self._alive.pop(key, None)
        if named is not None:
            self._ended[named] += 1


class Follower:
    """Decides which release of the store `root` an agent runs; one thread calls.

    boot: the id of this start of the agent. count: counts its frames. release: the name of what
    runs, trial: whether it has yet to prove itself.
    """

    def __init__(self, root: Path, boot: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._root, self._boot, self._clock = root, boot, clock
        self.count = FrameCount()
        self.release = ""
        self.trial = False
        self._since_s = clock()
        self._refused: tuple[str, str] | None = None
        # What `select` itself writes is one change more to look at; none is ever missed.
        self._seen = self._signature()
        self._offered: Selected | None = None

    @property
    def directory(self) -> Path:
        """The folder of the release that runs."""
        return Store(self._root).release(self.release)

    def start(self, load: Callable[[Path], Bundle]) -> Bundle:
        """Load the release that is selected and return its bundle.

        One on trial that cannot be loaded is told of in the heartbeats, and the current one is
        loaded instead. BundleError when there is none, and what `load` raises.
        """
        self._seen = self._signature()
        selected = select(self._root)
        try:
            bundle = load(selected.directory)
        except EarmarkError as error:
            current = Store(self._root).current()
            if not selected.trial or current is None:
                raise
            self._refuse(selected, error)
            selected = Selected(current, current.name, False)
            bundle = load(selected.directory)
        self._runs(selected)
        return bundle

    def changed(self) -> bool:
        """Say whether the store may select another release now; costs two stat calls."""
        return self._signature() != self._seen

    def look(self, running: Bundle) -> Bundle | Restart | None:
        """Return what to go on with: the running models with other class means, a restart, or
        None when nothing else is to be run.

        A bundle is offered again until `took` or `refuse` is called.
        """
        signature = self._signature()
        if signature == self._seen:
            return None
        try:
            selected = peek(self._root, self.release)
        except BundleError as error:
            # What runs does not need the store.
            LOG.warning("%s", error)
            self._seen = signature
            return None
        if selected.release == self.release:
            self.trial, self._seen = selected.trial, signature
            return None
        if self._refused is not None and selected.trial and selected.release == self._refused[0]:
            self._seen = signature
            return None
        self._offered = None
        return self._other(selected, running, signature)

    def took(self) -> None:
        """Note that what `look` has offered runs now."""
        assert self._offered is not None
        self._runs(self._offered)

    def refuse(self, error: EarmarkError) -> None:
        """Note that what `look` has offered cannot be run."""
        assert self._offered is not None
        self._refuse(self._offered, error)

    def beat(self, *, backend: str, degraded: bool) -> None:
        """Write the heartbeat."""
        named, unknown = self.count.tracks()
        now_s = self._clock()
        heartbeat = Heartbeat(
            pid=os.getpid(),
            boot=self._boot,
            release=self.release,
            trial=self.trial,
            since_s=max(0.0, now_s - self._since_s),
            frames=self.count.frames,
            named=named,
            unknown=unknown,
            backend=backend[:_ERROR_CHARACTERS],
            degraded=degraded,
            error=None if self._refused is None else ": ".join(self._refused),
            at_monotonic_s=now_s,
        )
        try:
            write_heartbeat(self._root, heartbeat)
        except OSError as error:
            LOG.debug("heartbeat: %s", error)

    def _other(
        self, selected: Selected, running: Bundle, signature: object
    ) -> Bundle | Restart | None:
        try:
            bundle = with_other_means(selected.directory, running)
            if bundle is None:
                return "restart"
            if selected.trial and select(self._root).release != selected.release:
                # Its tries are used up, it has just been taken back, or the disk keeps no count.
                self._seen = signature
                return None
        except EarmarkError as error:
            self._seen = signature
            if selected.trial:
                self._refuse(selected, error)
            else:
                LOG.warning("%s", error)
            return None
        self._offered = selected
        return bundle

    def _runs(self, selected: Selected) -> None:
        self.release, self.trial = selected.release, selected.trial
        if self._refused is not None and self._refused[0] == selected.release:
            self._refused = None
        self._since_s = self._clock()
        self.count.reset()

    def _refuse(self, selected: Selected, error: EarmarkError) -> None:
        self._refused = (selected.release, " ".join(str(error).split())[:_ERROR_CHARACTERS])
        LOG.warning("release %s: %s", *self._refused)

    def _signature(self) -> object:
        """Return what changes whenever the selection may have changed."""
        return tuple(map(_stamp, (self._root / "state" / "boot.json", self._root / "current")))


def _stamp(path: Path) -> object:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size

"""What came over the broker for the updater: names checked, bounded, and trusted for nothing.

Whoever may publish to this device can put anything here. The signatures are looked at by the
updater; here it is enough that nothing else is written and that the disk does not fill up.
"""

from __future__ import annotations

import contextlib
import logging
import time
from pathlib import Path

from edge.durable import UNFINISHED
from edge.release.targets import is_repository_path

LOG = logging.getLogger("earmark.inbox")
MESSAGE_LIMIT_BYTES = 256 << 10
_MOST_FILES = 64
_MOST_BYTES = 4 << 20


def wake_path(root: Path) -> Path:
    """Return the file whose change makes a store's updater look at once."""
    return root / "run" / "check"


def wake_updater(root: Path) -> None:
    """Make a store's updater look at once, if it runs."""
    path = wake_path(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"%d\n" % time.monotonic_ns())


class Inbox:
    """The folder `inbox/` of a store, a file for each path of the repository that came.

    One thread calls. When there are more than 64 files or 4 MiB, the oldest make room: who sends
    rubbish can delay what is meant, and no more.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, path: str, data: bytes) -> bool:
        """Keep what came for a path of the repository, empty to remove it; whether that is news.

        Nothing is kept of what is no such path or too large, or when the disk will not have it.
        """
        if not is_repository_path(path):
            LOG.debug("no file of a repository: %r", path[:200])
            return False
        if len(data) > MESSAGE_LIMIT_BYTES:
            LOG.debug("%s: %d bytes are too many", path, len(data))
            return False
        try:
            if self._held(path) == data:
                return False
            if data:
                self._write(self._folder / path, data)
                self._make_room(self._folder / path)
            else:
                (self._folder / path).unlink(missing_ok=True)
        except OSError as error:
            LOG.warning("%s: %s", self._folder / path, error)
            return False
        return True

    def _held(self, path: str) -> bytes:
        try:
            return (self._folder / path).read_bytes()
        except FileNotFoundError:
            return b""

    def _write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}{UNFINISHED}")
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise

    def _make_room(self, newest: Path) -> None:
        found = [(path, path.stat()) for path in self._folder.rglob("*") if path.is_file()]
        found.sort(key=lambda one: (one[0] == newest, one[1].st_mtime_ns))
        files, size = len(found), sum(stat.st_size for _, stat in found)
        for path, stat in found:
            if files <= _MOST_FILES and size <= _MOST_BYTES:
                break
            path.unlink(missing_ok=True)
            files, size = files - 1, size - stat.st_size

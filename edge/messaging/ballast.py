"""Some MiB of disk that are given up when it is full, so that what is full can be emptied."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

LOG = logging.getLogger(__name__)


class Ballast:
    """A file of `size` bytes beside what it protects; 0 for none.

    A database needs room for its log even to delete. Without the ballast a disk that others filled
    would stay full for ever.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size
        self._missing = size > 0 and not self._whole()

    @property
    def missing(self) -> bool:
        """Whether it was released, or never found room."""
        return self._missing

    def restore(self, free_bytes: int) -> None:
        """Take the space again if that leaves twice as much to others."""
        if not self._missing or free_bytes < 3 * self._size:
            return
        try:
            with self._path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, self._size)
                os.fsync(file.fileno())
            self._missing = False
        except OSError as error:
            LOG.debug("%s: %s", self._path, error)
            self._unlink()

    def release(self) -> bool:
        """Give the space up; whether there was any to give."""
        if self._size == 0 or self._missing:
            return False
        self._missing = True
        return self._unlink()

    def _whole(self) -> bool:
        with contextlib.suppress(OSError):
            # A sparse file would hold no space.
            return self._path.stat().st_blocks * 512 >= self._size
        return False

    def _unlink(self) -> bool:
        try:
            self._path.unlink()
        except OSError as error:
            LOG.debug("%s: %s", self._path, error)
            return False
        return True

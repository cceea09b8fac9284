"""A repository in a folder: a USB stick, a copy made over SSH, or what came over the broker."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from edge.release.channels.channel import CHUNK_BYTES, ChannelError, ChannelMissingError, check_path

_ABSENT = (errno.ENOENT, errno.ENOTDIR)


class FolderChannel:
    """A folder that may be somebody else's, or go away while it is read.

    Nothing outside it is opened, whatever links lie in it, and nothing but plain files.
    """

    def __init__(self, folder: Path) -> None:
        self.name = f"file://{folder}"
        self._folder = folder

    def fetch(self, path: str, *, offset: int = 0, limit: int) -> Iterator[bytes]:
        """Yield a file's content, see `Channel.fetch`."""
        check_path(self.name, path)
        handle = self._open(path)
        try:
            with os.fdopen(handle, "rb", buffering=0) as stream:
                if not stat.S_ISREG(os.fstat(handle).st_mode):
                    raise ChannelError(f"{self.name}: {path} is no file")
                stream.seek(offset)
                while limit > 0 and (chunk := stream.read(min(limit, CHUNK_BYTES))):
                    limit -= len(chunk)
                    yield chunk
        except OSError as error:
            raise ChannelError(self._failure(path, error)) from error

    def _open(self, path: str) -> int:
        try:
            folder = self._folder.resolve(strict=True)
            real = (folder / path).resolve(strict=True)
            if not real.is_relative_to(folder):
                raise ChannelError(f"{self.name}: {path} leads out of the folder")
            # Without it a pipe that nobody writes to would be waited for, for ever.
            return os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except RuntimeError as error:
            raise ChannelError(f"{self.name}: {path} is a link in a circle") from error
        except OSError as error:
            if error.errno in _ABSENT and self._folder.is_dir():
                raise ChannelMissingError(f"{self.name}: has no {path}") from error
            raise ChannelError(self._failure(path, error)) from error

    def _failure(self, path: str, error: OSError) -> str:
        if not self._folder.is_dir():
            return f"{self.name}: not there (any more); was the stick pulled?"
        return f"{self.name}: {path} cannot be read: {error.strerror}"


class InboxChannel(FolderChannel):
    """What the agent took from the broker's retained messages: as untrusted as a stick."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.name = "mqtt:"

    def _failure(self, path: str, error: OSError) -> str:
        if not self._folder.is_dir():
            return f"{self.name}: nothing has come over the broker yet"
        return super()._failure(path, error)

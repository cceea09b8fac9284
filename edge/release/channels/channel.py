"""What every channel can do, and how it fails."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from edge.errors import EarmarkError
from edge.release.targets import is_repository_path

CHUNK_BYTES = 64 << 10


class ChannelError(EarmarkError):
    """A repository cannot be read by this way just now; another way, or later, may do."""


class ChannelMissingError(ChannelError):
    """The repository has no such file there."""


class Channel(Protocol):
    """A way to a repository's files. name: the channel's URL, for people."""

    name: str

    def fetch(self, path: str, *, offset: int = 0, limit: int) -> Iterator[bytes]:
        """Yield a file's content from `offset` on, at most `limit` bytes of it in all.

        path: as in the repository's folder, `metadata/5.root.json` or
        `targets/models/<id>/<sha256>.<file>`. limit: counted from the offset; what is longer is
        cut off, for the hash tells. A channel that cannot begin at an offset raises
        OffsetIgnoredError before the first byte. Raises ChannelMissingError for a file that is not
        there and ChannelError, one line, for everything else that goes wrong.
        """


class OffsetIgnoredError(ChannelError):
    """The other side sends files from their beginning only."""


def check_path(name: str, path: str) -> None:
    """Raise ChannelError for a path that no repository has."""
    if not is_repository_path(path):
        raise ChannelError(f"{name}: {path!r} is no file of a repository")

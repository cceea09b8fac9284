"""Bring one file's content into the store, whatever the channel does meanwhile.

What has come stays in a `.part` and is gone on from there; only what has the signed hash leaves it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from edge.durable import DurableError
from edge.release.channels.channel import Channel, ChannelError, OffsetIgnoredError
from edge.release.store import DownloadError, Store
from edge.release.trust import Blob

# So much of a download is lost at most when the power fails.
_SYNC_BYTES = 8 << 20
# A channel that drips keeps the others waiting no longer than this.
_TURN_S = 3600.0


def download(
    channel: Channel,
    blob: Blob,
    store: Store,
    *,
    limit_bytes_s: float | None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    on_progress: Callable[[int], None] = lambda bytes_here: None,
) -> Path:
    """Return where a blob's content lies in the store, fetched if it was not there.

    limit_bytes_s: how fast at most, None for as fast as it comes. on_progress: called with the
    bytes that are here so far. Never more than the signed size is read or written. What another
    call has left that was not the content is thrown away, and all of it fetched here. Raises
    ChannelError when the channel fails, or has not brought it all within an hour: what came is kept
    for the next call, by whatever channel.
    DownloadError for content that is not what was signed, which is thrown away; DurableError when
    the disk fails or is full.
    """
    if store.has_blob(blob.sha256):
        return store.blob(blob.sha256)
    pace = _Pace(limit_bytes_s, clock, sleep)
    left = _length(store.part(blob.sha256))
    try:
        return _complete(channel, blob, store, pace, on_progress)
    except DownloadError:
        if not left:
            raise
        # It may have been another channel that lied: it must not spoil this one's for ever.
        return _complete(channel, blob, store, pace, on_progress)


def _complete(
    channel: Channel,
    blob: Blob,
    store: Store,
    pace: _Pace,
    on_progress: Callable[[int], None],
) -> Path:
    """Fetch what a part wants, and make it a blob."""
    part = store.part(blob.sha256)
    try:
        have = _length(part)
        if have > blob.size:
            have = 0
        if have < blob.size or not have:
            try:
                have = _append(channel, blob, part, have, pace, on_progress)
            except OffsetIgnoredError:
                have = _append(channel, blob, part, 0, pace, on_progress)
    except OSError as error:
        # After a failed write nobody knows what is in it; and a full disk wants the room.
        with suppress(OSError):
            part.unlink()
        raise DurableError(part, error) from error
    if have < blob.size:
        raise ChannelError(
            f"{channel.name}: {blob.path}: broke off after {have} of {blob.size} bytes"
        )
    return store.adopt_part(blob.sha256, blob.size)


def _append(
    channel: Channel,
    blob: Blob,
    part: Path,
    have: int,
    pace: _Pace,
    on_progress: Callable[[int], None],
) -> int:
    """Fetch the rest of a part that has `have` bytes; return how many it has then."""
    chunks = channel.fetch(blob.path, offset=have, limit=blob.size - have)
    # A channel refuses before its first piece, and the part is untouched until then.
    chunk = next(chunks, b"")
    synced = have
    with part.open("r+b" if have else "wb") as stream:
        stream.truncate(have)
        stream.seek(have)
        # Asked once more than there is to come, for then the channel knows that all was read.
        while chunk and have < blob.size:
            chunk = chunk[: blob.size - have]
            stream.write(chunk)
            have += len(chunk)
            on_progress(have)
            if have - synced >= _SYNC_BYTES:
                stream.flush()
                os.fsync(stream.fileno())
                synced = have
            pace.after(len(chunk))
            if pace.elapsed_s > _TURN_S and have < blob.size:
                raise ChannelError(
                    f"{channel.name}: {blob.path}: {have} of {blob.size} bytes came in an hour; "
                    "others are asked as well"
                )
            chunk = next(chunks, b"")
    return have


def _length(part: Path) -> int:
    try:
        return part.stat().st_size
    except FileNotFoundError:
        return 0


class _Pace:
    """Waits so that no more than so many bytes a second come on average."""

    def __init__(
        self,
        limit_bytes_s: float | None,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._limit, self._clock, self._sleep = limit_bytes_s, clock, sleep
        self._began_s, self._bytes = clock(), 0

    @property
    def elapsed_s(self) -> float:
        """How long the fetching has taken so far."""
        return self._clock() - self._began_s

    def after(self, count: int) -> None:
        self._bytes += count
        if self._limit is not None:
            ahead_s = self._bytes / self._limit - self.elapsed_s
            if ahead_s > 0:
                self._sleep(ahead_s)


__all__ = ["DownloadError", "download"]

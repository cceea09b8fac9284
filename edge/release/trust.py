"""What the repository wants this device to run, and whether it may be believed.

The Update Framework does the believing (theupdateframework.io; python-tuf's client): signatures,
expiry, versions, whatever way the files came. It forgets what it knew when its folder is lost, so
floors that the device keeps elsewhere come on top: nothing older than what ran here is ever run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from edge.errors import EarmarkError
from edge.release.channels.channel import Channel

Reason = Literal["root", "signature", "expired", "older", "altered", "format", "disk"]


class TrustError(EarmarkError):
    """A repository that is refused.

    reason: `root` (this device has no usable trust/root.json), `signature`, `expired`, `older`
    (than what ran here), `altered` (parts that do not belong together), `format`, or `disk`.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Floors(Protocol):
    """The highest numbers that this device has seen; `edge.release.state.Floor` is one."""

    @property
    def assignment(self) -> int: ...
    @property
    def means(self) -> int: ...
    @property
    def root(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def snapshot(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Versions:
    """Versions of the signed metadata, as the floor is to hold them."""

    root: int
    timestamp: int
    snapshot: int


@dataclass(frozen=True, slots=True)
class Blob:
    """One file's content: where the repository has it, its SHA-256 (64 hex), size in bytes."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the repository wants this device to run.

    bundle: content id. assignment: its seq. files: by name, `manifest.json` among them. means:
    class means that replace the bundle's own when they were made by its embedder
    (`means_embedder`, a SHA-256); None when there are none for this device, and seq 0 then.
    """

    bundle: str
    assignment: int
    files: Mapping[str, Blob]
    means: Blob | None
    means_seq: int
    means_embedder: str | None
    versions: Versions


class Trust:
    """The trusted side of a device's repository, in the folder `trust/` of its store.

    folder: holds `root.json`, where trust begins; `tuf/` is made in it. clock: the time now, with
    a zone, by which signatures expire.
    """

    def __init__(self, folder: Path, device: str, *, clock: Callable[[], datetime]) -> None:
        self._folder, self._device, self._clock = folder, device, clock

    def refresh(self, channel: Channel, floor: Floors) -> Wanted | None:
        """Return what this device is to run, None when nothing is assigned to it.

        Raises TrustError for a repository that is refused, before any content is fetched, and
        ChannelError when it cannot be read.
        """
        raise NotImplementedError

"""The repository's signed metadata, by python-tuf's client; whole on disk, or begun anew.

Imported only when a repository is asked: who just runs a release needs no python-tuf.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tuf.api import exceptions
from tuf.api.metadata import Metadata, Root, Targets
from tuf.api.serialization import DeserializationError
from tuf.ngclient import Updater, UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface

from edge.durable import sync_tree
from edge.errors import TrustError
from edge.release.channels.channel import Channel, ChannelMissingError
from edge.release.manifest import MANIFEST_NAME
from edge.release.targets import FLEET, MAX_SEQ, means_target, model_target

_BASE = "metadata:/"
_MAX_BYTES = 4 << 20
# What is longer is refused: deploy.repo publishes nothing that is.
LIMITS = UpdaterConfig(
    max_root_rotations=256,
    max_delegations=8,
    root_max_length=64 << 10,
    timestamp_max_length=16 << 10,
    snapshot_max_length=64 << 10,
    targets_max_length=_MAX_BYTES,
)
# One name of each delegated role; whether it is there does not matter.
_PROBES = (FLEET, means_target("all"), model_target("0" * 64, MANIFEST_NAME))


@dataclass(frozen=True, slots=True)
class Found:
    """What is signed about a target."""

    sha256: str
    size: int
    custom: Mapping[str, Any] | None = field(default=None)


class SignedMetadata:
    """All signed metadata of a repository, fetched and verified; see `refresh`.

    folder: where it is kept. root: the metadata in which trust begins.
    """

    def __init__(self, folder: Path, root: bytes, channel: Channel, now: datetime) -> None:
        self._folder, self._name = folder, channel.name
        with _refusing(channel.name):
            _make_room(folder)
            self._updater = Updater(
                str(folder), _BASE, fetcher=_Fetcher(channel), config=LIMITS, bootstrap=root
            )
        # The client has no other way to be told the time, nor to list what a role signs.
        self._trusted = self._updater._trusted_set
        self._trusted.reference_time = now

    def refresh(self) -> None:
        """Fetch and verify all of it. TrustError for a refusal; ChannelError passes through."""
        with _refusing(self._name):
            self._updater.refresh()
            versions = self.versions
            if max(versions) > MAX_SEQ:
                raise TrustError("format", f"{self._name}: a version of {max(versions)}")
            for probe in _PROBES:
                self._updater.get_targetinfo(probe)

    @property
    def versions(self) -> tuple[int, int, int]:
        """Versions of root, timestamp and snapshot."""
        trusted = self._trusted
        return trusted.root.version, trusted.timestamp.version, trusted.snapshot.version

    def keeps_keys(self, role: str, since: int) -> bool:
        """Return whether a role has the keys that it had in root version `since`."""
        path = self._folder / "root_history" / f"{since}.root.json"
        try:
            then = Metadata[Root].from_bytes(path.read_bytes()).signed
        except (OSError, DeserializationError):
            return True
        now = self._trusted.root
        return {then.keys[one].keyval["public"] for one in then.roles[role].keyids} == {
            now.keys[one].keyval["public"] for one in now.roles[role].keyids
        }

    def find(self, target: str) -> Found | None:
        """Return what is signed about a target, by the role that may sign it; None for nothing."""
        with _refusing(self._name):
            info = self._updater.get_targetinfo(target)
        if info is None:
            return None
        sha256 = info.hashes.get("sha256")
        if sha256 is None:
            raise TrustError("format", f"{self._name}: {target}: signed without a SHA-256")
        return Found(sha256, info.length, info.custom)

    def files_of(self, role: str, folder: str) -> list[str]:
        """Return the names in a folder that a role signs, without the folder."""
        signed = self._trusted.get(role)
        if not isinstance(signed, Targets):
            return []
        return [
            name.removeprefix(folder) for name in sorted(signed.targets) if name.startswith(folder)
        ]

    def keep(self) -> None:
        """Bring what was fetched to the disk: python-tuf does not."""
        sync_tree(self._folder)


class _Fetcher(FetcherInterface):
    """Lets python-tuf's client read through a channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def _fetch(self, url: str) -> Iterator[bytes]:
        # One byte more than the largest, so that the client's own limit is what is overrun.
        path = f"metadata/{url.removeprefix(_BASE)}"
        try:
            yield from self._channel.fetch(path, limit=_MAX_BYTES + 1)
        except ChannelMissingError as error:
            raise exceptions.DownloadHTTPError(str(error), 404) from error


@contextmanager
def _refusing(where: str) -> Iterator[None]:
    """Turn what python-tuf raises into a TrustError, or a ChannelMissingError."""
    try:
        yield
    except exceptions.DownloadHTTPError as error:
        raise ChannelMissingError(f"{error}; is a repository there?") from error
    except exceptions.DownloadLengthMismatchError as error:
        raise TrustError("format", f"{where}: refused: its metadata is too long") from error
    except exceptions.ExpiredMetadataError as error:
        raise TrustError(
            "expired",
            f"{where}: refused: {_said(error)}; earmark-deploy repo renew, or a newer copy, or is "
            "this clock wrong?",
        ) from error
    except exceptions.UnsignedMetadataError as error:
        raise TrustError(
            "signature",
            f"{where}: refused: {_said(error)}; it is not this farm's repository, or was altered",
        ) from error
    except exceptions.BadVersionNumberError as error:
        raise TrustError("older", f"{where}: refused: older than before: {_said(error)}") from error
    except exceptions.LengthOrHashMismatchError as error:
        raise TrustError(
            "altered", f"{where}: refused: parts of different ages, or altered: {_said(error)}"
        ) from error
    except (exceptions.RepositoryError, DeserializationError) as error:
        raise TrustError("format", f"{where}: refused: {_said(error)}") from error
    except OSError as error:
        raise TrustError(
            "disk", f"{where}: its metadata cannot be kept here: {error.strerror or error}"
        ) from error


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _make_room(folder: Path) -> None:
    """Make the folder, and remove what the client cannot use or has left half written."""
    if not folder.is_dir():
        folder.unlink(missing_ok=True)
    history = folder / "root_history"
    if history.exists() and not history.is_dir():
        history.unlink()
    history.mkdir(parents=True, exist_ok=True)
    for path in (*folder.iterdir(), *history.iterdir()):
        if path == history or path.is_symlink():
            continue
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name.startswith("tmp"):
            path.unlink()

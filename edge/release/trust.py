"""What the repository wants this device to run, and whether it may be believed.

The Update Framework does the believing (theupdateframework.io; python-tuf's client): signatures,
expiry, versions, whatever way the files came. It forgets what it knew when its folder is lost, so
floors that the device keeps elsewhere come on top: nothing older than what ran here is ever run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from edge.durable import write_durably
from edge.errors import TrustError
from edge.release.channels.channel import Channel, ChannelError
from edge.release.manifest import MANIFEST_NAME
from edge.release.state import Floor
from edge.release.targets import (
    FLEET,
    MAX_BUNDLE_BYTES,
    MAX_BUNDLE_FILES,
    MAX_FLEET_BYTES,
    MAX_MEANS_BYTES,
    Assigned,
    Fleet,
    assigned,
    content_path,
    means_target,
    model_target,
    moved_at,
    read_fleet,
    read_terms,
    scopes_of,
)

if TYPE_CHECKING:
    from edge.release.signed import SignedMetadata

__all__ = ["Blob", "Trust", "TrustError", "Versions", "Wanted"]

_MAX_ROOT_BYTES = 64 << 10


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

    def refresh(self, channel: Channel, floor: Floor) -> Wanted | None:
        """Return what this device is to run, None when nothing is assigned to it.

        Raises TrustError for a repository that is refused, before any content is fetched, and
        ChannelError when it cannot be read.
        """
        from edge.release.signed import SignedMetadata

        signed = SignedMetadata(self._folder / "tuf", self._root(), channel, self._clock())
        signed.refresh()
        versions = Versions(*signed.versions)
        _check_versions(signed, versions, floor, channel.name)
        fleet = _fleet(signed, channel, self._folder / "fleet.json")
        wanted = None
        if fleet is not None and (found := assigned(fleet, self._device)) is not None:
            wanted = self._wanted(signed, fleet, found, versions, channel.name)
            _check_seqs(wanted, floor, channel.name)
        signed.keep()
        return wanted

    def _root(self) -> bytes:
        path = self._folder / "root.json"
        try:
            with path.open("rb") as stream:
                data = stream.read(_MAX_ROOT_BYTES + 1)
        except OSError as error:
            raise TrustError(
                "root",
                f"{path}: cannot be read ({error.strerror}); copy the repository's root.json there",
            ) from error
        if not data or len(data) > _MAX_ROOT_BYTES:
            raise TrustError("root", f"{path}: empty, or too large; copy it there again")
        return data

    def _wanted(
        self,
        signed: SignedMetadata,
        fleet: Fleet,
        found: Assigned,
        versions: Versions,
        where: str,
    ) -> Wanted:
        means, seq, embedder = self._means(signed, fleet, where)
        return Wanted(
            bundle=found.bundle,
            assignment=found.seq,
            files=_files(signed, found.bundle, where),
            means=means,
            means_seq=seq,
            means_embedder=embedder,
            versions=versions,
        )

    def _means(
        self, signed: SignedMetadata, fleet: Fleet, where: str
    ) -> tuple[Blob | None, int, str | None]:
        for scope in scopes_of(fleet, self._device):
            target = means_target(scope)
            if (found := signed.find(target)) is None:
                continue
            if found.size > MAX_MEANS_BYTES:
                raise TrustError("format", f"{where}: {target}: {found.size} bytes are too many")
            try:
                terms = read_terms(found.custom)
            except ValueError as error:
                raise TrustError("format", f"{where}: {target}: {error}") from error
            blob = Blob(content_path(target, found.sha256), found.sha256, found.size)
            return blob, max(terms.seq, moved_at(fleet, self._device)), terms.embedder_sha256
        return None, 0, None


def _fleet(signed: SignedMetadata, channel: Channel, known: Path) -> Fleet | None:
    """Return the assignments. known: where they are kept, to be fetched only when they change."""
    found = signed.find(FLEET)
    if found is None:
        return None
    if found.size > MAX_FLEET_BYTES:
        raise TrustError("format", f"{channel.name}: {FLEET}: {found.size} bytes are too many")
    data = _read_if(known, found.sha256)
    if data is None:
        path = content_path(FLEET, found.sha256)
        data = b"".join(channel.fetch(path, limit=found.size))
        if hashlib.sha256(data).hexdigest() != found.sha256:
            raise ChannelError(f"{channel.name}: {path}: damaged on the way")
        write_durably(known, data)
    try:
        return read_fleet(data)
    except ValueError as error:
        raise TrustError("format", f"{channel.name}: {error}") from error


def _read_if(path: Path, sha256: str) -> bytes | None:
    """Return a file's content if it has this hash."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FLEET_BYTES)
    except OSError:
        return None
    return data if hashlib.sha256(data).hexdigest() == sha256 else None


def _files(signed: SignedMetadata, bundle: str, where: str) -> dict[str, Blob]:
    """Return a bundle's files; whether they belong together its manifest says, when it is there."""
    files: dict[str, Blob] = {}
    for name in signed.files_of("models", f"models/{bundle}/"):
        try:
            target = model_target(bundle, name)
        except ValueError as error:
            raise TrustError("format", f"{where}: refused: {error}") from error
        if (found := signed.find(target)) is not None:
            files[name] = Blob(content_path(target, found.sha256), found.sha256, found.size)
    if MANIFEST_NAME not in files:
        raise TrustError(
            "format", f"{where}: bundle {bundle[:12]} is assigned, but not published there"
        )
    size = sum(blob.size for blob in files.values())
    if len(files) > MAX_BUNDLE_FILES or size > MAX_BUNDLE_BYTES:
        raise TrustError(
            "format",
            f"{where}: bundle {bundle[:12]}: {len(files)} files of {size} bytes are too many",
        )
    return files


def _check_versions(signed: SignedMetadata, versions: Versions, floor: Floor, where: str) -> None:
    """Refuse metadata older than what was seen here, whatever python-tuf has forgotten.

    A role whose keys were changed since counts anew: a thief may have counted up to the sky.
    """
    if versions.root < floor.root:
        raise _older(where, "root", versions.root, floor.root)
    for role, version, least in (
        ("timestamp", versions.timestamp, floor.timestamp),
        ("snapshot", versions.snapshot, floor.snapshot),
    ):
        if version < least and (versions.root == floor.root or signed.keeps_keys(role, floor.root)):
            raise _older(where, role, version, least)


def _check_seqs(wanted: Wanted, floor: Floor, where: str) -> None:
    means = wanted.means.sha256 if wanted.means is not None else ""
    for what, seq, content, least, known in (
        ("assignment", wanted.assignment, wanted.bundle, floor.assignment, floor.bundle),
        ("class means", wanted.means_seq, means, floor.means, floor.means_sha256),
    ):
        if not content:
            continue
        if seq < least:
            raise _older(where, what, seq, least)
        if seq == least and known and known != content:
            raise TrustError(
                "altered",
                f"{where}: refused: {what} {seq} is not what it was; publish it again",
            )


def _older(where: str, what: str, number: int, least: int) -> TrustError:
    return TrustError(
        "older", f"{where}: refused: older than what ran here: {what} {number}, not {least}"
    )

"""What a repository's public folder says now, believed only as far as its keys have signed it.

The folder may lie where others can write. Whatever is signed anew was verified before, from the
first root on; so nobody's change gets the operator's signature by the way.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError

from edge.errors import BundleError, EarmarkError
from edge.release.manifest import MANIFEST_NAME, Manifest, decode_manifest
from edge.release.targets import (
    FLEET,
    ROLES,
    Fleet,
    content_path,
    model_target,
    read_fleet,
)

TOP = ("root", "targets", "snapshot", "timestamp")
EVERY_ROLE = (*TOP, *ROLES)

T = TypeVar("T", Timestamp, Snapshot, Targets)


class RepositoryDamagedError(EarmarkError):
    """A public folder that is incomplete, altered, or older than what was published."""


@dataclass(slots=True)
class State:
    """Everything signed, verified. first: version of the root that devices begin with.

    roles: the delegated ones by name.
    """

    public: Path
    first: int
    root: Metadata[Root]
    timestamp: Timestamp
    snapshot: Snapshot
    targets: Targets
    roles: dict[str, Targets]

    def signed(self, role: str) -> Signed:
        """Return what a role has signed."""
        top: dict[str, Signed] = {
            "root": self.root.signed,
            "targets": self.targets,
            "snapshot": self.snapshot,
            "timestamp": self.timestamp,
        }
        return top.get(role) or self.roles[role]

    def keys_of(self, role: str) -> tuple[list[str], int]:
        """Return the ids of a role's keys, and how many have to sign."""
        delegator: Root | Targets = self.root.signed if role in TOP else self.targets
        found = delegator.get_delegated_role(role)
        return list(found.keyids), found.threshold

    @property
    def delegations(self) -> Delegations:
        """Who may sign what."""
        assert self.targets.delegations is not None
        return self.targets.delegations

    def fleet(self) -> Fleet | None:
        """Return who runs what; None before anything was assigned."""
        info = self.roles["assignments"].targets.get(FLEET)
        if info is None:
            return None
        try:
            return read_fleet(self.content(info))
        except ValueError as error:
            raise RepositoryDamagedError(f"{self.public}: {error}") from error

    def bundles(self) -> list[str]:
        """Return the ids of all published bundles."""
        return sorted(
            name.split("/")[1]
            for name in self.roles["models"].targets
            if name.endswith(f"/{MANIFEST_NAME}")
        )

    def manifest(self, bundle: str) -> Manifest:
        """Return the manifest of a published bundle."""
        target = model_target(bundle, MANIFEST_NAME)
        try:
            return decode_manifest(self.content(self.roles["models"].targets[target]), target)
        except BundleError as error:
            raise RepositoryDamagedError(f"{self.public}: {error}") from error

    def content(self, info: TargetFile) -> bytes:
        """Return a target's content, if it is what was signed."""
        path = self.public / content_path(info.path, info.hashes["sha256"])
        data = _read(path)
        if hashlib.sha256(data).hexdigest() != info.hashes["sha256"]:
            raise RepositoryDamagedError(f"{path}: altered; restore it from a copy")
        return data


def read_state(public: Path, anchor: bytes) -> State:
    """Read and verify a public folder, its age apart. anchor: the first root's metadata."""
    try:
        first = Metadata[Root].from_bytes(anchor).signed.version
        root = _root(public, anchor)
        authority = root.signed
        timestamp = _load(public, "timestamp", Timestamp, authority)
        meta = timestamp.snapshot_meta
        snapshot = _load(public, "snapshot", Snapshot, authority, meta)
        targets = _load(public, "targets", Targets, authority, snapshot.meta["targets.json"])
        roles = {
            role: _load(public, role, Targets, targets, snapshot.meta[f"{role}.json"])
            for role in ROLES
        }
    except (RepositoryError, DeserializationError, KeyError, ValueError) as error:
        raise RepositoryDamagedError(
            f"{public}: is not what this repository's keys have signed: {error}"
        ) from error
    return State(public, first, root, timestamp, snapshot, targets, roles)


def _root(public: Path, anchor: bytes) -> Metadata[Root]:
    """Follow the roots from the first one, each signed by the one before and by itself."""
    root = Metadata[Root].from_bytes(anchor)
    root.signed.verify_delegate("root", root.signed_bytes, root.signatures)
    while (path := public / "metadata" / f"{root.signed.version + 1}.root.json").exists():
        following = Metadata[Root].from_bytes(_read(path))
        for authority in (root.signed, following.signed):
            authority.verify_delegate("root", following.signed_bytes, following.signatures)
        if following.signed.version != root.signed.version + 1:
            raise ValueError(f"{path.name} says version {following.signed.version}")
        root = following
    return root


def _load(
    public: Path, role: str, kind: type[T], authority: Root | Targets, meta: MetaFile | None = None
) -> T:
    name = f"{role}.json" if meta is None else f"{meta.version}.{role}.json"
    data = _read(public / "metadata" / name)
    if meta is not None:
        meta.verify_length_and_hashes(data)
    metadata = Metadata[T].from_bytes(data)
    if metadata.signed.type != kind.type or (meta and metadata.signed.version != meta.version):
        raise ValueError(f"{name} is something else")
    authority.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    return metadata.signed


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RepositoryDamagedError(
            f"{path}: cannot be read ({error.strerror}); restore it from a copy"
        ) from error

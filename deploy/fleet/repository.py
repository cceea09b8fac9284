"""What a device needs of a repository folder: read, not trusted; devices check every signature."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from edge.errors import BundleError, EarmarkError
from edge.files import sha256_file
from edge.release.manifest import MANIFEST_NAME, Sha256, decode_manifest
from edge.release.targets import (
    FLEET,
    ROLES,
    Fleet,
    MeansTerms,
    assigned,
    content_path,
    means_target,
    model_target,
    moved_at,
    read_fleet,
    read_terms,
    scopes_of,
)

TIMESTAMP = "metadata/timestamp.json"
_LIMIT_BYTES = 32 << 20

Whole = Annotated[int, msgspec.Meta(ge=0)]
S = TypeVar("S")


class RepositoryError(EarmarkError):
    """A repository folder that is none, or in which something is missing or damaged."""


class _Version(msgspec.Struct):
    version: int


class _Listed(msgspec.Struct):
    meta: dict[str, _Version]


class _Hashes(msgspec.Struct):
    sha256: Sha256


class _Target(msgspec.Struct):
    length: Whole
    hashes: _Hashes
    custom: Any = None


class _Targets(msgspec.Struct):
    targets: dict[str, _Target]


class _Signed(msgspec.Struct):
    signed: msgspec.Raw


@dataclass(frozen=True, slots=True)
class Content:
    """A file of the repository. path: relative to its folder."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one device shall run. assignment: its seq.

    means_seq: of the means assigned to it, 0 without any, None when they were made by another
    embedder, so that the bundle's own serve. files: what the device fetches, beside the metadata,
    which is for all the same.
    """

    bundle: str
    assignment: int
    means_seq: int | None
    files: tuple[Content, ...]


class Repository:
    """A repository folder as it is now; RepositoryError when it is none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        timestamp = self._role("timestamp.json", _Listed)
        snapshot_version = self._version(timestamp, "snapshot.json", "timestamp.json")
        snapshot_name = f"{snapshot_version}.snapshot.json"
        snapshot = self._role(snapshot_name, _Listed)
        names = {
            role: f"{self._version(snapshot, f'{role}.json', snapshot_name)}.{role}.json"
            for role in ("targets", *ROLES)
        }
        # A device that was away follows the roots one by one.
        roots = _roots(folder / "metadata")
        if not roots:
            raise RepositoryError(f"{folder}/metadata/1.root.json: missing; is this a repository?")
        # One that took the place of a lost repository does not begin at 1.
        self.root_file = folder / "metadata" / roots[0]
        # In this order a device that is cut off has a whole repository, the old or the new one.
        self.metadata: tuple[Content, ...] = tuple(
            self._metadata(name)
            for name in (*roots, *names.values(), snapshot_name, "timestamp.json")
        )
        self._targets = {role: self._role(names[role], _Targets).targets for role in ROLES}
        self._fleet = self._read_fleet()

    def wanted(self, device: str) -> Wanted | None:
        """Return what a device shall run, None when nothing is assigned to it."""
        if self._fleet is None or (found := assigned(self._fleet, device)) is None:
            return None
        prefix = f"models/{found.bundle}/"
        files = [
            _content(name, target)
            for name, target in sorted(self._targets["models"].items())
            if name.startswith(prefix)
        ]
        if not files:
            raise RepositoryError(
                f"{self.folder}: {device} shall run {found.bundle[:12]}, which is not published"
            )
        files.append(_content(FLEET, self._targets["assignments"][FLEET]))
        means_seq: int | None = 0
        for scope in scopes_of(self._fleet, device):
            target = self._targets["means"].get(means_target(scope))
            if target is not None:
                files.append(_content(means_target(scope), target))
                terms = self._terms(scope, target)
                means_seq = max(terms.seq, moved_at(self._fleet, device))
                if terms.embedder_sha256 != self._embedder(found.bundle):
                    means_seq = None
                break
        return Wanted(found.bundle, found.seq, means_seq, tuple(files))

    def check(self, files: Mapping[str, Content]) -> None:
        """Raise RepositoryError when a file is missing or is not what is signed of it."""
        for path, content in files.items():
            file = self.folder / path
            if not file.is_file():
                raise RepositoryError(f"{file}: missing; publish it again")
            if file.stat().st_size != content.size or sha256_file(file) != content.sha256:
                raise RepositoryError(f"{file}: damaged; restore the repository from its copy")

    def _terms(self, scope: str, target: _Target) -> MeansTerms:
        try:
            return read_terms(target.custom)
        except ValueError as error:
            raise RepositoryError(f"{self.folder}: {means_target(scope)}: {error}") from error

    def _embedder(self, bundle: str) -> str:
        """Return the hash of a bundle's embedder, to which class means belong."""
        name = model_target(bundle, MANIFEST_NAME)
        target = self._targets["models"].get(name)
        if target is None:
            raise RepositoryError(f"{self.folder}: {name}: is not published here")
        path = self.folder / content_path(name, target.hashes.sha256)
        try:
            return decode_manifest(path.read_bytes(), str(path)).embedder.sha256
        except FileNotFoundError as error:
            raise RepositoryError(f"{path}: missing; publish it again") from error
        except BundleError as error:
            raise RepositoryError(f"{path}: {error}") from error

    def _read_fleet(self) -> Fleet | None:
        target = self._targets["assignments"].get(FLEET)
        if target is None:
            return None
        path = self.folder / content_path(FLEET, target.hashes.sha256)
        try:
            return read_fleet(path.read_bytes())
        except FileNotFoundError as error:
            raise RepositoryError(f"{path}: missing; assign something again") from error
        except ValueError as error:
            raise RepositoryError(f"{path}: {error}") from error

    def _role(self, name: str, kind: type[S]) -> S:
        path = self.folder / "metadata" / name
        try:
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise RepositoryError(
                f"{path}: missing; is this a repository? earmark-deploy repo init makes one"
            ) from error
        if len(data) > _LIMIT_BYTES:
            raise RepositoryError(f"{path}: {len(data)} bytes; no metadata is so long")
        try:
            return msgspec.json.decode(msgspec.json.decode(data, type=_Signed).signed, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RepositoryError(f"{path}: not TUF metadata: {error}") from error

    def _version(self, listed: _Listed, name: str, where: str) -> int:
        try:
            return listed.meta[name].version
        except KeyError as error:
            raise RepositoryError(
                f"{self.folder}/metadata/{where}: names no {name}; is this a repository of earmark?"
            ) from error

    def _metadata(self, name: str) -> Content:
        data = (self.folder / "metadata" / name).read_bytes()
        return Content(f"metadata/{name}", hashlib.sha256(data).hexdigest(), len(data))


def _roots(metadata: Path) -> list[str]:
    """Return the names of all roots, by their versions."""
    names = (path.name.partition(".") for path in metadata.glob("*.root.json"))
    versions = sorted(int(version) for version, _, _ in names if version.isdecimal())
    return [f"{version}.root.json" for version in versions]


def _content(name: str, target: _Target) -> Content:
    sha256 = target.hashes.sha256
    return Content(content_path(name, sha256), sha256, target.length)

"""The store on a device's disk: content by its hash, releases made of it, and which one is current.

    blobs/sha256/ab/<hex>   verified content; <hex>.part while it is being fetched
    releases/<id12>-<seq>/  a bundle whose files are hard links to blobs
    current                 a link to one of them, replaced by one rename: the only commit point

Whatever instant the power fails at, a release under its name is whole.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edge import durable
from edge.durable import DurableError, at
from edge.errors import BundleError, EarmarkError
from edge.files import sha256_file
from edge.release.manifest import (
    MANIFEST_NAME,
    Manifest,
    decode_manifest,
    encode_manifest,
    verify_files,
)
from edge.release.state import RELEASE_PATTERN

_NAME = re.compile(RELEASE_PATTERN)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PART = ".part"
_STAGING, _GONE = ".staging-", ".gone-"
_MAX_MANIFEST_BYTES = 4 << 20


class DownloadError(EarmarkError):
    """Content that did not arrive as it was promised."""


def release_name(content_id: str, assignment: int) -> str:
    """Return the name of a release: old content under a higher seq is a new release."""
    return f"{content_id[:12]}-{assignment}"


class Store:
    """Content and releases below `root`; nothing here decides what is to be installed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._blobs = root / "blobs" / "sha256"
        self._releases = root / "releases"
        self._current = root / "current"

    def blob(self, sha256: str) -> Path:
        """Return where content of this hash lies, or would."""
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"{sha256!r} is no SHA-256")
        return self._blobs / sha256[:2] / sha256

    def part(self, sha256: str) -> Path:
        """Return where content of this hash is written while it is fetched; its folder is made."""
        path = self.blob(sha256)
        durable.make_folder(path.parent)
        return path.with_name(path.name + _PART)

    def has_blob(self, sha256: str) -> bool:
        """Return whether content of this hash is here; it was verified when it came."""
        path = self.blob(sha256)
        return path.is_file() and not path.is_symlink()

    def adopt_part(self, sha256: str, size: int) -> Path:
        """Make what was fetched a blob, if it is what was promised; return its path.

        A part that is not is removed: DownloadError. So is one that the disk will not keep.
        """
        part, blob = self.part(sha256), self.blob(sha256)
        try:
            length = part.stat().st_size
            if length != size:
                raise DownloadError(f"{part}: {length} bytes came, {size} were promised")
            if sha256_file(part) != sha256:
                raise DownloadError(f"{part}: its hash is not the promised one; fetched again")
            at("blob: verified")
            part.chmod(0o444)
            durable.sync_file(part)
            at("blob: synced")
            durable.rename_durably(part, blob)
        except FileNotFoundError as error:
            raise DownloadError(f"{part}: nothing was fetched") from error
        except (DownloadError, DurableError):
            _drop(part)
            raise
        except OSError as error:
            _drop(part)
            raise DurableError(part, error) from error
        return blob

    def put_blob(self, data: bytes) -> str:
        """Keep content that was made here; return its hash."""
        sha256 = hashlib.sha256(data).hexdigest()
        if not self.has_blob(sha256):
            durable.make_folder(self.blob(sha256).parent)
            durable.write_durably(self.blob(sha256), data, 0o444)
        return sha256

    def release(self, name: str) -> Path:
        """Return the folder of a release, there or not; ValueError for what is no name."""
        if not _NAME.search(name):
            raise ValueError(f"{name!r} is no release's name")
        return self._releases / name

    def releases(self) -> list[str]:
        """Return the names of all releases."""
        return sorted(path.name for path in _entries(self._releases) if _NAME.search(path.name))

    def stage(self, name: str, manifest: Manifest) -> Path:
        """Make a release of blobs that are here; return its folder. It is whole, or not there.

        A release of that name which is whole is left as it is. Raises BundleError for content that
        is missing or is not what the manifest says (a blob that is not is removed, so that it is
        fetched again), and for another manifest than that of what runs under this name, which is
        never taken away. DurableError when the disk will not keep it: what was staged is then gone.
        """
        folder = self.release(name)
        if not name.startswith(f"{manifest.id[:12]}-"):
            raise BundleError(f"{folder}: the manifest's id is {manifest.id[:12]}…")
        if MANIFEST_NAME in manifest.files:
            raise BundleError(f"{folder}: the manifest lists itself; export the bundle again")
        if folder.exists():
            present = None
            with suppress(BundleError):
                present = self.verify(name)
            if present == manifest:
                return folder
            if present is not None and folder == self.current():
                raise BundleError(f"{folder}: runs under this name with another manifest")
            self._remove(folder)
        durable.make_folder(self._releases)
        staging = self._releases / f"{_STAGING}{name}"
        durable.remove_tree(staging)
        try:
            with _kept(staging):
                staging.mkdir()
            at("stage: made")
            for file, entry in manifest.files.items():
                self._link(entry.sha256, staging / file)
                at(f"stage: linked {file}")
            durable.write_durably(staging / MANIFEST_NAME, encode_manifest(manifest))
            durable.sync_folder(staging)
            at("stage: synced")
            self._verify_links(staging, manifest)
            at("stage: verified")
            durable.rename_durably(staging, folder)
            self.verify(name)
        except BaseException:
            with suppress(DurableError):
                durable.remove_tree(staging)
            if folder.exists():
                with suppress(DurableError):
                    self._remove(folder)
            raise
        return folder

    def verify(self, name: str) -> Manifest:
        """Return the manifest of a release whose every file is what it says; else BundleError."""
        folder = self.release(name)
        path = folder / MANIFEST_NAME
        try:
            with path.open("rb") as stream:
                data = stream.read(_MAX_MANIFEST_BYTES + 1)
        except OSError as error:
            raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
        if len(data) > _MAX_MANIFEST_BYTES:
            raise BundleError(f"{path}: larger than any manifest should be")
        manifest = decode_manifest(data, str(path))
        if not name.startswith(f"{manifest.id[:12]}-"):
            raise BundleError(f"{folder}: holds release {manifest.id[:12]}…")
        try:
            verify_files(folder, manifest)
        except OSError as error:
            raise BundleError(f"{folder}: cannot be read: {error.strerror}") from error
        return manifest

    def whole(self, name: str) -> bool:
        """Return whether a release is there and every file is what its manifest says."""
        try:
            self.verify(name)
        except (BundleError, ValueError):
            return False
        return True

    def current(self) -> Path | None:
        """Return the folder of the current release; None before the first was committed."""
        try:
            name = self._current.readlink().name
        except OSError:
            return None
        if not _NAME.search(name):
            return None
        folder = self._releases / name
        return folder if folder.is_dir() else None

    def commit(self, name: str) -> None:
        """Verify a release once more and make it current: the one symlink swap.

        BundleError when it is not whole. DurableError: `current` may be either, and both are whole;
        a release that the disk would not keep is gone.
        """
        manifest = self.verify(name)
        try:
            # Who staged it may have been killed before it could do this.
            durable.sync_tree(self.release(name))
            durable.sync_folder(self._releases)
        except DurableError:
            self._forget(name, manifest)
            raise
        at("commit: verified")
        durable.replace_link(self._current, f"releases/{name}")

    def clean(self, keep: Iterable[str], blobs: Iterable[str] = ()) -> None:
        """Remove releases that are neither in `keep` nor current, and what only they were made of.

        blobs: hashes of content that is being fetched, which stays, its parts too.
        """
        current = self.current()
        kept = {*keep, *([current.name] if current else [])}
        for name in self.releases():
            if name not in kept:
                self._remove(self.release(name))
        self.sweep()
        wanted = set(blobs)
        for path in _below(self._blobs):
            if path.name.removesuffix(_PART) not in wanted and path.lstat().st_nlink < 2:
                durable.remove_tree(path)

    def sweep(self) -> None:
        """Remove what a kill has left half made or half removed."""
        for path in _entries(self._releases):
            if path.name.startswith((_STAGING, _GONE)):
                durable.remove_tree(path)
        for folder in (self.root, *_entries(self._releases), *_entries(self._blobs)):
            durable.remove_unfinished(folder)

    def _link(self, sha256: str, target: Path) -> None:
        blob = self.blob(sha256)
        if not self.has_blob(sha256):
            raise BundleError(f"{blob}: is not here; it must be fetched first")
        with _kept(target):
            os.link(blob, target, follow_symlinks=False)
        try:
            durable.sync_file(target)
        except DurableError:
            # The kernel has forgotten what it could not write: no later sync would tell.
            _drop(blob)
            raise

    def _verify_links(self, staging: Path, manifest: Manifest) -> None:
        try:
            verify_files(staging, manifest)
        except BundleError:
            for name, entry in manifest.files.items():
                if sha256_file(staging / name) != entry.sha256:
                    _drop(self.blob(entry.sha256))
            raise

    def _forget(self, name: str, manifest: Manifest) -> None:
        """Remove a release and its content, unless it is the one that runs."""
        current = self.current()
        if current is not None and current.name == name:
            return
        for entry in manifest.files.values():
            _drop(self.blob(entry.sha256))
        with suppress(DurableError):
            self._remove(self.release(name))

    def _remove(self, folder: Path) -> None:
        """Take a release's name first, so that none under its name is ever half there."""
        gone = folder.with_name(f"{_GONE}{folder.name}")
        durable.remove_tree(gone)
        durable.rename_durably(folder, gone)
        durable.remove_tree(gone)


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else []


def _below(folder: Path) -> Iterator[Path]:
    for entry in _entries(folder):
        yield from _entries(entry)


def _drop(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)


@contextmanager
def _kept(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DurableError(path, error) from error

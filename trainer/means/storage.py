"""Where class means are kept: in a bundle, which is written anew around them, or in a loose file.

A bundle that takes the place of another, or stands beside it, has been loaded as a device would
load it, self-test included.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from edge.errors import BundleError, UsageError
from edge.files import new_directory, write_atomically
from edge.identity.means import ClassMeans, save_means
from edge.release.bundle import Bundle, load_bundle, read_manifest
from edge.release.compose import check_means, compose
from edge.release.manifest import (
    MANIFEST_NAME,
    MEANS_NAME,
    Manifest,
    encode_manifest,
)
from trainer.places import check_place

LOOSE_SUFFIX = ".npz"


@dataclass(frozen=True, slots=True)
class Stored:
    """Where means were written. bundle_id: None for a loose file. seq: that of the means."""

    path: Path
    bundle_id: str | None
    seq: int
    animals: int


def check_target(bundle: Path | None, out: Path | None, read: Sequence[Path] = ()) -> None:
    """Raise UsageError for a place that `store` would refuse: before the work, not after it.

    read: folders of crops, in which nothing may be written either.
    """
    if out is None:
        if bundle is None:
            raise UsageError("say where the class means go: --bundle DIR or --out means.npz")
        return
    check_place(out, read)
    if out.suffix == LOOSE_SUFFIX:
        if out.is_dir():
            raise UsageError(f"{out}: is a folder; name a file")
        return
    if bundle is None:
        raise UsageError(f"{out}: without --bundle only a loose file can be written: --out X.npz")
    if _same(bundle, out):
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(
            f"{out}: exists and is not empty; choose another --out, or leave it away to change "
            "the bundle in place"
        )


def store(bundle: Bundle, means: ClassMeans, out: Path | None, *, created: str) -> Stored:
    """Write means that belong to the bundle's embedder, and say where.

    out: None puts them into the bundle; a path without .npz makes another bundle folder there; one
    with .npz a loose file. created: ISO 8601 time. The means' `seq` becomes one higher than that
    of both the means given and those in the bundle; so does the new bundle's.
    """
    check_target(bundle.directory, out)
    seq = 1 + max(means.header.seq, bundle.means.header.seq)
    header = msgspec.structs.replace(
        means.header, seq=seq, created=created, embedder_sha256=bundle.manifest.embedder.sha256
    )
    means = replace(means, header=header)
    target = bundle.directory if out is None else out
    if out is not None and out.suffix == LOOSE_SUFFIX:
        check_means(means, bundle.manifest, out)
        save_means(means, out)
        return Stored(out, None, seq, len(means.animals))
    with new_directory(target) as folder:
        shutil.copytree(bundle.directory, folder, dirs_exist_ok=True, symlinks=True)
        manifest = replace_means(folder, bundle.manifest, means, created=created)
        load_bundle(folder)
        if _same(bundle.directory, target):
            now = read_manifest(bundle.directory).id
            if now != bundle.manifest.id:
                raise BundleError(f"{target}: was changed by somebody else meanwhile; run again")
    return Stored(target, manifest.id, seq, len(means.animals))


def store_loose(means: ClassMeans, out: Path, *, created: str) -> Stored:
    """Write means that belong to no bundle into a file ending in .npz, as their first edition."""
    check_target(None, out)
    header = msgspec.structs.replace(means.header, seq=1, created=created)
    save_means(replace(means, header=header), out)
    return Stored(out, None, 1, len(means.animals))


def replace_means(folder: Path, manifest: Manifest, means: ClassMeans, *, created: str) -> Manifest:
    """Put means into a bundle folder that nobody uses, and describe it by a new manifest.

    Everything else of the manifest stays as it is, so that a file that does not match it is found
    when the bundle is loaded. Returns the new manifest, `seq` one higher.
    """
    path = folder / MEANS_NAME
    save_means(means, path)
    renewed = msgspec.structs.replace(
        compose(manifest, means, path.read_bytes()), seq=manifest.seq + 1, created=created
    )
    write_atomically(folder / MANIFEST_NAME, encode_manifest(renewed))
    return renewed


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()

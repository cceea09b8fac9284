"""The manifest of a bundle whose class means are exchanged for others of the same embedder."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from edge.errors import BundleError
from edge.identity.means import ClassMeans
from edge.release.manifest import MEANS_NAME, FileEntry, Manifest, MeansSpec, content_id


def compose(base: Manifest, means: ClassMeans, data: bytes) -> Manifest:
    """Return the manifest of `base` with other means; data: the bytes of their file.

    The same in, the same out, on every machine: only the means' entry, what is said of them, and
    the id change. BundleError for means that the bundle's embedder did not make.
    """
    check_means(means, base, Path(MEANS_NAME))
    entry = FileEntry(
        sha256=hashlib.sha256(data).hexdigest(), size=len(data), role=base.files[MEANS_NAME].role
    )
    files = {**base.files, MEANS_NAME: entry}
    spec = MeansSpec(
        animals=len(means.animals),
        dimension=means.dimension,
        embedder_sha256=means.header.embedder_sha256,
    )
    return msgspec.structs.replace(base, id=content_id(files), files=files, means=spec)


def check_means(means: ClassMeans, manifest: Manifest, where: Path) -> None:
    """Raise BundleError for class means that were not made by this bundle's embedder."""
    if means.header.embedder_sha256 != manifest.embedder.sha256:
        raise BundleError(
            f"{where}: made by another embedder "
            f"({means.header.embedder_sha256[:12] or 'unnamed'}, this one is "
            f"{manifest.embedder.sha256[:12]}); build the means again with this bundle"
        )
    if means.dimension != manifest.embedder.dimension:
        raise BundleError(
            f"{where}: prototypes of dimension {means.dimension}, the embedder's is "
            f"{manifest.embedder.dimension}"
        )
    if not means.animals:
        raise BundleError(f"{where}: holds no animals")

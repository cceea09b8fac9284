"""What the repository's wish means for this device: which release, made of which content."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from edge.errors import BundleError
from edge.identity.means import load_means
from edge.release.channels import Channel
from edge.release.compose import compose
from edge.release.manifest import (
    MANIFEST_NAME,
    MEANS_NAME,
    FileEntry,
    Manifest,
    content_id,
    decode_manifest,
)
from edge.release.store import Store, release_name
from edge.release.trust import Blob, Wanted

_MAX_MANIFEST_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be installed. channel: what it was learned from. base: the bundle's manifest.

    means: class means that replace the bundle's own, None when these serve. name: the release's.
    note: what people should know of it, empty for nothing.
    """

    wanted: Wanted
    channel: Channel
    base: Manifest
    means: Blob | None
    name: str
    note: str

    @property
    def means_seq(self) -> int:
        """The seq of the class means that will serve, 0 for the bundle's own."""
        return self.wanted.means_seq if self.means is not None else 0

    @property
    def means_sha256(self) -> str:
        """The content of the class means that come under `means_seq`, empty for the bundle's."""
        return self.means.sha256 if self.means is not None else ""

    def blobs(self) -> Iterator[Blob]:
        """Yield all content that the release is made of, class means first: they are small."""
        if self.means is not None:
            yield self.means
        for name in self.base.files:
            if name != MEANS_NAME or self.means is None:
                yield self.wanted.files[name]

    def missing(self, store: Store) -> list[Blob]:
        """Return what of it is not here yet."""
        return [blob for blob in self.blobs() if not store.has_blob(blob.sha256)]

    def manifest(self, store: Store) -> Manifest:
        """Return the manifest to install; all content is here. BundleError for bad class means."""
        if self.means is None:
            return self.base
        path = store.blob(self.means.sha256)
        return compose(self.base, load_means(path), path.read_bytes())


def make_plan(wanted: Wanted, channel: Channel, store: Store) -> Plan:
    """Return the plan for what is wanted; its manifest is here already.

    BundleError for a manifest that is not what the repository has signed the files to be.
    """
    blob = wanted.files[MANIFEST_NAME]
    path = store.blob(blob.sha256)
    if blob.size > _MAX_MANIFEST_BYTES:
        raise BundleError(f"{blob.path}: larger than any manifest should be")
    base = decode_manifest(path.read_bytes(), blob.path)
    _check(base, wanted, blob.path)
    means, note = wanted.means, ""
    if means is not None and wanted.means_embedder != base.embedder.sha256:
        means, note = None, "class means of another embedder are left out, the bundle's own serve"
    files = base.files
    if means is not None:
        entry = FileEntry(sha256=means.sha256, size=means.size, role=files[MEANS_NAME].role)
        files = {**files, MEANS_NAME: entry}
    name = release_name(content_id(files), wanted.assignment)
    return Plan(wanted, channel, base, means, name, note)


def _check(base: Manifest, wanted: Wanted, where: str) -> None:
    if base.id != wanted.bundle or content_id(base.files) != base.id:
        raise BundleError(f"{where}: is not the manifest of bundle {wanted.bundle[:12]}")
    signed = {
        name: FileEntry(sha256=blob.sha256, size=blob.size, role="")
        for name, blob in wanted.files.items()
        if name != MANIFEST_NAME
    }
    listed = {name: msgspec.structs.replace(entry, role="") for name, entry in base.files.items()}
    if signed != listed:
        odd = sorted({*signed, *listed} - {n for n in signed if signed[n] == listed.get(n)})
        raise BundleError(f"{where}: its files are not those that were signed: {', '.join(odd)}")
    if MEANS_NAME not in base.files:
        raise BundleError(f"{where}: does not list {MEANS_NAME}; publish it again")

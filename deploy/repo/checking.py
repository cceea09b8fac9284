"""What is published is checked first, by the device's own code."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import tempfile
from pathlib import Path

from deploy.repo.state import State
from edge.errors import BundleError, UsageError
from edge.identity.means import load_means
from edge.messaging.topics import check_animals
from edge.release.bundle import EMBEDDER_NAME, load_bundle, verify_bundle
from edge.release.compose import check_means
from edge.release.manifest import MANIFEST_NAME, MEANS_NAME, Manifest, decode_manifest
from edge.release.targets import MAX_BUNDLE_BYTES, MAX_BUNDLE_FILES, model_target

_RUNTIMES = ("ai_edge_litert", "tflite_runtime")


def has_runtime() -> bool:
    """Say whether this machine can run models, and so ask a bundle its golden questions."""
    return any(importlib.util.find_spec(name) is not None for name in _RUNTIMES)


def checked_bundle(folder: Path) -> tuple[Manifest, dict[str, bytes]]:
    """Return a bundle's manifest and its files by name, after everything in it was checked.

    With a TFLite runtime at hand it is loaded and asked its golden questions as well. What is
    returned is what was checked, whoever writes into the folder meanwhile. Raises BundleError.
    """
    manifest = verify_bundle(folder)
    names = [MANIFEST_NAME, *manifest.files]
    size = sum(entry.size for entry in manifest.files.values())
    if len(names) > MAX_BUNDLE_FILES or size > MAX_BUNDLE_BYTES:
        raise BundleError(f"{folder}: {len(names)} files of {size} bytes: devices refuse that")
    if has_runtime():
        load_bundle(folder)
    check_animals(load_means(folder / MEANS_NAME).animals)
    files = {file: (folder / file).read_bytes() for file in names}
    for file, entry in manifest.files.items():
        if hashlib.sha256(files[file]).hexdigest() != entry.sha256:
            raise BundleError(f"{folder / file}: was changed while it was published")
    if decode_manifest(files[MANIFEST_NAME], str(folder / MANIFEST_NAME)) != manifest:
        raise BundleError(f"{folder / MANIFEST_NAME}: was changed while it was published")
    return manifest, files


def checked_means(file: Path, state: State) -> tuple[bytes, str]:
    """Return class means and the embedder that made them, which a published bundle must have.

    Raises BundleError for what is no class means, or none of any bundle here.
    """
    with tempfile.TemporaryDirectory(prefix="earmark-publish-") as name:
        copy = Path(name) / file.name
        try:
            shutil.copyfile(file, copy)
        except OSError as error:
            raise UsageError(f"{file}: cannot be read: {error.strerror}") from error
        data = copy.read_bytes()
        try:
            means = load_means(copy)
        except BundleError as error:
            raise BundleError(str(error).replace(str(copy), str(file))) from error
    check_animals(means.animals)
    embedder = means.header.embedder_sha256
    for bundle in state.bundles():
        info = state.roles["models"].targets.get(model_target(bundle, EMBEDDER_NAME))
        if info is not None and info.hashes["sha256"] == embedder:
            check_means(means, state.manifest(bundle), file)
            return data, embedder
    raise BundleError(
        f"{file}: made by embedder {embedder[:12] or 'unnamed'}, which no published bundle has; "
        "publish its bundle first, or build the means with a published one"
    )

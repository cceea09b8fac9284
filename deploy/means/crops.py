"""Crops that a device kept, embedded as the device would have."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge.capture.images import decode_image
from edge.errors import BundleError, UsageError
from edge.release.bundle import load_bundle
from edge.vision.geometry import letterbox
from edge.vision.types import Floats

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})


def embed_folder(folder: Path, bundle: Path, embedder_sha256: str) -> tuple[list[str], Floats]:
    """Return all pictures below a folder, by name, and their unit embeddings (N, D).

    UsageError when there are none, or when the bundle's embedder is not the one of this SHA-256.
    """
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
    if not paths:
        raise UsageError(f"{folder}: no pictures in it; a device keeps crops in its state folder")
    loaded = load_bundle(bundle)
    if loaded.manifest.embedder.sha256 != embedder_sha256:
        raise BundleError(
            f"{bundle}: has embedder {loaded.manifest.embedder.sha256[:12]}, the class means were "
            f"made by {embedder_sha256[:12] or 'an unnamed one'}"
        )
    embedder = loaded.embedder
    size = (embedder.size, embedder.size)
    rows = []
    for path in paths:
        image = decode_image(path)
        if image is None:
            raise UsageError(f"{path}: not a picture that can be read; take it away")
        crop = letterbox(image, size, embedder.letterbox_colour)[0]
        rows.append(embedder.embed(crop[None])[0])
    return [str(path.relative_to(folder)) for path in paths], np.stack(rows)

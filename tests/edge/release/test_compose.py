from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge.errors import BundleError
from edge.identity.means import ClassMeans, MeansHeader, save_means
from edge.release.compose import compose
from edge.release.manifest import Manifest, content_id, decode_manifest, encode_manifest
from edge.release.store import Store, release_name
from tests.edge.release.acts import NEW


def means(embedder: str, dimension: int = 64, animals: int = 3) -> ClassMeans:
    return ClassMeans(
        tuple(f"pig{number:02}" for number in range(animals)),
        np.eye(animals, dimension, dtype=np.float32),
        np.arange(animals, dtype=np.int32),
        np.zeros((animals, dimension)),
        np.zeros(animals, np.int64),
        np.full(animals, 0.1, np.float32),
        0.05,
        MeansHeader(seq=12, embedder_sha256=embedder),
    )


@pytest.fixture
def base() -> Manifest:
    return NEW.manifest


def test_only_the_means_and_the_id_change(base: Manifest) -> None:
    composed = compose(base, means(base.embedder.sha256), b"npz")
    entry = composed.files["means.npz"]
    assert (entry.sha256, entry.size) == (hashlib.sha256(b"npz").hexdigest(), 3)
    assert entry.role == base.files["means.npz"].role
    assert composed.id == content_id(composed.files) != base.id
    assert (composed.means.animals, composed.means.dimension) == (3, 64)
    assert composed.means.embedder_sha256 == base.embedder.sha256
    same = msgspec.structs.replace(
        composed,
        id=base.id,
        means=base.means,
        files={**composed.files, "means.npz": base.files["means.npz"]},
    )
    assert same == base
    assert decode_manifest(encode_manifest(composed), "there") == composed


def test_the_same_in_the_same_out(base: Manifest) -> None:
    mine = means(base.embedder.sha256)
    assert encode_manifest(compose(base, mine, b"npz")) == encode_manifest(
        compose(base, mine, b"npz")
    )
    assert compose(base, mine, b"other").id != compose(base, mine, b"npz").id


def test_means_that_the_embedder_did_not_make_are_refused(base: Manifest) -> None:
    embedder = base.embedder.sha256
    with pytest.raises(BundleError, match=r"means\.npz: made by another embedder"):
        compose(base, means("ab" * 32), b"npz")
    with pytest.raises(BundleError, match="prototypes of dimension 32, the embedder's is 64"):
        compose(base, means(embedder, dimension=32), b"npz")
    with pytest.raises(BundleError, match="holds no animals"):
        compose(base, means(embedder, animals=0), b"npz")


def test_a_composed_release_is_whole_and_shares_the_models(base: Manifest, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    for data in NEW.files.values():
        store.put_blob(data)
    mine = replace(means(base.embedder.sha256))
    save_means(mine, tmp_path / "means.npz")
    data = (tmp_path / "means.npz").read_bytes()
    composed = compose(base, mine, data)
    assert store.put_blob(data) == composed.files["means.npz"].sha256
    folder = store.stage(release_name(composed.id, 4), composed)
    old = store.stage(NEW.name, base)
    assert (folder / "means.npz").read_bytes() == data
    assert (folder / "embedder.tflite").samefile(old / "embedder.tflite")

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.errors import BundleError
from edge.files import sha256_file
from edge.release.manifest import (
    FileEntry,
    Manifest,
    content_id,
    decode_manifest,
    encode_manifest,
    verify_files,
)

HASH = "ab" * 32


def raw() -> dict[str, Any]:
    return {
        "schema": 1,
        "id": content_id({"embedder.tflite": FileEntry(sha256=HASH, size=5, role="embedder")}),
        "seq": 3,
        "created": "2026-01-01T00:00:00Z",
        "min_agent": "0.1.0",
        "files": {"embedder.tflite": {"sha256": HASH, "size": 5, "role": "embedder"}},
        "detector": {
            "input_shape": [1, 320, 320, 3],
            "dtype": "int8",
            "scale": 0.0078,
            "zero_point": 0,
            "pixel_scale": 0.0078,
            "pixel_offset": -1.0,
            "letterbox_colour": [114, 114, 114],
            "outputs": {"boxes": "a", "scores": "b", "classes": "c", "count": "d"},
            "class_names": ["animal"],
            "score_threshold": 0.5,
            "top_k": 50,
            "nms_iou": 0.6,
        },
        "embedder": {
            "sha256": HASH,
            "input_shape": [1, 96, 96, 3],
            "dtype": "int8",
            "pixel_scale": 0.0078,
            "pixel_offset": -1.0,
            "letterbox_colour": [114, 114, 114],
            "dimension": 64,
            "backbone": "mobilenet_v2",
            "tap": "block_10_project_BN",
        },
        "means": {"animals": 16, "dimension": 64, "embedder_sha256": HASH},
        "self_test": {"cosine_floor": 0.98},
        "training": {
            "recipe": {"name": "demo"},
            "data_hash": "x",
            "git_commit": "y",
            "seed": 1,
            "packages": {"numpy": "2.0"},
            "metrics": {"test": {"macro_f1": 0.9}},
        },
    }


def decode(fields: dict[str, Any]) -> Manifest:
    return decode_manifest(json.dumps(fields).encode(), "bundle/manifest.json")


def test_what_is_encoded_is_decoded() -> None:
    manifest = decode(raw())
    assert decode_manifest(encode_manifest(manifest), "there") == manifest
    assert encode_manifest(manifest).startswith(b'{\n "schema": 1')
    assert decode({**raw(), "detector": None}).detector is None


def put(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def act(fields: dict[str, Any]) -> None:
        *parents, last = path.split("/")
        for name in parents:
            fields = fields[name]
        fields[last] = value

    return act


@pytest.mark.parametrize(
    "damage",
    [
        put("surprise", 1),
        put("embedder/surprise", 1),
        put("detector/outputs", {"boxes": "a"}),
        put("detector/score_threshold", 1.5),
        put("detector/letterbox_colour", [1, 2, 256]),
        put("embedder/input_shape", [1, 0, 96, 3]),
        put("embedder/sha256", "AB" * 32),
        put("id", "short"),
        put("seq", -1),
        put("seq", "3"),
        put("files", {"../../etc/passwd": {"sha256": HASH, "size": 1, "role": "x"}}),
        put("files", {".hidden": {"sha256": HASH, "size": 1, "role": "x"}}),
        put("files", {"a.tflite": {"sha256": HASH, "size": -1, "role": "x"}}),
        lambda fields: fields.pop("means"),
    ],
)
def test_anything_unexpected_is_refused(damage: Callable[[dict[str, Any]], None]) -> None:
    fields = raw()
    damage(fields)
    with pytest.raises(BundleError, match=r"bundle/manifest\.json: not a valid manifest"):
        decode(fields)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe", b"null", b"[" * 100_000])
def test_what_is_no_manifest_at_all_is_refused(data: bytes) -> None:
    with pytest.raises(BundleError, match="not a valid manifest"):
        decode_manifest(data, "m")


def test_a_newer_schema_asks_for_an_update_whatever_else_is_in_it() -> None:
    with pytest.raises(BundleError, match=r"schema 2 is newer than this agent's \(1\); update"):
        decode_manifest(b'{"schema": 2, "novelty": true}', "m")
    with pytest.raises(BundleError, match="unknown bundle schema 0"):
        decode_manifest(b'{"schema": 0}', "m")


def test_the_id_depends_on_names_and_hashes_only() -> None:
    one = FileEntry(sha256=HASH, size=1, role="x")
    other = FileEntry(sha256="cd" * 32, size=1, role="x")
    assert content_id({"a": one, "b": other}) == content_id({"b": other, "a": one})
    assert content_id({"a": one, "b": other}) != content_id({"a": other, "b": one})
    assert content_id({"a": one}) == content_id({"a": FileEntry(sha256=HASH, size=2, role="y")})


@pytest.fixture
def bundle(tmp_path: Path) -> tuple[Path, Manifest]:
    fields = raw()
    (tmp_path / "embedder.tflite").write_bytes(b"bytes")
    digest = sha256_file(tmp_path / "embedder.tflite")
    fields["files"]["embedder.tflite"]["sha256"] = digest
    fields["id"] = content_id(
        {"embedder.tflite": FileEntry(sha256=digest, size=5, role="embedder")}
    )
    return tmp_path, decode(fields)


def test_files_as_listed_pass(bundle: tuple[Path, Manifest]) -> None:
    verify_files(*bundle)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"byte", "4 bytes, the manifest says 5"), (b"bytez", "altered"), (None, "missing")],
)
def test_the_first_wrong_file_is_named(
    bundle: tuple[Path, Manifest], content: bytes | None, message: str
) -> None:
    path = bundle[0] / "embedder.tflite"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BundleError, match=rf"embedder\.tflite: {message}"):
        verify_files(*bundle)


def test_a_link_in_place_of_a_file_is_refused(bundle: tuple[Path, Manifest]) -> None:
    path = bundle[0] / "embedder.tflite"
    path.rename(bundle[0] / "elsewhere")
    path.symlink_to(bundle[0] / "elsewhere")
    with pytest.raises(BundleError, match="missing from the bundle"):
        verify_files(*bundle)


def test_an_id_that_is_not_the_files_is_refused(bundle: tuple[Path, Manifest]) -> None:
    folder, manifest = bundle
    fields = json.loads(encode_manifest(manifest))
    with pytest.raises(BundleError, match="id does not match"):
        verify_files(folder, decode({**fields, "id": HASH}))

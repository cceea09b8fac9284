"""`manifest.json`: what is in a bundle and how its models are to be fed. Strict: see formats."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from edge.errors import BundleError
from edge.files import sha256_file

SCHEMA = 1
MANIFEST_NAME = "manifest.json"
MEANS_NAME = "means.npz"
# What a device runs and tests its models by, `edge.release.bundle` has a name for each.
SERVING_NAMES = (
    "detector.tflite",
    "embedder.tflite",
    "detector_edgetpu.tflite",
    "embedder_edgetpu.tflite",
    "selftest.npz",
)

Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]
FileName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$(?!\n)")]
Channel = Annotated[int, msgspec.Meta(ge=0, le=255)]
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
Whole = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Turns = Literal[1, 2, 4]


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every manifest struct: immutable, unknown fields refused."""


class FileEntry(_Strict, frozen=True):
    """One file of the bundle: hash, size in bytes, and what it is for."""

    sha256: Sha256
    size: Whole
    role: str


class DetectorSpec(_Strict, frozen=True):
    """How to feed the detector and read it.

    input_shape: (1, height, width, 3). real value of a pixel = pixel * pixel_scale + pixel_offset.
    outputs: tensor name for each of the roles boxes, scores, classes, count. nms_iou: of the
    post-process in the model. soft_nms: sigma of what devices do after it (see
    `edge.vision.doubles.soften`), None for nothing.
    """

    input_shape: tuple[Positive, Positive, Positive, Positive]
    dtype: str
    scale: float
    zero_point: int
    pixel_scale: float
    pixel_offset: float
    letterbox_colour: tuple[Channel, Channel, Channel]
    outputs: dict[str, str]
    class_names: list[str]
    score_threshold: Fraction
    top_k: Positive
    nms_iou: Fraction
    soft_nms: Annotated[float, msgspec.Meta(gt=0)] | None = None

    def __post_init__(self) -> None:
        if set(self.outputs) != {"boxes", "scores", "classes", "count"}:
            raise ValueError("detector outputs must name boxes, scores, classes and count")


class EmbedderSpec(_Strict, frozen=True):
    """How to feed the embedder. real value of a pixel = pixel * pixel_scale + pixel_offset.

    turns: at how many angles a crop is embedded and averaged, each of which costs one inference:
    1 as it is, 2 also upside down, 4 all quarter turns. gallery_turns: the same for crops that
    class means are made of.
    """

    sha256: Sha256
    input_shape: tuple[Positive, Positive, Positive, Positive]
    dtype: str
    pixel_scale: float
    pixel_offset: float
    letterbox_colour: tuple[Channel, Channel, Channel]
    dimension: Positive
    backbone: str
    tap: str
    turns: Turns = 1
    gallery_turns: Turns = 4


class MeansSpec(_Strict, frozen=True):
    """What the class means in the bundle hold, and which embedder they belong to."""

    animals: Whole
    dimension: Positive
    embedder_sha256: Sha256


class SelfTestSpec(_Strict, frozen=True):
    """The golden self-test: lowest cosine between this device's embeddings and the trainer's."""

    cosine_floor: Fraction


class TrainingRecord(_Strict, frozen=True):
    """Where the bundle came from, so that it can be made again."""

    recipe: dict[str, Any]
    data_hash: str
    git_commit: str
    seed: int
    packages: dict[str, str]
    metrics: dict[str, Any]


class Manifest(_Strict, frozen=True):
    """The whole of `manifest.json`. detector: None in a bundle that only names crops."""

    schema: int
    id: Sha256
    seq: Whole
    created: str
    min_agent: str
    files: dict[FileName, FileEntry]
    detector: DetectorSpec | None
    embedder: EmbedderSpec
    means: MeansSpec
    self_test: SelfTestSpec
    training: TrainingRecord


class _SchemaOnly(msgspec.Struct):
    """Just enough of any manifest to refuse a newer schema by its name."""

    schema: int


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the manifest as indented JSON, bytes."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def decode_manifest(data: bytes, where: str) -> Manifest:
    """Read a manifest; `where` names its origin in errors (BundleError, one line)."""
    try:
        schema = msgspec.json.decode(data, type=_SchemaOnly).schema
        if schema > SCHEMA:
            raise BundleError(
                f"{where}: bundle schema {schema} is newer than this agent's ({SCHEMA}); "
                "update earmark on the device first"
            )
        if schema != SCHEMA:
            raise BundleError(f"{where}: unknown bundle schema {schema}")
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{where}: not a valid manifest: {error}") from error


def same_models(first: Manifest, second: Manifest) -> bool:
    """Say whether two bundles have the same models, fed, read and tested alike.

    Then one may take the other's place while it runs: class means may differ, and what people read.
    """
    ours, theirs = (
        [
            *(manifest.files.get(name) for name in SERVING_NAMES),
            msgspec.to_builtins(manifest.detector),
            msgspec.to_builtins(manifest.embedder),
            manifest.self_test,
        ]
        for manifest in (first, second)
    )
    return ours == theirs


def content_id(files: dict[str, FileEntry]) -> str:
    """Return the bundle's id: SHA-256 over the sorted names and hashes of its files."""
    lines = "".join(f"{name}\0{files[name].sha256}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()


def verify_files(directory: Path, manifest: Manifest) -> None:
    """Check size and hash of every listed file; BundleError names the first that is wrong."""
    for name, entry in manifest.files.items():
        path = directory / name
        if path.is_symlink() or not path.is_file():
            raise BundleError(f"{path}: missing from the bundle; copy the whole bundle again")
        size = path.stat().st_size
        if size != entry.size:
            raise BundleError(f"{path}: {size} bytes, the manifest says {entry.size}; truncated?")
        if sha256_file(path) != entry.sha256:
            raise BundleError(f"{path}: altered, its hash is not the manifest's")
    if content_id(manifest.files) != manifest.id:
        raise BundleError(f"{directory / MANIFEST_NAME}: the id does not match the files")

"""Writing a bundle: models, means, self-test and report under one manifest."""

from __future__ import annotations

import contextlib
import importlib.metadata
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.files import sha256_file, write_atomically
from edge.identity.means import ClassMeans, save_means
from edge.release.bundle import (
    COMPILED,
    DETECTOR_NAME,
    EMBEDDER_NAME,
    SELFTEST_NAME,
)
from edge.release.manifest import (
    MANIFEST_NAME,
    MEANS_NAME,
    SCHEMA,
    DetectorSpec,
    EmbedderSpec,
    FileEntry,
    Manifest,
    MeansSpec,
    SelfTestSpec,
    TrainingRecord,
    content_id,
    encode_manifest,
)
from edge.release.selftest import GoldenFrames, SelfTest, save_self_test
from edge.vision.embedder import Embedder
from trainer.export.edgetpu_compile import log_name
from trainer.export.edgetpu_interface import check_same_interface

REPORT_NAME = "report.html"
# int8 kernels round a little differently from runtime to runtime: 0.998 was measured between them,
# 0.04 on one that answers wrongly.
COSINE_FLOOR = 0.95
MIN_AGENT = "0.1.0"
_ROLES = {
    DETECTOR_NAME: "detector",
    EMBEDDER_NAME: "embedder",
    MEANS_NAME: "means",
    SELFTEST_NAME: "self-test",
    REPORT_NAME: "report",
    **{name: role for name, (_, role) in COMPILED.items()},
    **{log_name(name): "compiler-log" for name in COMPILED},
}
_RECORDED = ("earmark", "tensorflow", "keras", "numpy", "opencv-python-headless", "ai-edge-litert")


def add_means(folder: Path, means: ClassMeans) -> None:
    """Put class means into a bundle folder."""
    save_means(means, folder / MEANS_NAME)


def add_self_test(
    folder: Path,
    embedder: Embedder,
    crops: NDArray[np.uint8],
    frames: GoldenFrames | None = None,
) -> None:
    """Put golden crops uint8 (K, S, S, 3) and this machine's answers into a bundle folder.

    frames: the detector's part, with this machine's answers.
    """
    save_self_test(SelfTest(crops, embedder.embed(crops), frames), folder / SELFTEST_NAME)


def write_manifest(
    folder: Path,
    *,
    seq: int,
    created: str,
    detector: DetectorSpec | None,
    embedder: EmbedderSpec,
    means: ClassMeans,
    training: TrainingRecord,
) -> Manifest:
    """Describe what lies in a bundle folder; the last step, since it holds everybody's hash.

    Raises UsageError for a file compiled for an Edge TPU that cannot take the plain one's place.
    """
    files = describe_files(folder)
    manifest = Manifest(
        schema=SCHEMA,
        id=content_id(files),
        seq=seq,
        created=created,
        min_agent=MIN_AGENT,
        files=files,
        detector=detector,
        embedder=embedder,
        means=MeansSpec(
            animals=len(means.animals),
            dimension=means.dimension,
            embedder_sha256=means.header.embedder_sha256,
        ),
        self_test=SelfTestSpec(cosine_floor=COSINE_FLOOR),
        training=training,
    )
    write_atomically(folder / MANIFEST_NAME, encode_manifest(manifest))
    return manifest


def describe_files(folder: Path) -> dict[str, FileEntry]:
    """Return what a manifest says of the files that belong into a bundle, as they lie in `folder`.

    Raises UsageError for a file compiled for an Edge TPU that cannot take the plain one's place.
    """
    for name, (plain, _) in COMPILED.items():
        if (folder / name).is_file():
            check_same_interface(
                (folder / plain).read_bytes(), (folder / name).read_bytes(), str(folder / name)
            )
    return {
        name: FileEntry(
            sha256=sha256_file(folder / name), size=(folder / name).stat().st_size, role=role
        )
        for name, role in _ROLES.items()
        if (folder / name).is_file()
    }


def training_record(
    recipe: dict[str, Any], data_hash: str, seed: int, metrics: dict[str, Any]
) -> TrainingRecord:
    """Say where a bundle comes from: recipe, data, code and library versions."""
    return TrainingRecord(
        recipe=recipe,
        data_hash=data_hash,
        git_commit=_git_commit(),
        seed=seed,
        packages=package_versions(),
        metrics=metrics,
    )


def package_versions() -> dict[str, str]:
    """Return the versions of the libraries that matter, as far as they are installed."""
    versions = {}
    for name in _RECORDED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def _git_commit() -> str:
    """Return the commit of the code, `-dirty` when changed, or "unknown" outside a checkout."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()

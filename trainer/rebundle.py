"""A bundle with another detector: somebody else's model beside the herd's embedder and means."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from edge.errors import UsageError
from edge.files import new_directory, sha256_file, write_atomically
from edge.release.bundle import (
    DETECTOR_EDGETPU_NAME,
    DETECTOR_NAME,
    SELFTEST_NAME,
    Bundle,
    load_bundle,
)
from edge.release.manifest import (
    MANIFEST_NAME,
    DetectorSpec,
    Manifest,
    TrainingRecord,
    content_id,
    encode_manifest,
)
from edge.release.selftest import golden_frames, load_self_test, save_self_test
from edge.vision.detector import Detector
from edge.vision.runtime import open_model
from trainer.bundle import REPORT_NAME, describe_files
from trainer.export.edgetpu_bundle import add_compiled_models
from trainer.export.edgetpu_compile import log_name
from trainer.export.third_party import try_detector

# What speaks of the detector that was there before.
_STALE = (DETECTOR_NAME, DETECTOR_EDGETPU_NAME, log_name(DETECTOR_EDGETPU_NAME), REPORT_NAME)
_STALE_METRICS = ("detection", "tracking", "edge_tpu")


@dataclass(frozen=True, slots=True)
class Rebundled:
    """A bundle that has been written. edge_tpu: see `add_compiled_models`."""

    path: Path
    manifest: Manifest
    edge_tpu: dict[str, Any]


def check_new(out: Path) -> None:
    """Raise UsageError for a place where something stands already."""
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise UsageError(f"{out}: exists and is not empty; choose another --out")


def replace_detector(
    base: Bundle,
    detector: Path,
    spec: DetectorSpec,
    out: Path,
    *,
    created: str,
    warn: Callable[[str], None] = lambda text: None,
) -> Rebundled:
    """Write a bundle to `out`, as `base` but with another detector, and return what it holds.

    base: as loaded, so verified. spec: from `third_party_spec`. created: ISO 8601 time. warn: is
    told what is not compiled for the Edge TPU, and why.

    `seq` rises by one; the report and the figures of the old detector stay behind. The bundle has
    been loaded as a device would and has looked at a grey image before it appears, by rename.
    Raises UsageError, or BundleError, otherwise.
    """
    check_new(out)
    with new_directory(out) as folder:
        for name in base.manifest.files:
            if name not in _STALE:
                shutil.copyfile(base.directory / name, folder / name)
        write_atomically(folder / DETECTOR_NAME, detector.read_bytes())
        tried = Detector(open_model(folder / DETECTOR_NAME), spec)
        try_detector(tried, spec, str(detector))
        _renew_self_test(folder / SELFTEST_NAME, tried)
        edge_tpu = add_compiled_models(folder, warn)
        kept = {name: row for name, row in base.manifest.files.items() if name not in _STALE}
        files = kept | describe_files(folder)
        manifest = msgspec.structs.replace(
            base.manifest,
            id=content_id(files),
            seq=base.manifest.seq + 1,
            created=created,
            files=files,
            detector=spec,
            training=_training(base.manifest.training, detector, folder / DETECTOR_NAME, base),
        )
        write_atomically(folder / MANIFEST_NAME, encode_manifest(manifest))
        load_bundle(folder)
    return Rebundled(out, manifest, edge_tpu)


def _renew_self_test(path: Path, detector: Detector) -> None:
    """Ask the new detector of the golden frames; without an animal in them they prove nothing."""
    test = load_self_test(path)
    if test.frames is not None:
        frames = golden_frames(detector, test.frames.images)
        save_self_test(replace(test, frames=frames), path)


def _training(record: TrainingRecord, detector: Path, copy: Path, base: Bundle) -> TrainingRecord:
    """Return a training record that says where the detector is from, and nothing of the old one."""
    source = {
        "file": detector.name,
        "sha256": sha256_file(copy),
        "embedder_from": base.manifest.id,
    }
    metrics = {
        split: {part: row for part, row in figures.items() if part not in _STALE_METRICS}
        if isinstance(figures, dict)
        else figures
        for split, figures in record.metrics.items()
    }
    return msgspec.structs.replace(
        record, recipe={**record.recipe, "detector": source, "clip": None}, metrics=metrics
    )

"""A bundle as a device uses it: verified, loaded, and proven by its golden self-test."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from edge import __version__
from edge.errors import BundleError
from edge.identity.means import ClassMeans, load_means
from edge.release.compose import check_means
from edge.release.manifest import (
    MANIFEST_NAME,
    MEANS_NAME,
    SERVING_NAMES,
    Manifest,
    decode_manifest,
    same_models,
    verify_files,
)
from edge.release.selftest import check_detector, check_embedder, load_self_test
from edge.vision.detector import Detector
from edge.vision.embedder import Embedder
from edge.vision.runtime import Model, open_model

(
    DETECTOR_NAME,
    EMBEDDER_NAME,
    DETECTOR_EDGETPU_NAME,
    EMBEDDER_EDGETPU_NAME,
    SELFTEST_NAME,
) = SERVING_NAMES
# Files compiled for a Coral Edge TPU, each with the plain one that it was made from and its role.
# Devices without a Coral verify them like every file, and leave them alone.
COMPILED = {
    DETECTOR_EDGETPU_NAME: (DETECTOR_NAME, "detector-edgetpu"),
    EMBEDDER_EDGETPU_NAME: (EMBEDDER_NAME, "embedder-edgetpu"),
}
_REQUIRED = (EMBEDDER_NAME, MEANS_NAME, SELFTEST_NAME)
_MAX_MANIFEST_BYTES = 4 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """Loaded models and means. detector: None in a bundle that only names crops.

    backend: what the models run on, in words.
    """

    directory: Path
    manifest: Manifest
    detector: Detector | None
    embedder: Embedder
    means: ClassMeans
    backend: str


class Opener(Protocol):
    """What loads a bundle's models."""

    def __call__(self, path: Path, compiled: Path | None = None, *, many: bool = False) -> Model:
        """Load a model file; compiled: the same for an Edge TPU. many: it gets several crops."""


def load_bundle(directory: Path, *, threads: int = 2, opener: Opener | None = None) -> Bundle:
    """Verify every file of a bundle, load it, and run its self-test on this machine.

    threads: of one inference. opener: what loads the models, and so decides where they run; None
    for this process's CPU. Raises BundleError, one line that names the file, for anything
    missing, truncated, altered or of another kind, and SelfTestError when the models answer
    wrongly here.
    """
    manifest = _verified(directory)
    spec = manifest.embedder
    means = _means(directory, manifest)
    if opener is None:
        opener = _here(threads)
    model = opener(
        directory / EMBEDDER_NAME, _compiled(directory, manifest, EMBEDDER_EDGETPU_NAME), many=True
    )
    embedder = Embedder(model, spec)
    detector = None
    if manifest.detector is not None:
        compiled = _compiled(directory, manifest, DETECTOR_EDGETPU_NAME)
        detector = Detector(opener(directory / DETECTOR_NAME, compiled), manifest.detector)
    bundle = Bundle(directory, manifest, detector, embedder, means, model.backend)
    run_self_test(bundle)
    return bundle


def verify_bundle(directory: Path) -> Manifest:
    """Check all of a bundle that can be checked without running its models; return its manifest.

    Raises BundleError, one line that names the file.
    """
    manifest = _verified(directory)
    _means(directory, manifest)
    load_self_test(directory / SELFTEST_NAME)
    return manifest


def with_other_means(directory: Path, running: Bundle) -> Bundle | None:
    """Return the running models with the class means of a bundle; None when its models differ.

    Every file is verified as `load_bundle` does. Raises BundleError for a bundle that must not run.
    """
    manifest = _verified(directory)
    if not same_models(manifest, running.manifest):
        return None
    means = _means(directory, manifest)
    return replace(running, directory=directory, manifest=manifest, means=means)


def _verified(directory: Path) -> Manifest:
    """Return the manifest of a bundle whose files are all there and what it says they are."""
    manifest = read_manifest(directory)
    check_agent(manifest, directory / MANIFEST_NAME)
    wanted = _REQUIRED if manifest.detector is None else (DETECTOR_NAME, *_REQUIRED)
    for name in wanted:
        if name not in manifest.files:
            raise BundleError(f"{directory / MANIFEST_NAME}: does not list {name}; export it again")
    check_compiled(manifest, directory / MANIFEST_NAME)
    verify_files(directory, manifest)
    if manifest.files[EMBEDDER_NAME].sha256 != manifest.embedder.sha256:
        raise BundleError(
            f"{directory / EMBEDDER_NAME}: is not the embedder the manifest describes"
        )
    return manifest


def _means(directory: Path, manifest: Manifest) -> ClassMeans:
    means = load_means(directory / MEANS_NAME)
    check_means(means, manifest, directory / MEANS_NAME)
    return means


def run_self_test(bundle: Bundle, source: Path | None = None) -> float:
    """Ask a bundle's models its golden questions; return the lowest cosine of its embeddings.

    source: where these are read, if not in the bundle's folder. Raises SelfTestError when a model
    answers differently from the trainer's machine.
    """
    path = bundle.directory / SELFTEST_NAME
    test = load_self_test(source or path)
    lowest = check_embedder(test, bundle.embedder, bundle.manifest.self_test.cosine_floor, path)
    if bundle.detector is not None:
        check_detector(test, bundle.detector, path)
    return lowest


def has_compiled(manifest: Manifest) -> bool:
    """Say whether a bundle has models compiled for a Coral Edge TPU."""
    return any(name in manifest.files for name in COMPILED)


def _here(threads: int) -> Opener:
    def opener(path: Path, compiled: Path | None = None, *, many: bool = False) -> Model:
        return open_model(path, threads)

    return opener


def _compiled(directory: Path, manifest: Manifest, name: str) -> Path | None:
    return directory / name if name in manifest.files else None


def read_manifest(directory: Path) -> Manifest:
    """Read a bundle's manifest; BundleError for a folder that holds none."""
    path = directory / MANIFEST_NAME
    if not directory.is_dir():
        raise BundleError(f"{directory}: no such bundle folder")
    try:
        if path.stat().st_size > _MAX_MANIFEST_BYTES:
            raise BundleError(f"{path}: larger than any manifest should be")
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise BundleError(f"{path}: missing; is {directory} a bundle?") from error
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
    return decode_manifest(data, str(path))


def check_agent(manifest: Manifest, where: Path, version: str = __version__) -> None:
    """Raise BundleError for a bundle that asks for a newer agent than this one."""
    wanted, have = _numbers(manifest.min_agent), _numbers(version)
    if wanted is None:
        raise BundleError(f"{where}: min_agent {manifest.min_agent!r} is not a version")
    if have is not None and wanted > have:
        raise BundleError(
            f"{where}: needs earmark {manifest.min_agent} or newer, this is {version}; update "
            "earmark on the device first"
        )


def _numbers(version: str) -> tuple[int, ...] | None:
    parts = version.split(".")
    if not all(part.isascii() and part.isdecimal() and len(part) < 9 for part in parts):
        return None
    return tuple(int(part) for part in parts)


def check_compiled(manifest: Manifest, where: Path) -> None:
    """Raise BundleError for a file compiled for an Edge TPU whose plain file is not there.

    That both are fed and read alike is seen to when they are put into a bundle.
    """
    for name, (plain, role) in COMPILED.items():
        entry = manifest.files.get(name)
        if entry is None:
            continue
        if plain not in manifest.files or (plain == DETECTOR_NAME and manifest.detector is None):
            raise BundleError(f"{where}: lists {name} without {plain}; export it again")
        if entry.role != role:
            raise BundleError(f"{where}: {name} has the role {entry.role!r} instead of {role!r}")

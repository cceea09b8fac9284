"""Class means: the prototypes by which animals are named, and their file.

After "mean embeddings" of the original 2021 project; here prototypes are unit vectors, there may
be several an animal, and one metric (cosine distance) serves everywhere.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.errors import BundleError
from edge.files import write_atomically

SCHEMA = 1
OUTLIERS = -1
_MAX_BYTES = 256 << 20
_ARRAYS = ("animals", "prototypes", "owner", "sums", "counts", "threshold", "margin", "header")


class MeansHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The JSON `header` of `means.npz`. calibration: how thresholds and margin were chosen."""

    schema: int = SCHEMA
    seq: int = 0
    embedder_sha256: str = ""
    metric: str = "cosine"
    created: str = ""
    calibration: dict[str, Any] = msgspec.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClassMeans:
    """The herd as an embedder sees it: A animals, P prototypes of D dimensions.

    animals: ids. prototypes: float32 (P, D), unit length. owner: int32 (P,), index into animals,
    -1 marks an outliers prototype (nearest to it = unknown). sums: float64 (A, D) running sums of
    unit embeddings; counts: int64 (A,). threshold: float32 (A,), cosine distance beyond which it
    is not this animal. margin: best and second best nearer than this = unsure.
    """

    animals: tuple[str, ...]
    prototypes: NDArray[np.float32]
    owner: NDArray[np.int32]
    sums: NDArray[np.float64]
    counts: NDArray[np.int64]
    threshold: NDArray[np.float32]
    margin: float
    header: MeansHeader

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem:
            raise ValueError(problem)

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return int(self.prototypes.shape[1])


def save_means(means: ClassMeans, path: Path) -> None:
    """Write `means.npz` (formats: Class means) by rename."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        animals=np.array(means.animals, dtype=np.str_),
        prototypes=means.prototypes,
        owner=means.owner,
        sums=means.sums,
        counts=means.counts,
        threshold=means.threshold,
        margin=np.float32(means.margin),
        header=np.array(msgspec.json.encode(means.header).decode()),
    )
    write_atomically(path, buffer.getvalue())


def load_means(path: Path) -> ClassMeans:
    """Read and check `means.npz`; BundleError in one line for anything that is not one."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise BundleError(f"{path}: larger than any class-means file should be")
        with zipfile.ZipFile(path) as packed:
            if sum(entry.file_size for entry in packed.infolist()) > _MAX_BYTES:
                raise BundleError(f"{path}: unpacks to more than any class-means file should")
        with np.load(path, allow_pickle=False) as archive:
            if sorted(archive.files) != sorted(_ARRAYS):
                raise BundleError(f"{path}: expected arrays {', '.join(_ARRAYS)}")
            # A megabyte of zip can hold a thousand of zeros, more than a device has memory.
            if sum(entry.file_size for entry in archive.zip.infolist()) > _MAX_BYTES:
                raise BundleError(f"{path}: unpacks to more than any class means should")
            arrays = {name: archive[name] for name in _ARRAYS}
        header = msgspec.json.decode(str(arrays["header"]), type=MeansHeader)
        if header.schema != SCHEMA:
            raise BundleError(f"{path}: means schema {header.schema} is not {SCHEMA}")
        for name, dtype in _DTYPES.items():
            if arrays[name].dtype != dtype:
                raise BundleError(f"{path}: {name} is {arrays[name].dtype}, expected {dtype}")
        return ClassMeans(
            tuple(str(animal) for animal in np.atleast_1d(arrays["animals"])),
            arrays["prototypes"],
            arrays["owner"],
            arrays["sums"],
            arrays["counts"],
            arrays["threshold"],
            float(arrays["margin"]),
            header,
        )
    except FileNotFoundError as error:
        raise BundleError(f"{path}: missing") from error
    except BundleError:
        raise
    except Exception as error:  # zipfile, zlib and numpy's header parser have many ways to fail
        raise BundleError(f"{path}: not a class-means file: {error}") from error


_DTYPES = {
    "prototypes": np.float32,
    "owner": np.int32,
    "sums": np.float64,
    "counts": np.int64,
    "threshold": np.float32,
    "margin": np.float32,
}


def _problem(means: ClassMeans) -> str | None:
    count = len(means.animals)
    if means.prototypes.ndim != 2:
        return f"prototypes must be (P, D), not {means.prototypes.shape}"
    prototypes, dimension = means.prototypes.shape
    shapes = {
        "owner": (means.owner.shape, (prototypes,)),
        "sums": (means.sums.shape, (count, dimension)),
        "counts": (means.counts.shape, (count,)),
        "threshold": (means.threshold.shape, (count,)),
    }
    for name, (actual, expected) in shapes.items():
        if actual != expected:
            return f"{name} must be {expected}, not {actual}"
    if len(set(means.animals)) != count or any(not animal for animal in means.animals):
        return "animal ids must be distinct and not empty"
    finite = (means.prototypes, means.sums, means.threshold, np.float32(means.margin))
    if not all(np.isfinite(array).all() for array in finite):
        return "an array holds a number that is not finite"
    norms = np.linalg.norm(means.prototypes, axis=1)
    if not np.allclose(norms, 1, atol=1e-3):
        return "prototypes must have unit length"
    if prototypes and (means.owner.min() < OUTLIERS or means.owner.max() >= count):
        return "owner points outside the list of animals"
    if (means.counts < 0).any():
        return "counts must not be negative"
    return None

"""TensorBoard's projector pair: `vecs.tsv`, a vector a line, and `meta.tsv`, what each stands for.

The original 2021 project kept its class means so (16 animals, 64 numbers each, not unit length).
The vectors as they are live in `sums` and `counts`, so that reading and writing gives the same
bytes back. The format is that of projector.tensorflow.org: meta data of a single column has no
header, that of several columns begins with one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import DataError, UsageError
from edge.files import write_atomically
from edge.identity.means import ClassMeans, MeansHeader
from trainer.means.thresholds import UNCALIBRATED

VECTORS_NAME = "vecs.tsv"
META_NAME = "meta.tsv"
# Sums of vectors far outside lose animals beside each other, or everything, in float64.
_LENGTHS = (1e-6, 1e6)
_SEPARATORS = "\t\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029"


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """ids: (A,), distinct. vectors: float64 (A, D), finite, of lengths from 1e-6 to 1e6."""

    ids: tuple[str, ...]
    vectors: NDArray[np.float64]


def read_pair(vectors: Path, meta: Path, column: str | None = None) -> Pair:
    """Read a projector pair; DataError names file and line of whatever is wrong.

    column: which column of the meta data holds the ids, by its header; needed for several columns.
    """
    rows = _read_vectors(vectors)
    ids, first = _read_ids(meta, column)
    if len(ids) != len(rows):
        hint = ""
        if len(ids) == len(rows) + 1 and column is None:
            hint = f"; if its first line {ids[0]!r} is a header, say --column {ids[0]!r}"
        raise DataError(f"{meta}: {len(ids)} ids for the {len(rows)} vectors of {vectors}{hint}")
    seen: dict[str, int] = {}
    for number, name in enumerate(ids, first):
        if not name.strip():
            raise DataError(f"{meta}, line {number}: the id is empty")
        if name in seen:
            raise DataError(
                f"{meta}, line {number}: id {name!r} stands in line {seen[name]} already"
            )
        seen[name] = number
    return Pair(tuple(ids), rows)


def write_pair(pair: Pair, folder: Path) -> tuple[Path, Path]:
    """Write `vecs.tsv` and `meta.tsv` into a folder, each by rename; return their paths.

    19 digits a number: a float64 comes back as it was. UsageError for an id that would break the
    lines.
    """
    for name in pair.ids:
        if any(letter in _SEPARATORS for letter in name):
            raise UsageError(f"animal id {name!r} holds a tab or line break; it cannot be exported")
    lines = ["\t".join(f"{value:.18e}" for value in row) + "\n" for row in pair.vectors]
    vectors, meta = folder / VECTORS_NAME, folder / META_NAME
    write_atomically(vectors, "".join(lines).encode())
    write_atomically(meta, "".join(f"{name}\n" for name in pair.ids).encode())
    return vectors, meta


def means_of_pair(
    pair: Pair, *, threshold: float = UNCALIBRATED, margin: float = 0.0
) -> ClassMeans:
    """Return class means with one prototype an animal, the unit vector of its line.

    Each vector counts as one image's. They name no embedder; the thresholds are not calibrated.
    """
    scaled = pair.vectors / np.abs(pair.vectors).max(axis=1, keepdims=True)
    prototypes = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
    count = len(pair.ids)
    record = {"source": "projector", "threshold": threshold, "margin": margin}
    return ClassMeans(
        pair.ids,
        prototypes.astype(np.float32),
        np.arange(count, dtype=np.int32),
        pair.vectors.copy(),
        np.ones(count, np.int64),
        np.full(count, threshold, np.float32),
        float(np.float32(margin)),
        MeansHeader(calibration=record),
    )


def pair_of_means(means: ClassMeans) -> Pair:
    """Return each animal's mean embedding (not unit length), in the order of the file.

    An animal without a count gives its first prototype, or UsageError when it has none.
    """
    vectors = np.zeros((len(means.animals), means.dimension))
    for label, animal in enumerate(means.animals):
        if means.counts[label] and means.sums[label].any():
            vectors[label] = means.sums[label] / means.counts[label]
            continue
        own = means.prototypes[means.owner == label]
        if not len(own):
            raise UsageError(f"animal {animal!r} has neither images nor a prototype to export")
        vectors[label] = own[0]
    return Pair(means.animals, vectors)


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not text in UTF-8") from error
    lines = text.replace("\r\n", "\n").split("\n")
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise DataError(f"{path}: empty")
    return lines


def _read_vectors(path: Path) -> NDArray[np.float64]:
    rows: list[list[float]] = []
    for number, line in enumerate(_lines(path), 1):
        where = f"{path}, line {number}"
        try:
            row = [float(cell) for cell in line.split("\t")]
        except ValueError as error:
            raise DataError(f"{where}: {error}; expected numbers between tabs") from error
        if rows and len(row) != len(rows[0]):
            raise DataError(f"{where}: {len(row)} numbers, the first line has {len(rows[0])}")
        if not np.isfinite(row).all():
            raise DataError(f"{where}: a number is not finite")
        if not any(row):
            raise DataError(f"{where}: a zero vector stands for no animal")
        length = math.hypot(*row)
        if not _LENGTHS[0] <= length <= _LENGTHS[1]:
            raise DataError(
                f"{where}: a vector of length {length:.2g}, expected {_LENGTHS[0]:g} to "
                f"{_LENGTHS[1]:g}"
            )
        rows.append(row)
    return np.array(rows, np.float64)


def _read_ids(path: Path, column: str | None) -> tuple[list[str], int]:
    """Return the ids and the number of the first one's line."""
    table = [line.split("\t") for line in _lines(path)]
    header = table[0]
    if len(header) == 1 and column is None:
        wide = next((n for n, row in enumerate(table, 1) if len(row) > 1), None)
        if wide is not None:
            raise DataError(f"{path}, line {wide}: several columns, the first line has one")
        return [row[0] for row in table], 1
    names = ", ".join(header)
    if column is None:
        raise DataError(f"{path}: has the columns {names}; say which holds the ids (--column)")
    if header.count(column) != 1:
        raise DataError(f"{path}: no single column {column!r} among {names}")
    place = header.index(column)
    for number, row in enumerate(table[1:], 2):
        if len(row) != len(header):
            raise DataError(
                f"{path}, line {number}: {len(row)} columns, the header has {len(header)}"
            )
    return [row[place] for row in table[1:]], 2

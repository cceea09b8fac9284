"""Checkpoints of a training: one file, whole or not at all, tied to what it was trained from."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.files import write_atomically


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A training's state. arrays: all variables, in a fixed order. record: plain JSON values."""

    arrays: Sequence[NDArray[Any]]
    record: dict[str, Any]


def save_checkpoint(path: Path, key: str, checkpoint: Checkpoint) -> None:
    """Write a checkpoint by rename. key: names recipe, data and weights; see `load_checkpoint`."""
    buffer = io.BytesIO()
    arrays = {f"array{number}": array for number, array in enumerate(checkpoint.arrays)}
    header = msgspec.json.encode({"key": key, "record": checkpoint.record}).decode()
    np.savez(buffer, header=np.array(header), **arrays)
    write_atomically(path, buffer.getvalue())


def load_checkpoint(path: Path, key: str) -> Checkpoint | None:
    """Return the checkpoint at `path`, None without one of the same key that can be read.

    An unreadable or foreign checkpoint is no error: training then starts from its beginning.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            header = msgspec.json.decode(str(archive["header"]))
            if header["key"] != key:
                return None
            count = sum(name.startswith("array") for name in archive.files)
            arrays = [archive[f"array{number}"] for number in range(count)]
        return Checkpoint(arrays, header["record"])
    except Exception:  # zipfile, zlib and numpy's header parser have many ways to fail
        return None

"""The last embeddings that a device made: what new class means are held against before they run."""

from __future__ import annotations

import io
import threading
import zipfile
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import EarmarkError
from edge.files import write_atomically
from edge.identity.matching import NOBODY, Matcher
from edge.vision.geometry import Colour
from edge.vision.look import CropEmbedder
from edge.vision.types import Floats

_KEPT = 512
_MAX_BYTES = 8 << 20
_MAX_DIMENSION = 4096
# What reading a file that is not one may raise.
_UNREADABLE = (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile)


def recent_path(root: Path) -> Path:
    """Return where the agent of a store leaves them for its updater."""
    return root / "run" / "embeddings.npz"


class RecentError(EarmarkError):
    """A file of recent embeddings that is none."""


@dataclass(frozen=True, slots=True, eq=False)
class Recent:
    """Unit embeddings float32 (N, D), and the name each got (N,), empty for nobody.

    embedder_sha256: the model that made them; no other's class means can be held against them.
    """

    embeddings: Floats
    names: tuple[str, ...]
    embedder_sha256: str


class RememberingEmbedder:
    """An embedder that keeps the last embeddings it made; otherwise as the one it wraps."""

    def __init__(self, embedder: CropEmbedder, ring: RecentRing) -> None:
        self._embedder, self._ring = embedder, ring

    @property
    def size(self) -> int:
        """Side of the square crop in pixels."""
        return self._embedder.size

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return self._embedder.dimension

    @property
    def letterbox_colour(self) -> Colour:
        """RGB around a crop that is not square."""
        return self._embedder.letterbox_colour

    def embed(self, crops: NDArray[np.uint8]) -> Floats:
        """Return unit embeddings (N, D) of crops (N, S, S, 3)."""
        embeddings = self._embedder.embed(crops)
        self._ring.add(embeddings)
        return embeddings


class RecentRing:
    """The last embeddings of all cameras; any thread may add."""

    def __init__(self, kept: int = _KEPT) -> None:
        self._rows: deque[Floats] = deque(maxlen=kept)
        self._lock = threading.Lock()
        self._added = 0

    @property
    def added(self) -> int:
        """How many there were in all."""
        return self._added

    def add(self, embeddings: Floats) -> None:
        """Keep unit embeddings (N, D)."""
        with self._lock:
            self._rows.extend(np.array(row, np.float32) for row in embeddings)
            self._added += len(embeddings)

    def named(self, matcher: Matcher, embedder_sha256: str) -> Recent:
        """Return them with the name that class means give to each on its own."""
        with self._lock:
            rows = list(self._rows)
        stack = np.stack(rows) if rows else np.empty((0, matcher.means.dimension), np.float32)
        return Recent(stack, names_of(stack, matcher), embedder_sha256)


def names_of(embeddings: Floats, matcher: Matcher) -> tuple[str, ...]:
    """Return whom class means name for each unit embedding (N, D), empty for nobody."""
    labels = matcher.label(embeddings).labels
    return tuple("" if label == NOBODY else matcher.animals[label] for label in labels)


def write_recent(recent: Recent, path: Path) -> None:
    """Write them by rename, not synced: after a power cut there are new ones soon enough."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        embeddings=recent.embeddings,
        names=np.array(recent.names, dtype=np.str_),
        embedder=np.array(recent.embedder_sha256),
    )
    write_atomically(path, buffer.getvalue(), synced=False)


def read_recent(path: Path) -> Recent | None:
    """Read them, None where there are none; RecentError for a file that is not one."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise RecentError(f"{path}: larger than any recent embeddings should be")
        with np.load(path, allow_pickle=False) as archive:
            embeddings, names = archive["embeddings"], archive["names"]
            embedder = str(archive["embedder"])
    except FileNotFoundError:
        return None
    except _UNREADABLE as error:
        raise RecentError(f"{path}: no recent embeddings: {error}") from error
    if embeddings.dtype != np.float32 or embeddings.ndim != 2:
        raise RecentError(f"{path}: embeddings are {embeddings.dtype} {embeddings.shape}")
    if names.shape != (len(embeddings),) or embeddings.shape[1] > _MAX_DIMENSION:
        raise RecentError(f"{path}: {names.shape} names of {embeddings.shape} embeddings")
    if not np.isfinite(embeddings).all():
        raise RecentError(f"{path}: an embedding holds a number that is not finite")
    return Recent(embeddings, tuple(str(name) for name in names), embedder)

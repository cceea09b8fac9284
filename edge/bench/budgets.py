"""The budgets of a device, each with what was measured here."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.identity.evidence import EvidenceOptions, Vote
from edge.identity.matching import Matcher
from edge.identity.means import ClassMeans, MeansHeader
from edge.identity.tracking import Tracker, TrackerOptions
from edge.vision.types import Detections, Floats

OVERHEAD_RATIO = 1.15
MATCHING_MS = 1.0
TRACKER_MS = 3.0
MEMORY_MB = 150.0
START_S = 3.0
_DIMENSION = 64
_FPS = 12.0
_REPEATS = 60

Seconds = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Budget:
    """One budget: what may be used of it, and what is."""

    name: str
    figure: float
    limit: float
    unit: str

    @property
    def kept(self) -> bool:
        """Whether it holds; what could not be measured does not."""
        return self.figure <= self.limit


def matching_ms(prototypes: int = 10_000, crops: int = 8) -> float:
    """Return the median time to match a frame's crops against so many prototypes."""
    rng = np.random.default_rng(0)
    matcher, embeddings = herd(prototypes, rng), unit(rng.normal(size=(crops, _DIMENSION)))
    return 1000 * float(np.median(timed(lambda: matcher.label(embeddings), _REPEATS)))


def tracker_ms(animals: int = 50) -> float:
    """Return the median time of so many detections against as many tracks that overlap."""
    return 1000 * float(np.median(track(animals, _REPEATS, 160, np.random.default_rng(0))))


def track(animals: int, frames: int, side: float, rng: np.random.Generator) -> Seconds:
    """Return the tracker's time (F,) for each frame of animals that wander in a full HD frame."""
    tracker = Tracker(TrackerOptions(), EvidenceOptions())
    columns = int(np.ceil(np.sqrt(animals * 16 / 9)))
    grid = np.stack(np.divmod(np.arange(animals), columns)[::-1], axis=1) * (1920 / columns)
    looks = unit(rng.normal(size=(animals, _DIMENSION)))
    velocity = rng.normal(0, 40, (animals, 2))
    seconds = np.empty(frames)
    for frame in range(frames):
        velocity += rng.normal(0, 10, velocity.shape) - 0.02 * velocity
        centres = grid + 40 * np.sin(frame / _FPS + velocity / 40) + rng.normal(0, 2, grid.shape)
        boxes = np.concatenate([centres - side / 2, centres + side / 2], axis=1)
        scores = np.sort(rng.uniform(0.3, 1, animals))[::-1]
        found = Detections(
            boxes.astype(np.float32), scores.astype(np.float32), np.zeros(animals, np.int32)
        )
        strong = found.scores >= 0.5
        embedded = np.zeros(animals, bool)
        start = time.perf_counter()
        tracker.begin(frame / _FPS)
        embedded[tracker.contested(found, strong)[:4]] = True
        tracker.associate(found, strong, looks, embedded)
        embedded[tracker.missing(strong)[:4]] = True
        tracker.recover(found, strong, looks, embedded)
        tracker.finish(found, strong)
        tracker.reunite()
        seconds[frame] = time.perf_counter() - start
        for state in tracker.tracks:
            if state.evidence.mean is None and state.detection >= 0:
                state.evidence.add(Vote(looks[state.detection], 1.0, state.detection))
    return seconds


def herd(prototypes: int, rng: np.random.Generator) -> Matcher:
    """Return a herd with two prototypes an animal."""
    animals = max(1, prototypes // 2)
    return Matcher(
        ClassMeans(
            tuple(f"cow{number}" for number in range(animals)),
            unit(rng.normal(size=(prototypes, _DIMENSION))),
            (np.arange(prototypes) % animals).astype(np.int32),
            np.zeros((animals, _DIMENSION)),
            np.zeros(animals, np.int64),
            np.full(animals, 0.3, np.float32),
            0.02,
            MeansHeader(),
        )
    )


def unit(vectors: NDArray[np.float64]) -> Floats:
    """Return vectors (N, D) at unit length."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / lengths, np.float32)


def timed(work: Callable[[], object], times: int) -> Seconds:
    """Return the seconds (times,) that each call took."""
    seconds = np.empty(times)
    for index in range(times):
        start = time.perf_counter()
        work()
        seconds[index] = time.perf_counter() - start
    return seconds

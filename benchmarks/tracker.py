"""What following and naming cost a frame: python benchmarks/tracker.py [--animals 50].

Prints medians and 95th percentiles in milliseconds, and each as a ratio to one bare
`linear_sum_assignment` of the same size on this machine, which does not depend on its speed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from scipy.optimize import linear_sum_assignment

from edge.identity.assignment import assign_animals
from edge.identity.evidence import EvidenceOptions, Vote
from edge.identity.matching import Matcher
from edge.identity.means import ClassMeans, MeansHeader
from edge.identity.tracking import Tracker, TrackerOptions
from edge.vision.types import Detections, Floats

_DIMENSION = 64
_FPS = 12.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--animals", type=int, default=50, help="tracks and detections a frame")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--prototypes", type=int, default=10_000)
    parser.add_argument("--crops", type=int, default=8, help="matched a frame")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    costs = rng.random((options.animals, options.animals))
    bare = timed(lambda: linear_sum_assignment(costs), options.frames)
    print(f"{'':44} median      p95   ratio")
    show(f"one bare assignment, {options.animals} x {options.animals}", bare, bare)
    spread, crowded = (track(options.animals, options.frames, side, rng) for side in (60, 160))
    show(f"tracker, {options.animals} x {options.animals}, apart", spread, bare)
    show(f"tracker, {options.animals} x {options.animals}, overlapping", crowded, bare)
    matcher = herd(options.prototypes, rng)
    crops = unit(rng.normal(size=(options.crops, _DIMENSION)))
    matching = timed(lambda: matcher.label(crops), options.frames)
    show(f"matching {options.crops} crops, {options.prototypes} prototypes", matching, bare)
    benefits = np.where(rng.random((options.animals, options.prototypes)) < 1e-3, 0.9, 0)
    naming = timed(lambda: assign_animals(benefits.astype(np.float32)), options.frames)
    show(f"naming {options.animals} tracks of {options.prototypes} animals", naming, bare)


def track(animals: int, frames: int, side: float, rng: np.random.Generator) -> Floats:
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


def unit(vectors: Floats) -> Floats:
    """Return vectors (N, D) at unit length."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def timed(work: Callable[[], object], times: int) -> Floats:
    """Return the seconds (times,) that each call took."""
    seconds = np.empty(times)
    for index in range(times):
        start = time.perf_counter()
        work()
        seconds[index] = time.perf_counter() - start
    return seconds


def show(name: str, seconds: Floats, bare: Floats) -> None:
    """Print one line."""
    median, late = 1e3 * np.median(seconds), 1e3 * np.quantile(seconds, 0.95)
    print(f"{name:44} {median:6.3f} ms {late:6.3f} ms {median / (1e3 * np.median(bare)):6.1f}")


if __name__ == "__main__":
    main()

"""What following and naming cost a frame: python benchmarks/tracker.py [--animals 50].

Prints medians and 95th percentiles in milliseconds, and each as a ratio to one bare
`linear_sum_assignment` of the same size on this machine, which does not depend on its speed.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.optimize import linear_sum_assignment

from edge.bench.budgets import herd, timed, track, unit
from edge.identity.assignment import assign_animals
from edge.vision.types import Floats

_DIMENSION = 64


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


def show(name: str, seconds: Floats, bare: Floats) -> None:
    """Print one line."""
    median, late = 1e3 * np.median(seconds), 1e3 * np.quantile(seconds, 0.95)
    print(f"{name:44} {median:6.3f} ms {late:6.3f} ms {median / (1e3 * np.median(bare)):6.1f}")


if __name__ == "__main__":
    main()

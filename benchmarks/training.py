"""What augmentation costs training: python benchmarks/training.py --crops DIR [--steps 40].

Feeds one network in turn by the input pipeline (reading from memory, augmenting in threads) and
from memory with nothing to do, and prints images a second of each and their ratio, from one run.
The two take turns, so that a machine that slows down slows both.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import tensorflow as tf

from trainer.data.crops import load_images, read_crops
from trainer.embedding.feed import Batch, Feed
from trainer.embedding.options import EmbedderOptions
from trainer.embedding.step import TrainingStep

_ROUNDS = 5
_WARM_UP = 3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crops", type=Path, required=True, help="a folder of crops per animal")
    parser.add_argument("--steps", type=int, default=40, help="of each kind")
    parser.add_argument("--input-size", type=int, default=160)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    crops = read_crops(options.crops)
    training = EmbedderOptions(input_size=options.input_size, workers=options.workers)
    images = load_images(crops, training.input_size)
    feed = Feed(crops, images, training)
    step = TrainingStep(feed.animals, training, tf.distribute.get_strategy())
    with closing(iter(feed)) as augmented:
        still = itertools.cycle([next(augmented) for _ in range(4)])
        seconds: dict[str, list[float]] = {"from memory": [], "input pipeline": []}
        number = itertools.count()
        for source in (still, augmented):
            timed(step, source, _WARM_UP, number)
        for _ in range(_ROUNDS):
            share = max(1, options.steps // _ROUNDS)
            seconds["from memory"].append(timed(step, still, share, number))
            seconds["input pipeline"].append(timed(step, augmented, share, number))
    batch = training.batch_size(feed.animals)
    rates = {name: batch / float(np.median(took)) for name, took in seconds.items()}
    for name, rate in rates.items():
        print(f"{name:16} {rate:8.1f} images/s")
    print(f"{'ratio':16} {rates['input pipeline'] / rates['from memory']:8.3f}")


def timed(step: TrainingStep, batches: Iterator[Batch], steps: int, number: Iterator[int]) -> float:
    """Return seconds a step, fetching the batch included."""
    started = time.perf_counter()
    for _ in range(steps):
        step(next(number), [next(batches)])
    return (time.perf_counter() - started) / steps


if __name__ == "__main__":
    main()

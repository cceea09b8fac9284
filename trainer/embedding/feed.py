"""The input pipeline: balanced batches, augmented in threads while the network learns."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.data.augment import Augmenter
from trainer.data.batches import balanced_batches
from trainer.data.crops import CropSet
from trainer.embedding.options import EmbedderOptions


class Batch(NamedTuple):
    """images uint8 (B, S, S, 3) augmented; labels int32 (B,).

    repeated: how many images were drawn twice, because an animal has fewer than a batch wants.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int32]
    repeated: int


class Feed:
    """Endless batches of augmented crops; batch n is the same however often training was resumed.

    images: uint8 (N, S, S, 3), row for row with `crops`. With mirrored animals the labels
    A..2A-1 are the mirror images of 0..A-1. replica, replicas: which of several replicas' batches
    are given. first: number of the first step.
    """

    def __init__(
        self,
        crops: CropSet,
        images: NDArray[np.uint8],
        options: EmbedderOptions,
        *,
        first: int = 0,
        replica: int = 0,
        replicas: int = 1,
    ) -> None:
        self.animals = len(crops.animals)
        labels, sessions = crops.labels, crops.sessions
        if options.mirrored_animals:
            labels = np.concatenate([labels, labels + np.int32(self.animals)])
            sessions = sessions * 2
            self.animals *= 2
        self._images, self._labels = images, labels.astype(np.int32)
        self._batches = balanced_batches(
            labels,
            sessions,
            options.classes_in_batch(self.animals),
            options.images_per_class,
            options.seed,
        )
        self._augment = Augmenter(
            options.input_size, options.seed, options.letterbox_colour, options.augmentation
        )
        self._seed, self._workers = options.seed, options.workers
        self._number, self._replica, self._replicas = first, replica, replicas
        # Drawing indices is cheap; so the past is drawn again rather than stored.
        for _ in range(first * replicas):
            next(self._batches)

    def __iter__(self) -> Generator[Batch, None, None]:
        with ThreadPoolExecutor(self._workers) as pool:
            waiting: deque[Future[Batch]] = deque()
            while True:
                while len(waiting) <= self._workers:
                    waiting.append(pool.submit(self._make, self._number, *self._next_rows()))
                    self._number += 1
                yield waiting.popleft().result()

    def _next_rows(self) -> tuple[NDArray[np.int64], int]:
        """Return this replica's next rows, and how many of them are repetitions."""
        drawn = []
        for _ in range(self._replicas):
            before = self._batches.repeated
            drawn.append((next(self._batches), self._batches.repeated - before))
        return drawn[self._replica]

    def _make(self, number: int, rows: NDArray[np.int64], repeated: int) -> Batch:
        count = len(self._images)
        images = self._images[rows % count]
        mirrored = rows >= count
        images[mirrored] = images[mirrored, :, ::-1]
        # A generator for each batch: threads may finish in any order, and training may be resumed.
        rng = np.random.default_rng((self._seed, number, self._replica))
        return Batch(self._augment(images, rng), self._labels[rows], repeated)

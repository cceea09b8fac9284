"""The input pipeline: augmented frames and their targets, made while the network learns."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.vision.types import Floats
from trainer.detection.assign import assign_targets
from trainer.detection.augment import Annotated, FrameAugmenter
from trainer.detection.options import DetectorOptions


class Batch(NamedTuple):
    """images uint8 (B, H, W, 3); classes int32 (B, N), -1 for background; encodings (B, N, 4)."""

    images: NDArray[np.uint8]
    classes: NDArray[np.int32]
    encodings: Floats


class Feed:
    """Endless batches; batch n is the same however often training was resumed.

    images: uint8 (M, kH, kW, 3) letterboxed frames, k times as large as the network takes them.
    boxes, classes: float32 (n, 4) in pixels of the network's input and int32 (n,) of each. anchors:
    (N, 4) cy cx h w. first: number of the first step.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        boxes: tuple[Floats, ...],
        classes: tuple[NDArray[np.int32], ...],
        anchors: Floats,
        options: DetectorOptions,
        *,
        first: int = 0,
    ) -> None:
        self._images, self._boxes, self._classes = images, boxes, classes
        self._anchors, self._options = anchors, options
        self._augment = FrameAugmenter(
            options.input_size, options.seed, options.letterbox_colour, options.augmentation
        )
        self._rows = _shuffled(len(images), options.batch_size, options.seed)
        self._number = first
        # Drawing indices is cheap; so the past is drawn again rather than stored.
        for _ in range(first):
            next(self._rows)

    def __iter__(self) -> Generator[Batch, None, None]:
        workers = self._options.workers
        with ThreadPoolExecutor(workers) as pool:
            waiting: deque[Future[Batch]] = deque()
            while True:
                while len(waiting) <= workers:
                    waiting.append(pool.submit(self._make, self._number, next(self._rows)))
                    self._number += 1
                yield waiting.popleft().result()

    def _make(self, number: int, rows: NDArray[np.int64]) -> Batch:
        # A generator for each batch: threads may finish in any order, and training may be resumed.
        rng = np.random.default_rng((self._options.seed, number))
        frames = [self._changed(int(row), rng) for row in rows]
        targets = [
            assign_targets(self._anchors, moved, labels, self._options.match_iou)
            for _, moved, labels in frames
        ]
        return Batch(
            np.stack([image for image, _, _ in frames]),
            np.stack([target.classes for target in targets]),
            np.stack([target.encodings for target in targets]),
        )

    def _changed(self, row: int, rng: np.random.Generator) -> Annotated:
        mosaic = self._options.augmentation.mosaic
        if mosaic and rng.random() < mosaic:
            rows = [row, *rng.integers(len(self._images), size=3).tolist()]
            return self._augment.mosaic([self._frame(one) for one in rows], rng)
        return self._augment(*self._frame(row), rng)

    def _frame(self, row: int) -> Annotated:
        return Annotated(self._images[row], self._boxes[row], self._classes[row])


def _shuffled(count: int, batch: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield `batch` indices below `count` at a time, each as often as any other, shuffled anew."""
    rng = np.random.default_rng(seed)
    waiting = np.zeros(0, np.int64)
    while True:
        while len(waiting) < batch:
            waiting = np.concatenate([waiting, rng.permutation(count)])
        yield waiting[:batch]
        waiting = waiting[batch:]

"""Class-balanced batches: P animals times K images, from different sessions where possible."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import DataError


class BalancedBatches(Iterator[NDArray[np.int64]]):
    """Endless, seeded batches of indices (P * K,), the K images of an animal side by side.

    Every animal comes once before any comes again; so does every image of a session. The K images
    of an animal go round its sessions. An animal with fewer than K images has some drawn twice:
    `repeated` counts those.
    """

    def __init__(
        self,
        labels: NDArray[Any],
        sessions: Sequence[str],
        classes_per_batch: int,
        images_per_class: int,
        seed: int,
    ) -> None:
        self._rng = np.random.default_rng(seed)
        groups: dict[int, dict[str, list[int]]] = {}
        for index, (label, session) in enumerate(zip(labels, sessions, strict=True)):
            groups.setdefault(int(label), {}).setdefault(session, []).append(index)
        if classes_per_batch > len(groups):
            raise DataError(
                f"a batch of {classes_per_batch} animals needs that many, there are "
                f"{len(groups)}; set classes_per_batch to {len(groups)} or less"
            )
        if classes_per_batch < 1 or images_per_class < 1:
            raise DataError("classes_per_batch and images_per_class must be at least 1")
        self._animals = {
            label: _Animal(list(by_session.values()), self._rng)
            for label, by_session in sorted(groups.items())
        }
        self._classes_per_batch = classes_per_batch
        self._images_per_class = images_per_class
        self._waiting: deque[int] = deque()
        self.repeated = 0

    def __next__(self) -> NDArray[np.int64]:
        chosen: list[int] = []
        while len(chosen) < self._classes_per_batch:
            if not self._waiting:
                order = self._rng.permutation(list(self._animals)).tolist()
                # Those already in this batch wait for the next one.
                self._waiting.extend(sorted(order, key=lambda label: label in chosen))
            chosen.append(self._waiting.popleft())
        batch: list[int] = []
        for label in chosen:
            images, repeated = self._animals[label].draw(self._images_per_class)
            batch.extend(images)
            self.repeated += repeated
        return np.array(batch, np.int64)


def balanced_batches(
    labels: NDArray[Any],
    sessions: Sequence[str],
    classes_per_batch: int,
    images_per_class: int,
    seed: int,
) -> BalancedBatches:
    """Return endless balanced batches of indices (P * K,) into `labels` (N,).

    Raises DataError when `classes_per_batch` is more than the number of animals.
    """
    return BalancedBatches(labels, sessions, classes_per_batch, images_per_class, seed)


class _Animal:
    """One animal's images, a shuffled queue for each session."""

    def __init__(self, sessions: list[list[int]], rng: np.random.Generator) -> None:
        self._sessions = sessions
        self._queues: list[deque[int]] = [deque() for _ in sessions]
        self._turn: deque[int] = deque()
        self._count = sum(len(session) for session in sessions)
        self._rng = rng

    def draw(self, count: int) -> tuple[list[int], int]:
        """Return `count` images and how many of them are repetitions."""
        drawn: list[int] = []
        spent: set[int] = set()
        while len(drawn) < min(count, self._count):
            session = self._next_session(spent)
            image = self._next_image(session, drawn)
            if image is None:
                spent.add(session)
            else:
                drawn.append(image)
        repeated = count - len(drawn)
        extra = self._rng.choice(drawn, repeated, replace=True).tolist() if repeated else []
        return drawn + extra, repeated

    def _next_session(self, spent: set[int]) -> int:
        while True:
            if not self._turn:
                self._turn.extend(self._rng.permutation(len(self._sessions)).tolist())
            session = self._turn.popleft()
            if session not in spent:
                return session

    def _next_image(self, session: int, drawn: list[int]) -> int | None:
        """Return the session's next image that is not in the batch yet, or None without one."""
        queue = self._queues[session]
        for _ in range(2):
            for image in queue:
                if image not in drawn:
                    queue.remove(image)
                    return image
            queue.extend(
                image
                for image in self._rng.permutation(self._sessions[session]).tolist()
                if image not in queue
            )
        return None

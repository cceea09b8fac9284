from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.inference import batching
from edge.inference.batching import BATCH, ONE_BY_ONE, SIDE_BY_SIDE, BatchingModel, open_batching
from edge.vision.runtime import open_model


class Clock:
    """Makes the way that a test wants the quickest one."""

    def __init__(self, order: list[str]) -> None:
        self._times = self._run(order)

    def __call__(self) -> float:
        return next(self._times)

    def _run(self, order: list[str]) -> Iterator[float]:
        now = 0.0
        while True:
            for way in (ONE_BY_ONE, BATCH, SIDE_BY_SIDE):
                yield now
                now += 1.0 + order.index(way)
                yield now


@pytest.mark.parametrize("best", [ONE_BY_ONE, BATCH, SIDE_BY_SIDE])
def test_whichever_way_is_quickest_the_answers_are_the_same(
    best: str, embedder_path: Path, crops: np.ndarray
) -> None:
    others = [way for way in (ONE_BY_ONE, BATCH, SIDE_BY_SIDE) if way != best]
    model = open_batching(embedder_path, 2, clock=Clock([best, *others]))
    assert [(choice.count, choice.way) for choice in model.choices] == [
        (n, best) for n in (2, 4, 8)
    ]
    plain = open_model(embedder_path, 1)
    for count in (1, 3, 8, 11):
        (ours,) = model.invoke_many(crops[:count]).values()
        assert ours.shape == (count, 64)
        for row, crop in zip(ours, crops[:count], strict=True):
            (theirs,) = plain.invoke(crop[None]).values()
            assert float(row @ theirs[0]) > 0.999 * np.linalg.norm(row) * np.linalg.norm(theirs)


def test_a_little_quicker_is_not_worth_it(embedder_path: Path) -> None:
    times = iter(np.cumsum([0.0, 1.0, 0.0, 0.98, 0.0, 0.97] * 9).tolist())
    model = open_batching(embedder_path, 2, clock=lambda: next(times))
    assert {choice.way for choice in model.choices} == {ONE_BY_ONE}
    assert all(set(choice.seconds) == {ONE_BY_ONE, BATCH, SIDE_BY_SIDE} for choice in model.choices)


def test_one_thread_does_nothing_side_by_side(embedder_path: Path) -> None:
    model = open_batching(embedder_path, 1)
    assert all(SIDE_BY_SIDE not in choice.seconds for choice in model.choices)


def test_a_way_that_answers_differently_is_none(
    embedder_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(model: Any, threads: int, delegate: Any) -> Any:
        return lambda tensors: {
            spec.name: np.ones((len(tensors), *spec.shape[1:]), np.float32)
            for spec in model.outputs
        }

    def broken(model: Any, threads: int, delegate: Any) -> Any:
        def way(tensors: np.ndarray) -> Any:
            raise RuntimeError("Node number 12 failed to prepare")

        return way

    monkeypatch.setattr(batching, "_batch_way", wrong)
    monkeypatch.setattr(batching, "_side_by_side_way", broken)
    model = open_batching(embedder_path, 2)
    assert isinstance(model, BatchingModel)
    assert all(set(choice.seconds) == {ONE_BY_ONE} for choice in model.choices)

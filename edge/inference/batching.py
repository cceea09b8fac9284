"""Several images through one model: one by one, as a batch, or side by side; the quickest wins."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import AcceleratorError, BundleError
from edge.vision.runtime import (
    Delegate,
    LocalModel,
    TensorSpec,
    dequantise,
    one_by_one,
    open_interpreter,
    open_model,
)

Outputs = dict[str, NDArray[np.float32]]
Way = Callable[[NDArray[Any]], Outputs]

ONE_BY_ONE = "one by one"
BATCH = "batch"
SIDE_BY_SIDE = "side by side"
COUNTS = (2, 4, 8)
_BATCH = 8
_REPEATS = 3
# What is not clearly quicker is not worth a second interpreter's memory.
_WORTH = 0.93
_SAME_COSINE = 0.99


@dataclass(frozen=True, slots=True)
class Choice:
    """The quickest way for so many images, and what was measured: seconds by way."""

    count: int
    way: str
    seconds: Mapping[str, float]


class BatchingModel:
    """A model in this process that runs several images in the way that was measured quickest."""

    def __init__(
        self, model: LocalModel, ways: Mapping[str, Way], choices: tuple[Choice, ...]
    ) -> None:
        self._model, self._ways = model, ways
        self.choices = choices
        self.path, self.backend = model.path, model.backend
        self.input, self.outputs = model.input, model.outputs

    def invoke(self, tensor: NDArray[Any]) -> Outputs:
        """See `Model`."""
        return self._model.invoke(tensor)

    def invoke_many(self, tensors: NDArray[Any]) -> Outputs:
        """See `Model`; as the choice for the nearest smaller number of images says."""
        way = ONE_BY_ONE
        for choice in self.choices:
            if choice.count <= len(tensors):
                way = choice.way
        return self._ways[way](tensors)


def open_batching(
    path: Path,
    threads: int,
    delegate: Delegate | None = None,
    source: Path | None = None,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> BatchingModel:
    """Load a model and measure how several images go through it quickest.

    A batch brought nothing on the processors that were measured beforehand, which says nothing of
    others. A way that fails or answers differently is none. source, errors: as of `open_model`.
    """
    model = open_model(path, threads, delegate, source)
    ways: dict[str, Way] = {ONE_BY_ONE: lambda tensors: one_by_one(model, tensors)}
    for name, build in ((BATCH, _batch_way), (SIDE_BY_SIDE, _side_by_side_way)):
        try:
            way = build(model, threads, delegate)
        except (AcceleratorError, BundleError):
            continue
        if way is not None and _same(way, ways[ONE_BY_ONE], model):
            ways[name] = way
    choices = tuple(_choose(ways, _noise(model, count), clock) for count in COUNTS)
    used = {ONE_BY_ONE, *(choice.way for choice in choices)}
    return BatchingModel(model, {name: ways[name] for name in used}, choices)


def _choose(ways: Mapping[str, Way], tensors: NDArray[Any], clock: Callable[[], float]) -> Choice:
    seconds = dict.fromkeys(ways, float("inf"))
    # In turn, so that what disturbs the machine meanwhile disturbs all of them.
    for _ in range(_REPEATS):
        for name, way in ways.items():
            begun = clock()
            way(tensors)
            seconds[name] = min(seconds[name], clock() - begun)
    best = min(seconds, key=lambda name: seconds[name])
    if seconds[best] > _WORTH * seconds[ONE_BY_ONE]:
        best = ONE_BY_ONE
    return Choice(len(tensors), best, seconds)


def _batch_way(model: LocalModel, threads: int, delegate: Delegate | None) -> Way | None:
    """Return a way through one interpreter whose input holds `_BATCH` images."""
    interpreter, _ = open_interpreter(model.path, threads, delegate, _BATCH, model.source)
    details = {str(detail["name"]): detail for detail in interpreter.get_output_details()}
    if any(tuple(details[spec.name]["shape"])[:1] != (_BATCH,) for spec in model.outputs):
        return None  # made for one image, whatever its input holds

    def way(tensors: NDArray[Any]) -> Outputs:
        results = _room(model.outputs, len(tensors))
        for start in range(0, len(tensors), _BATCH):
            part = tensors[start : start + _BATCH]
            filled = np.zeros((_BATCH, *tensors.shape[1:]), tensors.dtype)
            filled[: len(part)] = part
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], filled)
            interpreter.invoke()
            for spec in model.outputs:
                output = dequantise(interpreter.get_tensor(details[spec.name]["index"]), spec)
                results[spec.name][start : start + len(part)] = output[: len(part)]
        return results

    return way


def _side_by_side_way(model: LocalModel, threads: int, delegate: Delegate | None) -> Way | None:
    """Return a way through as many interpreters of one thread each as there are threads."""
    if threads < 2 or delegate is not None:  # an accelerator does one thing at a time
        return None
    twins = [open_model(model.path, 1, source=model.source) for _ in range(threads)]
    pool = ThreadPoolExecutor(threads, thread_name_prefix="crops")

    def way(tensors: NDArray[Any]) -> Outputs:
        shares = [tensors[number::threads] for number in range(threads)]
        results = _room(model.outputs, len(tensors))
        for number, part in enumerate(pool.map(one_by_one, twins, shares)):
            for name, rows in part.items():
                results[name][number::threads] = rows
        return results

    return way


def _room(outputs: tuple[TensorSpec, ...], count: int) -> Outputs:
    return {spec.name: np.empty((count, *spec.shape[1:]), np.float32) for spec in outputs}


def _noise(model: LocalModel, count: int) -> NDArray[Any]:
    """Return input tensors (count, …) that mean nothing."""
    rng = np.random.default_rng(0)
    shape = (count, *model.input.shape[1:])
    if np.issubdtype(model.input.dtype, np.floating):
        return rng.uniform(-1, 1, shape).astype(model.input.dtype)
    limits = np.iinfo(model.input.dtype)
    return rng.integers(limits.min, limits.max, shape, endpoint=True).astype(model.input.dtype)


def _same(way: Way, other: Way, model: LocalModel) -> bool:
    """Say whether two ways answer alike for a number of images that fills no batch."""
    tensors = _noise(model, 3)
    try:
        ours, theirs = way(tensors), other(tensors)
    except (ValueError, RuntimeError):
        return False
    for name, rows in theirs.items():
        a, b = ours[name].reshape(len(rows), -1), rows.reshape(len(rows), -1)
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        if not (np.sum(a * b, axis=1) >= _SAME_COSINE * lengths).all():
            return False
    return True

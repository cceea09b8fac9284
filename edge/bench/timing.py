"""Where the time of a frame goes: clocks around the models, which the pipeline knows nothing of."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.vision.runtime import Model, TensorSpec
from edge.vision.types import Detections, FrameDetector, Image

Clock = Callable[[], float]


class Stopwatch:
    """Seconds by name since the last `take`."""

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        self.clock = clock
        self._seconds: dict[str, float] = defaultdict(float)

    def add(self, name: str, seconds: float) -> None:
        """Add to what a name took."""
        self._seconds[name] += seconds

    def take(self) -> dict[str, float]:
        """Return what each name took, and begin anew."""
        taken, self._seconds = dict(self._seconds), defaultdict(float)
        return taken


class TimedModel:
    """A model with a clock, that keeps what it was fed since the last `take`; see `Model`."""

    def __init__(self, model: Model, name: str, watch: Stopwatch) -> None:
        self._model, self._name, self._watch = model, name, watch
        self._fed: list[NDArray[Any]] = []
        self.begun_s = self.ended_s = 0.0  # of the last call

    @property
    def path(self) -> Path:
        """The file."""
        return self._model.path

    @property
    def backend(self) -> str:
        """What it runs on, in words."""
        return self._model.backend

    @property
    def input(self) -> TensorSpec:
        """Its input, for one image."""
        return self._model.input

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Its outputs, for one image."""
        return self._model.outputs

    def invoke(self, tensor: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """See `Model`."""
        return self._timed(self._model.invoke, tensor)

    def invoke_many(self, tensors: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """See `Model`."""
        return self._timed(self._model.invoke_many, tensors)

    def take(self) -> list[NDArray[Any]]:
        """Return the tensors (1, …) that it was fed, one an image, and forget them."""
        fed, self._fed = self._fed, []
        return [tensor[None] for tensors in fed for tensor in tensors]

    def _timed(
        self, run: Callable[[NDArray[Any]], dict[str, NDArray[np.float32]]], tensors: NDArray[Any]
    ) -> dict[str, NDArray[np.float32]]:
        self.begun_s = self._watch.clock()
        answers = run(tensors)
        self.ended_s = self._watch.clock()
        self._watch.add(self._name, self.ended_s - self.begun_s)
        self._fed.append(tensors)
        return answers


class Timed:
    """Any object, one of whose methods has a clock."""

    def __init__(self, inner: Any, method: str, name: str, watch: Stopwatch) -> None:
        self._inner, self._method, self._name, self._watch = inner, method, name, watch

    def __getattr__(self, attribute: str) -> Any:
        found = getattr(self._inner, attribute)
        if attribute != self._method:
            return found

        def timed(*arguments: Any, **named: Any) -> Any:
            begun_s = self._watch.clock()
            try:
                return found(*arguments, **named)
            finally:
                self._watch.add(self._name, self._watch.clock() - begun_s)

        return timed


class TimedDetector:
    """A detector with clocks before and after its model; see `FrameDetector`."""

    def __init__(self, detector: FrameDetector, model: TimedModel, watch: Stopwatch) -> None:
        self._detector, self._model, self._watch = detector, model, watch

    @property
    def score_threshold(self) -> float:
        """The score from which a box is an animal."""
        return self._detector.score_threshold

    def detect(self, image: Image, score_threshold: float | None = None) -> Detections:
        """See `FrameDetector`; adds to `letterbox` and to `boxes`."""
        begun_s = self._watch.clock()
        found = self._detector.detect(image, score_threshold)
        ended_s = self._watch.clock()
        self._watch.add("letterbox", self._model.begun_s - begun_s)
        self._watch.add("boxes", ended_s - self._model.ended_s)
        return found

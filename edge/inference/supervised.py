"""Inference that goes on: a child is watched, restarted, and given up for the next backend."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge.errors import AcceleratorError, BundleError, EarmarkError
from edge.inference.accelerator import Backend, Plan
from edge.inference.process import ChildLostError, InferenceChild
from edge.inference.protocol import Open, Opened, TensorMemory
from edge.vision.runtime import TensorSpec

Event = Literal["restarted", "fallback"]
# Told when inference was interrupted and goes on, with a line that says why; in the thread that
# asked for it.
Listener = Callable[[Event, str], None]

_RESTARTS = 5
_WITHIN_S = 60.0
_PAUSE_S = 0.2
# Drivers load firmware, and a Raspberry Pi reads its card; a child that hangs in that hangs.
_START_S = 30.0


class Inference:
    """Runs models in a child process, on the first backend of a plan that will have them.

    A child that does not answer for `stuck_s`, or that dies, is restarted and asked the same again;
    after `restarts` of them within a minute the backend is given up, and the next one, in the end
    the CPU, serves. Whenever another backend takes over, the checks run through it before it
    serves. Any thread may ask; one at a time is served.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        threads: int = 2,
        stuck_s: float = 10.0,
        start_s: float = _START_S,
        restarts: int = _RESTARTS,
        listener: Listener = lambda event, text: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan, self._threads = plan, threads
        self._stuck_s, self._start_s = stuck_s, max(start_s, stuck_s)
        self._most_restarts = restarts
        self._listener, self._clock = listener, clock
        self._place = 0
        self._models: list[SupervisedModel] = []
        self._checks: list[Callable[[], object]] = []
        self._restarts: deque[float] = deque()
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._child: InferenceChild | None = None
        self.restarted = 0

    @property
    def backend(self) -> str:
        """What serves now, in words."""
        labels = [model.backend for model in self._models]
        # A model that an Edge TPU has no file for runs on the CPU beside it.
        return next((label for label in labels if not label.startswith("cpu")), "") or (
            labels[0] if labels else self._backend.name
        )

    @property
    def degraded(self) -> bool:
        """Whether an accelerator ought to serve and the CPU does."""
        return self._plan.expected and self._backend.kind == "cpu"

    @property
    def pid(self) -> int | None:
        """The child's process id, None while there is none."""
        child = self._child
        return None if child is None else child.pid

    def open(
        self, path: Path, compiled: Path | None = None, *, many: bool = False
    ) -> SupervisedModel:
        """Load a model for whatever serves.

        compiled: its file for an Edge TPU. many: it will be given several images at once. Raises
        BundleError for a file that is no model, AcceleratorError when no backend will have it.
        """
        with self._lock:
            model = SupervisedModel(self, path, compiled, many)
            self._models.append(model)
            try:
                if self._child is None:
                    self._start()
                else:
                    self._open(model)
            except (ChildLostError, AcceleratorError) as error:
                self._recover(error)
            return model

    def add_check(self, check: Callable[[], object]) -> None:
        """Run `check`, which raises BundleError, through every backend that takes over."""
        self._checks.append(check)

    def give_up(self, why: str) -> bool:
        """Leave the backend that serves, and all models; whether there is another one."""
        with self._lock:
            if self._place + 1 >= len(self._plan.backends):
                return False
            self._models.clear()
            self._checks.clear()
            old = self._backend.name
            self._leave()
            self._listener("fallback", f"{old} given up: {why}; {self._backend.name} is tried")
            return True

    def close(self) -> None:
        """End the child; whoever waits for an answer gets an EarmarkError."""
        self._closed.set()
        child = self._child
        if child is not None:
            child.kill()
        with self._lock:
            self._end_child()

    def ask(self, model: SupervisedModel, tensors: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """Run a model on N images (N, …); see `Model.invoke_many`."""
        if tensors.dtype != model.input.dtype or tensors.shape[1:] != model.input.shape[1:]:
            raise ValueError(
                f"{model.path}: input is {tensors.dtype} {tensors.shape}, expected "
                f"{model.input.dtype} (N, {', '.join(map(str, model.input.shape[1:]))})"
            )
        with self._lock:
            results = {
                spec.name: np.empty((len(tensors), *spec.shape[1:]), np.float32)
                for spec in model.outputs
            }
            start = 0
            while start < len(tensors):
                if self._closed.is_set():
                    raise EarmarkError("inference was stopped")
                try:
                    start += self._round(model, tensors, start, results)
                except (ChildLostError, AcceleratorError) as error:
                    self._recover(error)
            return results

    @property
    def _backend(self) -> Backend:
        return self._plan.backends[self._place]

    def _round(
        self,
        model: SupervisedModel,
        tensors: NDArray[Any],
        start: int,
        results: dict[str, NDArray[np.float32]],
    ) -> int:
        """Run a model on as many images as fit into its memory; return how many."""
        child, memory = self._child, model.memory
        if child is None or memory is None:
            raise ChildLostError("no inference process")
        part = tensors[start : start + len(memory.inputs)]
        memory.inputs[: len(part)] = part
        child.invoke(self._models.index(model), len(part))
        for name, rows in memory.outputs.items():
            results[name][start : start + len(part)] = rows[: len(part)]
        return len(part)

    def _start(self) -> None:
        """Start a child and load all models; ChildLostError, AcceleratorError, BundleError."""
        self._end_child()
        self._child = InferenceChild(self._start_s)
        for model in self._models:
            self._open(model)
        self._child.answer_s = self._stuck_s

    def _open(self, model: SupervisedModel) -> None:
        assert self._child is not None
        backend = self._backend
        file, delegate = model.path, backend.delegate
        if backend.compiled:
            # Without a file of its own, a model runs on the CPU beside the others.
            file, delegate = (model.compiled, delegate) if model.compiled else (model.path, None)
        request = Open(
            path=str(file),
            threads=self._threads,
            many=model.many,
            kind=backend.kind if backend.kind == "gpu" else "cpu",
            name=delegate.name if delegate else "",
            library=delegate.library if delegate else "",
            options=dict(delegate.options) if delegate else {},
        )
        before, self._child.answer_s = self._child.answer_s, self._start_s
        model.take(*self._child.open(self._models.index(model), request))
        self._child.answer_s = before

    def _recover(self, error: Exception) -> None:
        """Get a child that serves again, whatever it takes; EarmarkError when nothing does."""
        why: Exception = error
        while not self._closed.is_set():
            now_s = self._clock()
            while self._restarts and now_s - self._restarts[0] > _WITHIN_S:
                self._restarts.popleft()
            # An accelerator that says no would say so again.
            refused = isinstance(why, AcceleratorError) and self._backend.kind != "cpu"
            if refused or len(self._restarts) >= self._most_restarts:
                try:
                    self._fall_back(why)
                except (ChildLostError, AcceleratorError) as another:
                    why = another
                    continue
                return
            self._restarts.append(now_s)
            self.restarted += 1
            if len(self._restarts) > 1:
                self._closed.wait(_PAUSE_S * len(self._restarts))
            try:
                self._start()
            except (ChildLostError, AcceleratorError) as another:
                why = another
                continue
            self._listener("restarted", f"{why}; started again")
            return
        raise EarmarkError("inference was stopped")

    def _fall_back(self, why: Exception) -> None:
        """Let the next backend serve, once it has passed all checks."""
        if self._place + 1 >= len(self._plan.backends):
            self._end_child()
            raise EarmarkError(f"inference on {self._backend.name} keeps failing: {why}") from why
        old = self._backend.name
        self._leave()
        self._start()
        for check in self._checks:
            check()
        self._listener("fallback", f"{old} given up: {why}; {self._backend.name} serves instead")

    def _leave(self) -> None:
        self._end_child()
        self._place += 1
        self._restarts.clear()

    def _end_child(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None
        for model in self._models:
            model.memory = None


class SupervisedModel:
    """A model that runs in the child; see `edge.vision.runtime.Model`."""

    def __init__(self, inference: Inference, path: Path, compiled: Path | None, many: bool) -> None:
        self._inference = inference
        self.path, self.compiled, self.many = path, compiled, many
        self.memory: TensorMemory | None = None
        self.backend = ""
        self.ways: dict[int, str] = {}
        self._specs: tuple[TensorSpec, tuple[TensorSpec, ...]] | None = None

    @property
    def input(self) -> TensorSpec:
        """Its input, for one image."""
        assert self._specs is not None
        return self._specs[0]

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Its outputs, for one image."""
        assert self._specs is not None
        return self._specs[1]

    def take(self, opened: Opened, memory: TensorMemory) -> None:
        """Serve from here on as a child says; BundleError when that is another interface."""
        outputs = tuple(sorted((spec.spec() for spec in opened.outputs), key=lambda s: s.name))
        specs = opened.input.spec(), outputs
        if self._specs is not None and _interface(specs) != _interface(self._specs):
            raise BundleError(
                f"{self.compiled or self.path}: is fed or answers differently from {self.path.name}"
            )
        self._specs = self._specs or specs
        self.memory, self.backend = memory, opened.backend
        self.ways = {int(count): way for count, way in opened.ways.items()}

    def invoke(self, tensor: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """See `Model`."""
        outputs = self._inference.ask(self, tensor)
        return {spec.name: outputs[spec.name].reshape(spec.shape) for spec in self.outputs}

    def invoke_many(self, tensors: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """See `Model`."""
        return self._inference.ask(self, tensors)


def _interface(specs: tuple[TensorSpec, tuple[TensorSpec, ...]]) -> object:
    """Return what of a model its users rely on: tensor indices are not part of it."""
    given, outputs = specs
    return (
        (given.shape, given.dtype, given.scale, given.zero_point),
        tuple((spec.name, spec.shape) for spec in outputs),
    )

"""Inference that goes on: a child is watched, restarted, and given up for the next backend."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from edge.errors import AcceleratorError, BundleError, EarmarkError, SelfTestError
from edge.inference.accelerator import Backend, Plan
from edge.inference.kept import KeptFile
from edge.inference.patience import Patience
from edge.inference.process import ChildHungError, ChildLostError, InferenceChild
from edge.inference.protocol import Open, Opened, TensorMemory
from edge.vision.runtime import TensorSpec

Event = Literal["failed", "restarted", "fallback"]
# Told with a line that says why, in the thread that asked for something: when a start failed and
# another one follows, and when inference was interrupted and goes on.
Listener = Callable[[Event, str], None]

_RESTARTS = 5
# Each costs `stuck_s`, or `start_s` while loading, in which nobody is seen.
_HANGS = 2
_PAUSE_S = 0.2
# Drivers load firmware, and a Raspberry Pi reads its card; a child that hangs in that hangs.
START_S = 30.0


class Inference:
    """Runs models in a child process, on the first backend of a plan that will have them.

    A child that does not answer for `stuck_s` (`start_s` while it loads), or that dies, is
    restarted and asked the same again. After `restarts` of them, or two hangs in a row of an
    accelerator, the backend is given up, and the next one, in the end the CPU, serves; a minute of
    answers makes up for all failures before. Every child gets the files that the first one got,
    whatever lies there by then, and none serves that has not passed the checks. Where
    nothing can serve, `failure` says why, and every question from then on raises it. Any thread may
    ask; one at a time is served.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        threads: int = 2,
        stuck_s: float = 10.0,
        start_s: float = START_S,
        restarts: int = _RESTARTS,
        listener: Listener = lambda event, text: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan, self._threads = plan, threads
        self._stuck_s, self._start_s = stuck_s, max(start_s, stuck_s)
        self._restarts = restarts
        self._listener, self._clock = listener, clock
        self._place = 0
        self._models: list[SupervisedModel] = []
        self._files: dict[Path, KeptFile] = {}
        self._checks: list[Callable[[], object]] = []
        self._proving = False
        self._lock = threading.RLock()
        self._stopped = False
        # Unlike an event's, its `put` may interrupt its own `get`, as a signal handler does.
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._child: InferenceChild | None = None
        self._patience = self._new_patience()
        self.children = 0
        self.restarted = 0
        self.failure: EarmarkError | None = None

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
            self._check_serving()
            model = SupervisedModel(self, path, compiled, many)
            for file in filter(None, (path, compiled)):
                self.keep(file)
            self._models.append(model)
            try:
                if self._child is None:
                    self._start()
                else:
                    self._open(model)
            except (ChildLostError, AcceleratorError) as error:
                self._recover(error, loading=True)
            return model

    def keep(self, path: Path) -> KeptFile:
        """Open a file that belongs to the models, unless it is open; it stays as it is now."""
        with self._lock:
            if path not in self._files:
                self._files[path] = KeptFile(path)
            return self._files[path]

    @property
    def digests(self) -> dict[Path, str]:
        """SHA-256 of every file that was opened, as 64 hex digits."""
        return {path: file.sha256 for path, file in self._files.items()}

    def add_check(self, check: Callable[[], object]) -> None:
        """Run `check`, which raises BundleError, through every child before it serves.

        SelfTestError says that this backend answers wrongly, so that the next one is tried.
        """
        self._checks.append(check)

    def prove(self) -> None:
        """Run the checks through the child that serves now."""
        with self._lock:
            try:
                self._prove()
            except (ChildLostError, AcceleratorError, SelfTestError) as error:
                self._recover(error)

    def give_up(self, why: str) -> bool:
        """Leave the backend that serves, and all models; whether there is another one."""
        with self._lock:
            if self._place + 1 >= len(self._plan.backends):
                return False
            self._models.clear()
            self._checks.clear()
            self._let_go()
            old = self._backend.name
            self._leave()
            self._listener("fallback", f"{old} given up: {why}; {self._backend.name} is tried")
            return True

    def stop(self) -> None:
        """End the child; whoever waits for an answer, or asks from now on, gets an EarmarkError.

        It waits for nothing, so a signal handler may call it.
        """
        self._stopped = True
        self._wake.put(None)
        child = self._child
        if child is not None:
            child.kill()

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped

    def close(self) -> None:
        """Stop, and let go of the child."""
        self.stop()
        with self._lock:
            self._end_child()
            self._let_go()

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
                self._check_serving()
                try:
                    start += self._round(model, tensors, start, results)
                except (ChildLostError, AcceleratorError) as error:
                    if self._proving:
                        raise
                    self._recover(error)
                else:
                    if not self._proving:
                        self._patience.answered()
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
        if self.children:
            for file in self._files.values():
                file.check()
        self._child = InferenceChild(self._start_s)
        # Whoever stopped us meanwhile found no child to end.
        self._check_serving()
        self.children += 1
        for model in self._models:
            self._open(model)
        self._child.answer_s = self._stuck_s
        self._patience.ready()

    def _prove(self) -> None:
        self._proving = True
        try:
            for check in self._checks:
                check()
        finally:
            self._proving = False

    def _check_serving(self) -> None:
        """Raise EarmarkError when nothing is asked any more."""
        if self._stopped:
            raise EarmarkError("inference was stopped")
        if self.failure is not None:
            raise type(self.failure)(str(self.failure))

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
        descriptor = self._files[file].descriptor
        model.take(*self._child.open(self._models.index(model), request, descriptor))
        self._child.answer_s = before

    def _recover(self, error: Exception, *, loading: bool = False) -> None:
        """Get a child that serves again, whatever it takes; EarmarkError when nothing does.

        loading: the error is of a child that was being started.
        """
        why: Exception = error
        given_up = ""
        while True:
            self._check_serving()
            if self._worth_another(why):
                if loading:
                    self._listener("failed", f"{why}; trying again")
                self.restarted += 1
                self._rest()
            else:
                # The last one's end is the first one's as well.
                given_up = given_up or f"{self._backend.name} given up: {why}"
                self._next_backend(why)
            try:
                self._start()
                self._prove()
            except (ChildLostError, AcceleratorError, SelfTestError) as another:
                why, loading = another, True
                continue
            except BundleError as another:
                self._fail(another, another)
            if given_up:
                self._listener("fallback", f"{given_up}; {self._backend.name} serves instead")
            else:
                self._listener("restarted", f"{why}; started again")
            return

    def _worth_another(self, why: Exception) -> bool:
        """Say whether the backend may be tried once more."""
        # What answers wrongly would do so again, and an accelerator that says no as well.
        wrong = isinstance(why, SelfTestError)
        refused = isinstance(why, AcceleratorError) and self._backend.kind != "cpu"
        if wrong or refused:
            return False
        return self._patience.failed(hung=isinstance(why, ChildHungError))

    def _rest(self) -> None:
        failures = self._patience.failures
        if failures > 1:
            with contextlib.suppress(queue.Empty):
                self._wake.get(timeout=_PAUSE_S * failures)

    def _next_backend(self, why: Exception) -> None:
        """Leave the backend for the next one; EarmarkError when it was the last."""
        if self._place + 1 < len(self._plan.backends):
            self._leave()
        elif isinstance(why, EarmarkError) and not isinstance(why, AcceleratorError):
            self._fail(why, why)
        else:
            kind = EarmarkError if self._backend.kind == "cpu" else AcceleratorError
            self._fail(kind(f"inference on {self._backend.name} keeps failing: {why}"), why)

    def _fail(self, failure: EarmarkError, why: Exception) -> NoReturn:
        """End for good: what has failed must not answer another thread's question."""
        self._end_child()
        self.failure = failure
        raise failure from (None if failure is why else why)

    def _leave(self) -> None:
        self._end_child()
        self._place += 1
        self._patience = self._new_patience()

    def _new_patience(self) -> Patience:
        # Nothing follows the CPU, so it is waited for longer.
        hangs = None if self._backend.kind == "cpu" else _HANGS
        return Patience(self._restarts, hangs, self._clock)

    def _let_go(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()

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

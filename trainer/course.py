"""Where a training stands: its step, history and best step, and how it goes on after a kill."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edge.errors import EarmarkError
from trainer.checkpoint import Checkpoint
from trainer.strategy import is_chief

LOGS_NAME = "tensorboard"
Arrays = list[NDArray[Any]]
# Better first: the first figure that differs decides. None where nothing was validated.
Score = tuple[float, ...] | None
Row = TypeVar("Row", bound=tuple[Any, ...])


class Learner(Protocol):
    """A network, its optimizer and its running average."""

    def __call__(self, number: int, batch: Any, /) -> NDArray[np.float64]:
        """Take one step; `number` counts those before. Returns its figures (F,), loss first."""

    def kept(self) -> Arrays:
        """Return what is worth keeping of a step: the running average."""

    def keep(self, arrays: Arrays) -> None:
        """Put kept arrays back."""

    def state(self) -> Arrays:
        """Return all that the next steps depend on, as arrays in a fixed order."""

    def restore(self, arrays: Sequence[NDArray[Any]]) -> None:
        """Go back to a state; ValueError when it is another network's."""


class Course(Generic[Row]):
    """Counts steps, averages figures between validations, remembers the best step.

    row: makes a history row of (step, *mean figures, *what the judge said). figures: how many a
    step gives. patience: validations in a row without a better one before training ends, 0 for
    never. counts: whole numbers that the training wants to keep over a kill.
    """

    def __init__(
        self,
        learner: Learner,
        row: type[Row],
        *,
        steps: int,
        evaluate_every: int,
        figures: int,
        patience: int = 0,
    ) -> None:
        self._learner, self._row = learner, row
        self._steps, self._every, self._patience = steps, evaluate_every, patience
        self.step = 0
        self.history: list[Row] = []
        self.counts: dict[str, int] = {}
        self.best_step = 0
        self._best_score: Score = None
        self._best: Arrays = []
        self._sums, self._since = np.zeros(figures), 0
        self.learned, self.busy_s = 0, 0.0  # since this process began

    @property
    def due(self) -> bool:
        """Whether it is time to validate."""
        return self.step % self._every == 0 or self.step == self._steps

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or the last validations brought nothing better."""
        if self.step >= self._steps:
            return True
        if not self._patience or self._best_score is None:
            return False
        since_best = sum(row[0] > self.best_step for row in self.history)
        return since_best >= self._patience

    @property
    def loss(self) -> float:
        """Mean loss since the last validation."""
        return float(self._sums[0] / max(1, self._since))

    def learn(self, batches: Iterator[Any]) -> Any:
        """Take one step with the next batch, and return that batch."""
        started = time.perf_counter()
        batch = next(batches)
        self._sums += self._learner(self.step, batch)
        self.busy_s += time.perf_counter() - started
        self.step += 1
        self.learned += 1
        self._since += 1
        return batch

    def judge(self, said: Sequence[float | None], score: Score) -> Row:
        """Note how good the running average is now, and keep it if it is the best.

        said: goes into the history row. score: None keeps this step in any case, and so does one
        as good as the best. Raises EarmarkError when the losses are no longer numbers.
        """
        if not np.isfinite(self._sums).all():
            raise EarmarkError(
                f"training diverged by step {self.step} (loss {self._sums[0]}): lower learning_rate"
            )
        row = self._row(self.step, *(self._sums / max(1, self._since)).tolist(), *said)
        self.history.append(row)
        self._sums, self._since = np.zeros_like(self._sums), 0
        if score is None or self._best_score is None or score >= self._best_score:
            self.best_step, self._best_score = self.step, score
            self._best = self._learner.kept()
        return row

    def keep_best(self) -> None:
        """Put the best step back."""
        self._learner.keep(self._best)

    def checkpoint(self) -> Checkpoint:
        """Return all that going on needs. Only right after `judge`."""
        record = {
            "step": self.step,
            "history": [list(row) for row in self.history],
            "best_step": self.best_step,
            "best_score": None if self._best_score is None else list(self._best_score),
            "best_arrays": len(self._best),
            "counts": self.counts,
        }
        return Checkpoint([*self._best, *self._learner.state()], record)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to where a checkpoint was made."""
        record, count = checkpoint.record, checkpoint.record["best_arrays"]
        self._best = list(checkpoint.arrays[:count])
        self._learner.restore(checkpoint.arrays[count:])
        self.step, self.best_step = record["step"], record["best_step"]
        score = record["best_score"]
        self._best_score = None if score is None else tuple(score)
        self.counts = dict(record["counts"])
        self.history = [self._row(*row) for row in record["history"]]


@contextmanager
def training_logs(state: Path | None, name: str, strategy: tf.distribute.Strategy) -> Iterator[Any]:
    """Yield a TensorBoard writer under `state`, or None where nothing is to be written."""
    if state is None or not is_chief(strategy):
        yield None
        return
    writer = tf.summary.create_file_writer(str(state / LOGS_NAME / name))
    try:
        yield writer
    finally:
        writer.close()


def write_logs(writer: Any, name: str, row: Any) -> None:
    """Write a history row, a named tuple with its `step`, as TensorBoard scalars."""
    if writer is None:
        return
    with writer.as_default(step=row.step):
        for figure, value in row._asdict().items():
            if figure != "step" and value is not None:
                tf.summary.scalar(f"{name}/{figure}", value)
    writer.flush()

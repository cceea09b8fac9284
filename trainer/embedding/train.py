"""Training the embedder: learn, validate, keep the best step, go on after a kill."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edge.errors import DataError, EarmarkError
from edge.release.manifest import Turns
from edge.vision.types import Floats
from trainer.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from trainer.data.crops import CropSet, check_trainable, load_images
from trainer.embedding.backbones import Backbone, describe_weights, find_backbone
from trainer.embedding.feed import Batch, Feed
from trainer.embedding.judge import Judge, embed_float
from trainer.embedding.options import EmbedderOptions, check_options
from trainer.embedding.step import TrainingStep
from trainer.progress import Report
from trainer.strategy import is_chief, local_replicas, same_everywhere, worker_number

LOGS_NAME = "tensorboard"
_REPORT_EVERY = 5
_REFIT_RATE = 0.5


class HistoryRow(NamedTuple):
    """Means over the steps since the row before.

    active: share of triplets with a loss. positive, negative: mean distances d(a,p), d(a,n).
    macro_f1: nearest-mean macro F1 of the validation crops, None without any.
    """

    step: int
    loss: float
    active: float
    positive: float
    negative: float
    macro_f1: float | None


@dataclass(frozen=True, slots=True, eq=False)
class ClassLayer:
    """What the softmax losses compare with, used in training only.

    directions: float32 (C, D), a row for each label. bias: float32 (C,), of the loss `softmax`.
    """

    directions: Floats
    bias: Floats


@dataclass(frozen=True, slots=True, eq=False)
class TrainedEmbedder:
    """A trained network (running average of its weights at the best step) and how it came to be.

    model: (B, S, S, 3) float32 real pixel values to (B, D) unit vectors. weights: where training
    started from, in words. images_per_s: None when nothing was left to learn. images_seen: in all
    steps of all replicas. repeated_images: drawn twice in a batch because an animal has few.
    resumed_at: the step that training went on from, 0 from its beginning.
    """

    model: keras.Model
    options: EmbedderOptions
    history: tuple[HistoryRow, ...]
    best_step: int
    images_per_s: float | None
    weights: str
    classes: ClassLayer
    images_seen: int
    repeated_images: int = 0
    resumed_at: int = 0

    @property
    def backbone(self) -> Backbone:
        """The registry entry, which knows how pixels are fed."""
        return find_backbone(self.options.backbone)

    @property
    def macro_f1(self) -> float | None:
        """Validation macro F1 of the step that was kept, None without validation crops."""
        return next((row.macro_f1 for row in self.history if row.step == self.best_step), None)

    def embed(self, images: NDArray[np.uint8], turns: Turns | None = None) -> Floats:
        """Return unit embeddings (N, D) float32 of crops (N, S, S, 3) uint8 by the float model.

        turns: see `Embedder.embed`; None for what the options say of devices.
        """
        return embed_float(self.model, self.backbone, images, turns or self.options.turns)


def refit(
    trained: TrainedEmbedder,
    crops: CropSet,
    report: Report,
    *,
    state: Path | None = None,
    key: str = "",
    strategy: tf.distribute.Strategy | None = None,
) -> TrainedEmbedder:
    """Go on learning from all crops, those of validation too, for `refit_steps`.

    What was held out shows animals on other days, which is what a network learns most from; by then
    it has served to choose the step and to calibrate. crops: of the same animals as before.
    """
    options = trained.options
    return train_embedder(
        crops,
        crops.select([]),
        replace(
            options,
            steps=options.refit_steps,
            learning_rate=_REFIT_RATE * options.learning_rate,
            refit_steps=0,
        ),
        report,
        start=trained,
        state=state,
        key=key,
        name="refit",
        strategy=strategy,
    )


def train_embedder(
    train: CropSet,
    validation: CropSet,
    options: EmbedderOptions,
    report: Report,
    *,
    start: TrainedEmbedder | None = None,
    state: Path | None = None,
    key: str = "",
    name: str = "embedder",
    strategy: tf.distribute.Strategy | None = None,
) -> TrainedEmbedder:
    """Train on `train` and keep the step with the best nearest-mean macro F1 on `validation`.

    With an empty `validation` the last step is kept. start: a network of the same animals to go on
    learning from, in place of the backbone's weights. state: folder for checkpoints and TensorBoard
    logs under `name`; where it holds a checkpoint of the same `key`, training goes on from there
    and ends as if it had never been interrupted. strategy: of `tf.distribute`; every replica has
    batches of its own. Raises DataError when the crops or the options do not go together,
    UsageError for options and weights that cannot be had.
    """
    train = train.without_empty()
    check_trainable(train)
    check_options(options)
    strangers = sorted(set(validation.names()) - set(train.animals))
    if strangers:
        raise DataError(f"validation animal {strangers[0]!r} has no crops to train on")
    images = load_images(train, options.input_size, options.letterbox_colour)
    strategy = strategy or tf.distribute.get_strategy()
    feed_options = {"replicas": strategy.num_replicas_in_sync}
    animals = Feed(train, images, options, **feed_options).animals  # refuses what does not fit
    judge = Judge(train, images, validation, options)
    keras.utils.set_random_seed(options.seed)
    step = TrainingStep(animals, options, strategy)
    if start is not None:
        step.start_from(start.model.get_weights(), start.classes.directions, start.classes.bias)
    course = _Course(options, step)
    saved = None if state is None else state / f"{name}-{worker_number(strategy)}.checkpoint"
    found = load_checkpoint(saved, key) if saved else None
    # Workers killed between two of their checkpoints would no longer learn the same.
    if same_everywhere(strategy, found.record["step"] if found else 0) and found:
        course.restore(found)
    resumed_at = course.step
    if state is not None and not resumed_at and is_chief(strategy):
        shutil.rmtree(
            state / LOGS_NAME / name, ignore_errors=True
        )  # of a training that is given up
    feeds = [
        Feed(train, images, options, first=course.step, replica=replica, **feed_options)
        for replica in local_replicas(strategy)
    ]
    with _logs(state, name, strategy) as logs, closing(_together(feeds)) as batches:
        while not course.finished:
            course.learn(batches)
            if course.due:
                course.judge(judge(step.averaged))
                _write_logs(logs, name, course.history[-1])
                if saved is not None:
                    save_checkpoint(saved, key, course.checkpoint())
            if course.step % _REPORT_EVERY == 0 or course.finished:
                report(course.step, options.steps, course.note())
    course.keep_best()
    batch = options.batch_size(animals) * strategy.num_replicas_in_sync
    return TrainedEmbedder(
        step.averaged,
        options,
        tuple(course.history),
        course.best_step,
        course.seen * batch / course.busy_s if course.busy_s else None,
        describe_weights(options.weights) if start is None else start.weights,
        course.classes(),
        course.step * batch,
        course.repeated,
        resumed_at,
    )


class _Course:
    """Where a training stands: step, history, the best step and its weights."""

    def __init__(self, options: EmbedderOptions, step: TrainingStep) -> None:
        self._options, self._learn = options, step
        self.step = 0
        self.history: list[HistoryRow] = []
        self.best_step, self._best_f1 = 0, -1.0
        self._best: list[NDArray[Any]] = []
        self._sums, self._since = np.zeros(4), 0
        self.repeated = 0
        self.seen, self.busy_s = 0, 0.0  # since this process began

    @property
    def due(self) -> bool:
        """Whether it is time to validate."""
        options = self._options
        return self.step % options.evaluate_every == 0 or self.step == options.steps

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or the last validations brought nothing better."""
        options = self._options
        if self.step >= options.steps:
            return True
        if not options.patience or not self.history or self.history[-1].macro_f1 is None:
            return False
        since_best = sum(row.step > self.best_step for row in self.history)
        return since_best >= options.patience

    def learn(self, batches: Iterator[Sequence[Batch]]) -> None:
        """Take one step."""
        started = time.perf_counter()
        step = next(batches)
        self._sums += self._learn(self.step, step)
        self.repeated += sum(batch.repeated for batch in step)
        self.busy_s += time.perf_counter() - started
        self.step += 1
        self.seen += 1
        self._since += 1

    def judge(self, macro_f1: float | None) -> None:
        """Note how good the running average is now, and keep it if it is the best.

        Raises EarmarkError when the losses are no longer numbers.
        """
        if not np.isfinite(self._sums).all():
            raise EarmarkError(
                f"training diverged by step {self.step} (loss {self._sums[0]}): lower learning_rate"
            )
        self.history.append(HistoryRow(self.step, *(self._sums / self._since).tolist(), macro_f1))
        self._sums, self._since = np.zeros(4), 0
        # Without validation the last step is the best; of equals, too.
        score = -1.0 if macro_f1 is None else macro_f1
        if score >= self._best_f1:
            self.best_step, self._best_f1 = self.step, score
            self._best = self._kept()

    def keep_best(self) -> None:
        """Put the best step's weights into the running average."""
        *weights, classes, bias = self._best
        self._learn.averaged.set_weights(weights)
        self._learn.classes.assign(classes)
        self._learn.bias.assign(bias)

    def classes(self) -> ClassLayer:
        """Return what the softmax losses compare with."""
        return ClassLayer(self._learn.classes.numpy(), self._learn.bias.numpy())

    def checkpoint(self) -> Checkpoint:
        """Return all that going on needs. Only right after `judge`."""
        record = {
            "step": self.step,
            "history": [list(row) for row in self.history],
            "best_step": self.best_step,
            "best_f1": self._best_f1,
            "best_arrays": len(self._best),
            "repeated": self.repeated,
        }
        return Checkpoint([*self._best, *self._learn.state()], record)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to where a checkpoint was made."""
        record, count = checkpoint.record, checkpoint.record["best_arrays"]
        self._best = list(checkpoint.arrays[:count])
        self._learn.restore(checkpoint.arrays[count:])
        self.step, self.best_step = record["step"], record["best_step"]
        self._best_f1, self.repeated = record["best_f1"], record["repeated"]
        self.history = [HistoryRow(*row) for row in record["history"]]

    def note(self) -> str:
        """Say in a few words how it goes."""
        if not self.history:
            return f"loss {self._sums[0] / max(1, self._since):.2f}"
        row = self.history[-1]
        score = "" if row.macro_f1 is None else f", validation macro F1 {row.macro_f1:.3f}"
        return f"loss {row.loss:.2f}{score}"

    def _kept(self) -> list[NDArray[Any]]:
        learn = self._learn
        return [*learn.averaged.get_weights(), learn.classes.numpy(), learn.bias.numpy()]


def _together(feeds: Sequence[Feed]) -> Iterator[tuple[Batch, ...]]:
    """Yield one batch of each feed; closing it ends their threads."""
    iterators = [iter(feed) for feed in feeds]
    try:
        while True:
            yield tuple(next(iterator) for iterator in iterators)
    finally:
        for iterator in iterators:
            iterator.close()


@contextmanager
def _logs(state: Path | None, name: str, strategy: tf.distribute.Strategy) -> Iterator[Any]:
    """Yield a TensorBoard writer, or None where nothing is to be written."""
    if state is None or not is_chief(strategy):
        yield None
        return
    writer = tf.summary.create_file_writer(str(state / LOGS_NAME / name))
    try:
        yield writer
    finally:
        writer.close()


def _write_logs(writer: Any, name: str, row: HistoryRow) -> None:
    if writer is None:
        return
    with writer.as_default(step=row.step):
        for figure, value in row._asdict().items():
            if figure != "step" and value is not None:
                tf.summary.scalar(f"{name}/{figure}", value)
    writer.flush()

"""Training the embedder: learn, validate, keep the best step, go on after a kill."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edge.errors import DataError
from edge.release.manifest import Turns
from edge.vision.types import Floats
from trainer.checkpoint import load_checkpoint, save_checkpoint
from trainer.course import LOGS_NAME, Course, training_logs, write_logs
from trainer.data.crops import CropSet, check_trainable, load_images
from trainer.embedding.backbones import Backbone, describe_weights, find_backbone
from trainer.embedding.feed import Batch, Feed
from trainer.embedding.judge import Judge, embed_float
from trainer.embedding.options import EmbedderOptions, check_options
from trainer.embedding.step import FIGURES, TrainingStep
from trainer.progress import Report
from trainer.strategy import is_chief, local_replicas, same_everywhere, worker_number

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
    course = Course(
        step,
        HistoryRow,
        steps=options.steps,
        evaluate_every=options.evaluate_every,
        figures=FIGURES,
        patience=options.patience,
    )
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
    repeated = course.counts.get("repeated", 0)
    with training_logs(state, name, strategy) as logs, closing(_together(feeds)) as batches:
        while not course.finished:
            repeated += sum(batch.repeated for batch in course.learn(batches))
            if course.due:
                macro_f1 = judge(step.averaged)
                score = None if macro_f1 is None else (macro_f1,)
                write_logs(logs, name, course.judge((macro_f1,), score))
                course.counts["repeated"] = repeated
                if saved is not None:
                    save_checkpoint(saved, key, course.checkpoint())
            if course.step % _REPORT_EVERY == 0 or course.finished:
                report(course.step, options.steps, _note(course))
    course.keep_best()
    batch = options.batch_size(animals) * strategy.num_replicas_in_sync
    return TrainedEmbedder(
        step.averaged,
        options,
        tuple(course.history),
        course.best_step,
        course.learned * batch / course.busy_s if course.busy_s else None,
        describe_weights(options.weights) if start is None else start.weights,
        ClassLayer(step.classes.numpy(), step.bias.numpy()),
        course.step * batch,
        repeated,
        resumed_at,
    )


def _together(feeds: Sequence[Feed]) -> Iterator[tuple[Batch, ...]]:
    """Yield one batch of each feed; closing it ends their threads."""
    iterators = [iter(feed) for feed in feeds]
    try:
        while True:
            yield tuple(next(iterator) for iterator in iterators)
    finally:
        for iterator in iterators:
            iterator.close()


def _note(course: Course[HistoryRow]) -> str:
    """Say in a few words how it goes."""
    if not course.history:
        return f"loss {course.loss:.2f}"
    row = course.history[-1]
    score = "" if row.macro_f1 is None else f", validation macro F1 {row.macro_f1:.3f}"
    return f"loss {row.loss:.2f}{score}"

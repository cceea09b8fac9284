"""Training the embedder: balanced batches, cosine softmax and triplets, the best step kept."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edge.errors import DataError, UsageError
from edge.vision.geometry import Colour
from edge.vision.types import Floats
from trainer.data.augment import Augmentation, Augmenter
from trainer.data.batches import BalancedBatches, balanced_batches
from trainer.data.crops import CropSet, check_trainable, load_images
from trainer.embedding.backbones import Backbone, Weights, describe_weights, find_backbone
from trainer.embedding.losses import TRIPLET_LOSSES, cosine_softmax
from trainer.embedding.model import Head, build_embedder, set_batchnorm
from trainer.progress import Report

_EMA_DECAY = 0.99
_REPORT_EVERY = 5


@dataclass(frozen=True, slots=True)
class EmbedderOptions:
    """How an embedder is trained.

    input_size: side in pixels. dimension: of the embedding. tap: layer of the backbone, None for
    its usual one. weights: None, "imagenet" or a local file. freeze_batchnorm: None for yes with
    pretrained weights, no from scratch. scale, margin: of the cosine softmax. triplet: batch_hard,
    semi_hard or batch_all, times triplet_weight. learning_rate: the peak; it warms up, then falls
    as a cosine. reference_images: at most so many of an animal make its mean when validating.
    """

    input_size: int = 160
    dimension: int = 128
    backbone: str = "mobilenet_v2"
    tap: str | None = None
    alpha: float = 1.0
    weights: Weights = None
    head: Head = "pooled"
    freeze_batchnorm: bool | None = None
    classes_per_batch: int = 12
    images_per_class: int = 4
    steps: int = 1200
    learning_rate: float = 7e-4
    scale: float = 20.0
    margin: float = 0.25
    triplet: str = "batch_hard"
    triplet_weight: float = 1.0
    evaluate_every: int = 100
    reference_images: int = 40
    letterbox_colour: Colour = (114, 114, 114)
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0

    @property
    def layer(self) -> str:
        """Name of the layer that is tapped."""
        return self.tap or find_backbone(self.backbone).tap


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
class TrainedEmbedder:
    """A trained network (running average of its weights at the best step) and how it came to be.

    model: (B, S, S, 3) float32 real pixel values to (B, D) unit vectors. weights: where training
    started from, in words. repeated_images: drawn twice in a batch because an animal has few.
    """

    model: keras.Model
    options: EmbedderOptions
    history: tuple[HistoryRow, ...]
    best_step: int
    images_per_s: float
    weights: str
    repeated_images: int = 0

    @property
    def backbone(self) -> Backbone:
        """The registry entry, which knows how pixels are fed."""
        return find_backbone(self.options.backbone)

    @property
    def macro_f1(self) -> float | None:
        """Validation macro F1 of the step that was kept, None without validation crops."""
        return next((row.macro_f1 for row in self.history if row.step == self.best_step), None)

    def embed(self, images: NDArray[np.uint8]) -> Floats:
        """Return unit embeddings (N, D) float32 of crops (N, S, S, 3) uint8 by the float model."""
        return embed_float(self.model, self.backbone, images)


def train_embedder(
    train: CropSet, validation: CropSet, options: EmbedderOptions, report: Report
) -> TrainedEmbedder:
    """Train on `train` and keep the step with the best nearest-mean macro F1 on `validation`.

    With an empty `validation` the last step is kept. Raises DataError when the crops or the
    options do not go together, UsageError for weights that cannot be had.
    """
    train = train.without_empty()
    check_trainable(train)
    if options.triplet not in TRIPLET_LOSSES:
        raise UsageError(f"no triplet loss {options.triplet!r}; choose of {list(TRIPLET_LOSSES)}")
    batches = balanced_batches(
        train.labels,
        train.sessions,
        options.classes_per_batch,
        options.images_per_class,
        options.seed,
    )
    strangers = sorted(set(validation.names()) - set(train.animals))
    if strangers:
        raise DataError(f"validation animal {strangers[0]!r} has no crops to train on")
    images = load_images(train, options.input_size, options.letterbox_colour)
    judge = _Judge(train, images, validation, options)
    keras.utils.set_random_seed(options.seed)
    run = _Run(len(train.animals), options)

    history: list[HistoryRow] = []
    best_step, best_f1, best_weights = options.steps, -1.0, None
    sums = np.zeros(4)
    since, busy_s = 0, 0.0
    note = ""
    feed = _prefetched(images, train.labels, batches, options)
    for step in range(1, options.steps + 1):
        started = time.perf_counter()
        crops, labels = next(feed)
        sums += run.step(crops, labels)
        since += 1
        busy_s += time.perf_counter() - started
        if step % options.evaluate_every == 0 or step == options.steps:
            macro_f1 = judge(run.averaged)
            history.append(HistoryRow(step, *(sums / since).tolist(), macro_f1))
            if macro_f1 is not None and macro_f1 >= best_f1:
                best_step, best_f1 = step, macro_f1
                best_weights = run.averaged.get_weights()
            sums, since = np.zeros(4), 0
            note = _note(history[-1])
        elif not history:
            note = f"loss {sums[0] / since:.2f}"
        if step % _REPORT_EVERY == 0 or step == options.steps:
            report(step, options.steps, note)
    feed.close()
    if best_weights is not None:
        run.averaged.set_weights(best_weights)
    seen = options.steps * options.classes_per_batch * options.images_per_class
    return TrainedEmbedder(
        run.averaged,
        options,
        tuple(history),
        best_step,
        seen / busy_s,
        describe_weights(options.weights),
        batches.repeated,
    )


def embed_float(model: keras.Model, backbone: Backbone, images: NDArray[np.uint8]) -> Floats:
    """Return unit embeddings (N, D) float32 of crops (N, S, S, 3) uint8 by the Keras model."""
    parts = [np.zeros((0, model.output_shape[-1]), np.float32)]
    for start in range(0, len(images), 64):
        pixels = images[start : start + 64].astype(np.float32)
        real = pixels * backbone.pixel_scale + backbone.pixel_offset
        parts.append(np.asarray(model.predict_on_batch(real), np.float32))
    return np.concatenate(parts)


def nearest_mean_macro_f1(
    references: Floats, labels: NDArray[np.int32], queries: Floats, truth: NDArray[np.int32]
) -> float:
    """Return macro F1 of naming queries (Q, D) by the nearest unit mean of references (N, D).

    labels (N,) and truth (Q,) index the same animals; averaged over the animals in `truth`.
    """
    animals = np.unique(labels)
    means = np.stack([references[labels == animal].mean(axis=0) for animal in animals])
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    named = animals[np.argmax(queries @ means.T, axis=1)]
    scores = []
    for animal in np.unique(truth):
        right = np.sum((named == animal) & (truth == animal))
        scores.append(2 * right / (np.sum(named == animal) + np.sum(truth == animal)))
    return float(np.mean(scores))


class _Run:
    """The trained network, its running average, and one compiled step."""

    def __init__(self, animals: int, options: EmbedderOptions) -> None:
        backbone = find_backbone(options.backbone)
        self.model = build_embedder(
            backbone,
            tap=options.layer,
            input_size=options.input_size,
            dimension=options.dimension,
            alpha=options.alpha,
            weights=options.weights,
            head=options.head,
        )
        self.averaged = keras.models.clone_model(self.model)
        self.averaged.set_weights(self.model.get_weights())
        frozen = options.freeze_batchnorm
        set_batchnorm(self.model, frozen=options.weights is not None if frozen is None else frozen)
        start = tf.random.stateless_normal((animals, options.dimension), (options.seed, 1))
        self._classes = tf.Variable(tf.math.l2_normalize(start, axis=1), name="classes")
        warm_up = max(1, min(50, options.steps // 8))
        schedule = keras.optimizers.schedules.CosineDecay(
            options.learning_rate / 50,
            max(1, options.steps - warm_up),
            alpha=0.01,
            warmup_target=options.learning_rate,
            warmup_steps=warm_up,
        )
        self._optimizer = keras.optimizers.Adam(schedule)
        self._variables = [weight.value for weight in self.model.trainable_variables]
        self._variables.append(self._classes)
        self._backbone, self._options = backbone, options
        self._count = tf.Variable(0.0, name="count")
        self._optimizer.build(self._variables)
        size = options.input_size
        self._step = tf.function(
            self._traced,
            input_signature=[
                tf.TensorSpec((None, size, size, 3), tf.uint8),
                tf.TensorSpec((None,), tf.int32),
            ],
        )

    def step(self, crops: NDArray[np.uint8], labels: NDArray[np.int32]) -> NDArray[np.float64]:
        """Learn from one batch; return loss, active share, mean d(a,p), mean d(a,n)."""
        return np.asarray(self._step(crops, labels), np.float64)

    def _traced(self, crops: Any, labels: Any) -> Any:
        options = self._options
        real = tf.cast(crops, tf.float32) * self._backbone.pixel_scale + self._backbone.pixel_offset
        with tf.GradientTape() as tape:
            embeddings = self.model(real, training=True)
            triplet = TRIPLET_LOSSES[options.triplet](embeddings, labels)
            loss = options.triplet_weight * triplet.loss + cosine_softmax(
                embeddings, labels, self._classes, options.scale, options.margin
            )
        gradients = tape.gradient(loss, self._variables)
        self._optimizer.apply(gradients, self._variables)
        self._count.assign_add(1.0)
        decay = tf.minimum(_EMA_DECAY, (1 + self._count) / (10 + self._count))
        for mean, now in zip(self.averaged.weights, self.model.weights, strict=True):
            mean.value.assign_sub((1 - decay) * (mean.value - now.value))
        return tf.stack([loss, triplet.active, triplet.positive, triplet.negative])


class _Judge:
    """Names the validation crops by the nearest mean of unaugmented training crops."""

    def __init__(
        self,
        train: CropSet,
        images: NDArray[np.uint8],
        validation: CropSet,
        options: EmbedderOptions,
    ) -> None:
        rng = np.random.default_rng(options.seed)
        rows = [
            rng.permutation(np.flatnonzero(train.labels == label))[: options.reference_images]
            for label in range(len(train.animals))
        ]
        chosen = np.sort(np.concatenate(rows))
        self._images, self._labels = images[chosen], train.labels[chosen]
        index = {animal: label for label, animal in enumerate(train.animals)}
        self._truth = np.array([index[name] for name in validation.names()], np.int32)
        self._queries = load_images(validation, options.input_size, options.letterbox_colour)
        self._backbone = find_backbone(options.backbone)

    def __call__(self, model: keras.Model) -> float | None:
        if not len(self._truth):
            return None
        references = embed_float(model, self._backbone, self._images)
        queries = embed_float(model, self._backbone, self._queries)
        return nearest_mean_macro_f1(references, self._labels, queries, self._truth)


def _prefetched(
    images: NDArray[np.uint8],
    labels: NDArray[np.int32],
    batches: BalancedBatches,
    options: EmbedderOptions,
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int32]]]:
    """Yield augmented batches; the next one is made while the network learns from this one."""
    augment = Augmenter(
        options.input_size, options.seed, options.letterbox_colour, options.augmentation
    )

    def make() -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        rows = next(batches)
        return augment(images[rows]), labels[rows]

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(make)
        while True:
            ready = waiting.result()
            waiting = pool.submit(make)
            yield ready


def _note(row: HistoryRow) -> str:
    if not math.isfinite(row.loss):
        return f"loss {row.loss}"
    score = "" if row.macro_f1 is None else f", validation macro F1 {row.macro_f1:.3f}"
    return f"loss {row.loss:.2f}{score}"

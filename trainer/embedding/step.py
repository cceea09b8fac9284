"""One learning step: the network, its running average, the losses, on one or many replicas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from trainer.embedding.backbones import find_backbone, freeze_through
from trainer.embedding.feed import Batch
from trainer.embedding.losses import TRIPLET_LOSSES, cosine_softmax, softmax
from trainer.embedding.model import EMBEDDING, build_embedder, set_batchnorm
from trainer.embedding.options import TAP, EmbedderOptions
from trainer.strategy import dtype_policy, resolve_precision

_EMA_DECAY = 0.99
_WARM_UP = 50
FIGURES = 4


class TrainingStep:
    """The network that learns, the running average that is kept, and everything else with state.

    averaged: float32 network whose weights follow those of the trained one (Polyak averaging).
    animals: how many labels there are, mirrored ones included. With several replicas each has
    batches of its own, gradients are averaged, and triplets are looked for within a replica.
    """

    def __init__(
        self, animals: int, options: EmbedderOptions, strategy: tf.distribute.Strategy
    ) -> None:
        self._options, self._strategy = options, strategy
        self._backbone = find_backbone(options.backbone)
        with strategy.scope():
            with dtype_policy(resolve_precision(options.precision)):
                self.model = self._build()
            with dtype_policy("float32"):
                self.averaged = self._build()
            self.averaged.set_weights(self.model.get_weights())
            set_batchnorm(
                self.model,
                frozen=options.batchnorm_frozen,
                synchronised=strategy.num_replicas_in_sync > 1,
            )
            if options.freeze_through is not None:
                last = options.layer if options.freeze_through == TAP else options.freeze_through
                freeze_through(self.model, last)
            # The vector before it is made unit long: what a plain classifier looks at.
            features = self.model.get_layer(EMBEDDING).input
            self._both = keras.Model(self.model.input, [self.model.output, features])
            self.classes, self.bias = self._class_variables(animals)
            self._optimizer = self._make_optimizer()
            self._variables = [weight.value for weight in self.model.trainable_variables]
            if "cosine_softmax" in options.losses or "softmax" in options.losses:
                self._variables.append(self.classes)
            if "softmax" in options.losses:
                self._variables.append(self.bias)
            self._optimizer.build(self._variables)
        size, count = options.input_size, options.batch_size(animals)
        self._compiled = tf.function(
            self._everywhere,
            # Replicas' values have no signature.
            input_signature=[
                tf.TensorSpec((count, size, size, 3), tf.uint8),
                tf.TensorSpec((count,), tf.int32),
                tf.TensorSpec((), tf.float32),
            ]
            if strategy.num_replicas_in_sync == 1
            else None,
        )

    def __call__(self, number: int, batches: Sequence[Batch]) -> NDArray[np.float64]:
        """Learn from one batch for each local replica; `number` counts the steps before.

        Returns loss, share of active triplets, mean d(a,p), mean d(a,n).
        """
        decay = tf.constant(min(_EMA_DECAY, (2 + number) / (11 + number)), tf.float32)
        images, labels = self._spread(batches)
        return np.asarray(self._compiled(images, labels, decay), np.float64)

    def start_from(
        self, weights: Sequence[NDArray[Any]], classes: NDArray[Any], bias: NDArray[Any]
    ) -> None:
        """Go on from another training's network and classes, with a fresh optimizer."""
        self.model.set_weights(weights)
        self.averaged.set_weights(weights)
        self.classes.assign(classes)
        self.bias.assign(bias)

    def kept(self) -> list[NDArray[Any]]:
        """Return the running average, the class vectors and their bias."""
        return [*self.averaged.get_weights(), self.classes.numpy(), self.bias.numpy()]

    def keep(self, arrays: list[NDArray[Any]]) -> None:
        """Put what `kept` returned back."""
        *weights, classes, bias = arrays
        self.averaged.set_weights(weights)
        self.classes.assign(classes)
        self.bias.assign(bias)

    def state(self) -> list[NDArray[Any]]:
        """Return all that the next steps depend on, as arrays in a fixed order."""
        return [np.asarray(variable.numpy()) for variable in self._state_variables()]

    def restore(self, arrays: Sequence[NDArray[Any]]) -> None:
        """Go back to a state; ValueError when it is another network's."""
        variables = self._state_variables()
        if len(variables) != len(arrays):
            raise ValueError(f"the state has {len(arrays)} arrays, expected {len(variables)}")
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)

    def _build(self) -> keras.Model:
        options = self._options
        return build_embedder(
            self._backbone,
            tap=options.layer,
            input_size=options.input_size,
            dimension=options.dimension,
            alpha=options.alpha,
            weights=options.weights,
            head=options.head,
        )

    def _class_variables(self, animals: int) -> tuple[tf.Variable, tf.Variable]:
        options = self._options
        start = tf.random.stateless_normal((animals, options.dimension), (options.seed, 1))
        classes = tf.Variable(tf.math.l2_normalize(start, axis=1), name="classes")
        return classes, tf.Variable(tf.zeros(animals), name="bias")

    def _make_optimizer(self) -> Any:
        options = self._options
        warm_up = max(1, min(_WARM_UP, options.steps // 8))
        schedule = keras.optimizers.schedules.CosineDecay(
            options.learning_rate / 50,
            max(1, options.steps - warm_up),
            alpha=0.01,
            warmup_target=options.learning_rate,
            warmup_steps=warm_up,
        )
        if options.weight_decay:
            optimizer = keras.optimizers.AdamW(schedule, weight_decay=options.weight_decay)
        else:
            optimizer = keras.optimizers.Adam(schedule)
        if resolve_precision(options.precision) == "mixed_float16":
            return keras.optimizers.LossScaleOptimizer(optimizer)
        return optimizer

    def _spread(self, batches: Sequence[Batch]) -> tuple[Any, Any]:
        if self._strategy.num_replicas_in_sync == 1:
            return batches[0].images, batches[0].labels
        local = len(batches)

        def pick(field: int) -> Any:
            return self._strategy.experimental_distribute_values_from_function(
                lambda context: tf.constant(
                    batches[context.replica_id_in_sync_group % local][field]
                )
            )

        return pick(0), pick(1)

    def _everywhere(self, images: Any, labels: Any, decay: Any) -> Any:
        strategy = self._strategy
        figures = strategy.run(self._learn, args=(images, labels))
        for mean, now in zip(self.averaged.weights, self.model.weights, strict=True):
            if not tf.as_dtype(mean.dtype).is_floating:
                continue  # a normalisation layer's count of what it was adapted to
            mean.value.assign_sub((1 - decay) * (mean.value - now.value))
        return strategy.reduce(tf.distribute.ReduceOp.MEAN, figures, axis=None)

    def _learn(self, images: Any, labels: Any) -> Any:
        backbone = self._backbone
        real = tf.cast(images, tf.float32) * backbone.pixel_scale + backbone.pixel_offset
        with tf.GradientTape() as tape:
            embeddings, features = self._both(real, training=True)
            loss, triplets = self._losses(
                tf.cast(embeddings, tf.float32), tf.cast(features, tf.float32), labels
            )
            # The optimizer adds up the replicas' gradients.
            target = loss / self._strategy.num_replicas_in_sync
            if isinstance(self._optimizer, keras.optimizers.LossScaleOptimizer):
                target = self._optimizer.scale_loss(target)
        gradients = tape.gradient(target, self._variables)
        replicas = self._strategy.num_replicas_in_sync
        if replicas > 1 and isinstance(self._optimizer, keras.optimizers.LossScaleOptimizer):
            # It looks for overflows before replicas are added up, and must find the same in all:
            # each gets the mean, which adds up to what it would have been.
            context = tf.distribute.get_replica_context()
            added_up = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
            gradients = [gradient / replicas for gradient in added_up]
        self._optimizer.apply(gradients, self._variables)
        return tf.stack([loss, triplets.active, triplets.positive, triplets.negative])

    def _losses(self, embeddings: Any, features: Any, labels: Any) -> tuple[Any, Any]:
        options = self._options
        total, triplets = tf.constant(0.0), None
        for name, weight in options.losses.items():
            if name == "cosine_softmax":
                part = cosine_softmax(
                    embeddings, labels, self.classes, options.scale, options.margin
                )
            elif name == "softmax":
                part = softmax(features, labels, tf.transpose(self.classes), self.bias)
            else:
                found = TRIPLET_LOSSES[name](
                    embeddings, labels, options.triplet_margin, options.triplet_metric
                )
                part, triplets = found.loss, triplets or found
            total += weight * part
        if triplets is None:  # nothing learns from them, but they tell how training goes
            stopped = tf.stop_gradient(embeddings)
            triplets = TRIPLET_LOSSES["batch_hard"](stopped, labels, 0.0, "cosine")
        return total, triplets

    def _state_variables(self) -> list[Any]:
        # `variables` are the weights and the state of dropout's generator.
        keras_variables = [
            *self.model.variables,
            *self.averaged.weights,
            *self._optimizer.variables,
        ]
        return [*(variable.value for variable in keras_variables), self.classes, self.bias]

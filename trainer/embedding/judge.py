"""Validation: naming held-out crops by the nearest mean, with the float network."""

from __future__ import annotations

import keras
import numpy as np
from numpy.typing import NDArray

from edge.release.manifest import Turns
from edge.vision.embedder import quarter_turns
from edge.vision.types import Floats
from trainer.data.crops import CropSet, load_images
from trainer.embedding.backbones import Backbone, find_backbone
from trainer.embedding.options import EmbedderOptions
from trainer.evaluate.measures import macro_f1_score

_BATCH = 64


def embed_float(
    model: keras.Model, backbone: Backbone, images: NDArray[np.uint8], turns: Turns = 1
) -> Floats:
    """Return unit embeddings (N, D) float32 of crops (N, S, S, 3) uint8 by the Keras model.

    turns: at how many angles each is embedded and averaged, as `Embedder.embed` does.
    """
    if turns > 1:
        turned = [
            embed_float(model, backbone, np.rot90(images, quarter, (1, 2)))
            for quarter in quarter_turns(turns)
        ]
        mean = np.mean(turned, axis=0)
        return np.asarray(
            mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12), np.float32
        )
    parts = [np.zeros((0, model.output_shape[-1]), np.float32)]
    for start in range(0, len(images), _BATCH):
        pixels = images[start : start + _BATCH].astype(np.float32)
        real = pixels * backbone.pixel_scale + backbone.pixel_offset
        # Called, not `predict`ed: under a strategy that would spread one batch over all workers.
        parts.append(np.asarray(model(real, training=False), np.float32))
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
    return macro_f1_score(truth, named)


class Judge:
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
        """Return macro F1 on the validation crops, None when there are none."""
        if not len(self._truth):
            return None
        references = embed_float(model, self._backbone, self._images)
        queries = embed_float(model, self._backbone, self._queries)
        return nearest_mean_macro_f1(references, self._labels, queries, self._truth)

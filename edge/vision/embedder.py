"""Crops in, unit vectors out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.errors import BundleError
from edge.release.manifest import EmbedderSpec, Turns
from edge.vision.geometry import Colour
from edge.vision.pixels import quantise
from edge.vision.runtime import Model, quantisation_table
from edge.vision.types import Floats

_TINY = 1e-12


class Embedder:
    """Maps crops to embeddings; animals that look alike lie near each other (cosine)."""

    def __init__(self, model: Model, spec: EmbedderSpec) -> None:
        shape = tuple(spec.input_shape)
        if model.input.shape != shape:
            raise BundleError(
                f"{model.path}: input is {model.input.shape}, the manifest says {shape}"
            )
        if len(model.outputs) != 1 or model.outputs[0].shape != (1, spec.dimension):
            raise BundleError(
                f"{model.path}: expected one output of (1, {spec.dimension}), found "
                f"{[output.shape for output in model.outputs]}"
            )
        self._model = model
        self._spec = spec
        self._output = model.outputs[0].name
        self._table = quantisation_table(
            model.input.scale,
            model.input.zero_point,
            model.input.dtype,
            spec.pixel_scale,
            spec.pixel_offset,
        )

    @property
    def size(self) -> int:
        """Side of the square crop in pixels."""
        return self._spec.input_shape[1]

    @property
    def letterbox_colour(self) -> Colour:
        """RGB around a crop that is not square, as in training; see `cut_crop`."""
        return self._spec.letterbox_colour

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return self._spec.dimension

    @property
    def gallery_turns(self) -> Turns:
        """At how many angles crops are embedded that class means are made of."""
        return self._spec.gallery_turns

    def embed(self, crops: NDArray[np.uint8], turns: Turns | None = None) -> Floats:
        """Return unit embeddings (N, D) float32 of crops (N, S, S, 3) uint8 RGB.

        turns: at how many angles each is embedded and averaged (see `EmbedderSpec`), None for what
        the bundle asks for. How they go through the model is for whoever opened it to choose.
        """
        quarters = quarter_turns(turns or self._spec.turns)
        shape = (len(crops), len(quarters), *self._model.input.shape[1:])
        tensors = np.empty(shape, self._model.input.dtype)
        for row, crop in enumerate(crops):
            tensor = quantise(crop, self._table)
            for place, quarter in enumerate(quarters):
                tensors[row, place] = np.rot90(tensor, quarter)
        answers = self._model.invoke_many(tensors.reshape(-1, *shape[2:]))[self._output]
        answers = answers.reshape(len(crops), len(quarters), self.dimension)
        # Each angle weighs the same: int8 rounding leaves lengths a little off 1.
        lengths = np.linalg.norm(answers, axis=2, keepdims=True)
        embeddings: Floats = (answers / np.maximum(lengths, _TINY)).sum(axis=1)
        norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
        np.divide(embeddings, norms, out=embeddings, where=norms > 0)
        return embeddings


def quarter_turns(turns: Turns) -> tuple[int, ...]:
    """Return the quarter turns, 0..3, at which a crop is embedded: evenly spread."""
    return tuple(range(0, 4, 4 // turns))

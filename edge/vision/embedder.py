"""Crops in, unit vectors out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.errors import BundleError
from edge.release.manifest import EmbedderSpec
from edge.vision.geometry import Colour
from edge.vision.runtime import Model, quantisation_table
from edge.vision.types import Floats


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

    def embed(self, crops: NDArray[np.uint8]) -> Floats:
        """Return unit embeddings (N, D) float32 of crops (N, S, S, 3) uint8 RGB.

        One invoke a crop: a batch brought nothing on the CPUs measured.
        """
        embeddings = np.empty((len(crops), self.dimension), np.float32)
        for row, crop in enumerate(crops):
            embeddings[row] = self._model.invoke(self._table[crop][None])[self._output][0]
        norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
        np.divide(embeddings, norms, out=embeddings, where=norms > 0)
        return embeddings

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.errors import BundleError
from edge.release.manifest import EmbedderSpec
from edge.vision.embedder import Embedder
from edge.vision.runtime import TensorSpec, one_by_one


class FakeModel:
    """Gives the mean of each colour channel as the embedding."""

    path = Path("embedder.tflite")
    backend = "fake"

    def __init__(self, shape: tuple[int, ...] = (1, 8, 8, 3), outputs: int = 1, dim: int = 3):
        self.input = TensorSpec("crop", 0, shape, np.dtype(np.int8), 1.0, -128)
        self.outputs = tuple(
            TensorSpec(f"out:{n}", n, (1, dim), np.dtype(np.float32), 0.0, 0)
            for n in range(outputs)
        )

    def invoke(self, tensor: np.ndarray) -> dict[str, np.ndarray]:
        assert tensor.dtype == np.int8
        assert tensor.shape == self.input.shape
        return {"out:0": tensor.astype(np.float32).mean(axis=(1, 2)) + 128}

    def invoke_many(self, tensors: np.ndarray) -> dict[str, np.ndarray]:
        return one_by_one(self, tensors)


def embedder(model: Any = None, **changes: Any) -> Embedder:
    fields: dict[str, Any] = {
        "sha256": "0" * 64,
        "input_shape": (1, 8, 8, 3),
        "dtype": "int8",
        "pixel_scale": 1.0,
        "pixel_offset": 0.0,
        "letterbox_colour": (1, 2, 3),
        "dimension": 3,
        "backbone": "b",
        "tap": "t",
    }
    return Embedder(model or FakeModel(), EmbedderSpec(**{**fields, **changes}))


def test_embeddings_are_unit_vectors_row_by_row() -> None:
    crops = np.zeros((2, 8, 8, 3), np.uint8)
    crops[0] = (30, 40, 0)
    crops[1] = (0, 0, 255)
    embeddings = embedder().embed(crops)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, [[0.6, 0.8, 0], [0, 0, 1]], atol=1e-6)


def test_no_crops_give_no_embeddings_and_zeros_stay_zeros() -> None:
    assert embedder().embed(np.zeros((0, 8, 8, 3), np.uint8)).shape == (0, 3)
    assert embedder().embed(np.zeros((1, 8, 8, 3), np.uint8)).tolist() == [[0, 0, 0]]


def test_what_a_caller_must_know_of_the_crops() -> None:
    eye = embedder()
    assert (eye.size, eye.dimension, eye.letterbox_colour) == (8, 3, (1, 2, 3))


def test_a_manifest_that_does_not_fit_the_model_is_refused() -> None:
    with pytest.raises(BundleError, match=r"input is \(1, 9, 9, 3\)"):
        embedder(FakeModel(shape=(1, 9, 9, 3)))
    with pytest.raises(BundleError, match=r"expected one output of \(1, 64\)"):
        embedder(dimension=64)
    with pytest.raises(BundleError, match="expected one output"):
        embedder(FakeModel(outputs=2))


class CornerModel(FakeModel):
    """Sees which corner of a crop is bright: each quarter turn has another."""

    def invoke(self, tensor: np.ndarray) -> dict[str, np.ndarray]:
        real = tensor[0, :, :, 0].astype(np.float32) + 128
        corners = [real[0, 0], real[0, -1], real[-1, -1], real[-1, 0]]
        return {"out:0": np.array([corners], np.float32)}


def test_turns_average_unit_vectors_of_several_angles() -> None:
    crop = np.zeros((1, 8, 8, 3), np.uint8)
    crop[0, 0, 0] = 200
    eye = embedder(CornerModel(dim=4), dimension=4)
    assert eye.embed(crop)[0].tolist() == [1, 0, 0, 0]
    np.testing.assert_allclose(eye.embed(crop, 2)[0], [0.5**0.5, 0, 0.5**0.5, 0], atol=1e-6)
    np.testing.assert_allclose(eye.embed(crop, 4)[0], [0.5] * 4, atol=1e-6)
    asked_by_bundle = embedder(CornerModel(dim=4), dimension=4, turns=4)
    np.testing.assert_allclose(asked_by_bundle.embed(crop)[0], [0.5] * 4, atol=1e-6)
    assert asked_by_bundle.embed(crop, 1)[0].tolist() == [1, 0, 0, 0]

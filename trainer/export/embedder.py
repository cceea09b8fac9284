"""The embedder as a full-integer TFLite file, and how near it stays to the float one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from edge.errors import EarmarkError
from edge.files import sha256_file, write_atomically
from edge.release.manifest import EmbedderSpec
from edge.vision.embedder import Embedder
from edge.vision.runtime import open_model
from edge.vision.types import Floats
from trainer.embedding.train import TrainedEmbedder
from trainer.export.quantise import convert_int8, operator_names


def export_embedder(
    trained: TrainedEmbedder, calibration: NDArray[np.uint8], out: Path, *, quantise: bool = True
) -> EmbedderSpec:
    """Write the int8 model (uint8 in, int8 out) to `out` and return how it is to be fed.

    calibration: real crops uint8 (N, S, S, 3), letterboxed; a few hundred of every animal and
    light. quantise: False gives the float32 twin, for comparison. Raises EarmarkError when the
    result is not one integer graph that ends in unit vectors.
    """
    backbone, options = trained.backbone, trained.options

    def representative() -> Iterator[Floats]:
        for image in calibration:
            real = image[None].astype(np.float32) * backbone.pixel_scale + backbone.pixel_offset
            yield real.astype(np.float32)

    data = convert_int8(
        trained.model,
        representative(),
        input_type=tf.uint8,
        output_type=tf.int8,
        quantise=quantise,
    )
    if quantise:
        check_integer_embedder(data)
    write_atomically(out, data)
    model = open_model(out)
    size = options.input_size
    return EmbedderSpec(
        sha256=sha256_file(out),
        input_shape=(1, size, size, 3),
        dtype=model.input.dtype.name,
        pixel_scale=backbone.pixel_scale,
        pixel_offset=backbone.pixel_offset,
        letterbox_colour=options.letterbox_colour,
        dimension=options.dimension,
        backbone=backbone.name if not backbone.widths else f"{backbone.name}_{options.alpha:g}",
        tap=options.layer,
        turns=options.turns,
        gallery_turns=options.gallery_turns,
    )


def check_integer_embedder(data: bytes) -> None:
    """Raise EarmarkError unless a TFLite model has no float tensor and one L2_NORMALIZATION."""
    count = operator_names(data).count("L2_NORMALIZATION")
    if count != 1:
        raise EarmarkError(
            f"the converted embedder has {count} L2_NORMALIZATION operators instead of one; "
            "end the network in UnitLength"
        )
    interpreter = Interpreter(model_content=data)
    floats = [
        str(detail["name"])
        for detail in interpreter.get_tensor_details()
        if np.issubdtype(detail["dtype"], np.floating)
    ]
    if floats:
        raise EarmarkError(
            f"the converted embedder still computes in float (tensor {floats[0]}); "
            "use layers that TFLite has in int8"
        )


def embedding_parity(
    trained: TrainedEmbedder, embedder: Embedder, images: NDArray[np.uint8]
) -> dict[str, float]:
    """Return mean and 5th percentile of the cosine between float and int8 embeddings.

    images: crops uint8 (N, S, S, 3), N > 0, best ones the calibration has not seen.
    """
    cosines = np.sum(trained.embed(images) * embedder.embed(images), axis=1)
    return {
        "cosine_mean": float(np.mean(cosines)),
        "cosine_p05": float(np.quantile(cosines, 0.05)),
    }

"""Poor embedders to compare with: if one of these does well, the herd is too easy to prove much."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import keras
import numpy as np
from numpy.typing import NDArray

from edge.vision.types import Floats
from trainer.embedding.backbones import find_backbone
from trainer.embedding.judge import embed_float
from trainer.embedding.model import build_embedder
from trainer.embedding.options import EmbedderOptions

_BINS = (8, 4, 4)


def untrained_embedder(options: EmbedderOptions) -> Callable[[NDArray[np.uint8]], Floats]:
    """Return the network as it is before any training: pretrained backbone if given, raw head."""
    keras.utils.set_random_seed(options.seed)
    backbone = find_backbone(options.backbone)
    model = build_embedder(
        backbone,
        tap=options.layer,
        input_size=options.input_size,
        dimension=options.dimension,
        alpha=options.alpha,
        weights=options.weights,
        head=options.head,
    )
    return lambda images: embed_float(model, backbone, images)


def colour_features(images: NDArray[np.uint8]) -> Floats:
    """Return unit HSV histograms (N, 128) of crops (N, S, S, 3): what colour alone can tell."""
    rows = []
    for image in images:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        histogram = cv2.calcHist([hsv], [0, 1, 2], None, list(_BINS), [0, 180, 0, 256, 0, 256])
        rows.append(np.sqrt(histogram.ravel()))
    features = np.stack(rows)
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return (features / np.maximum(norms, 1e-12)).astype(np.float32)

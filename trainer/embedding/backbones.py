"""Backbones cut at a tap; each knows the pixel values it was trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from edge.errors import UsageError

IMAGENET = "imagenet"
# Of red, green and blue, as Caffe's models take them off.
_IMAGENET_MEANS = (-123.68, -116.779, -103.939)
_IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
Weights = str | Path | None


@dataclass(frozen=True, slots=True)
class Backbone:
    """A feature extractor. real value of a pixel = pixel * pixel_scale + pixel_offset.

    tap: the layer whose output is used when nothing else is asked for. widths: whether the
    network comes in several widths (alpha). after_weights: what is left to do to a network that
    got pretrained weights, and whether they came from a local file.
    """

    name: str
    build: Callable[..., Any]
    tap: str
    pixel_scale: float
    pixel_offset: float
    widths: bool = False
    after_weights: Callable[[keras.Model, bool], None] = lambda network, local: None


def _rescale_efficientnet(network: keras.Model, local: bool) -> None:
    """Divide by the deviation's root once more, as Keras does only for weights="imagenet".

    See keras/src/applications/efficientnet.py: the ImageNet weights were trained with
    (x - mean) / variance, where the Normalization layer divides by the variance's root.
    """
    if not local:
        return
    # By kind: the second network of a process has other names.
    layer = next(x for x in network.layers if isinstance(x, keras.layers.Normalization))
    mean, variance, *count = layer.get_weights()
    layer.set_weights([mean, variance * np.array(_IMAGENET_DEVIATION, variance.dtype), *count])
    layer.finalize_state()


def _resnet50(**arguments: Any) -> keras.Model:
    """Return Keras' ResNet50 for RGB pixels 0..255: it takes the means off by itself."""
    pixels = keras.Input(arguments.pop("input_shape"))
    centred = keras.layers.Rescaling(1.0, offset=_IMAGENET_MEANS, name="centred")(pixels)
    return keras.applications.ResNet50(input_tensor=centred, **arguments)


def _turn_resnet50(network: keras.Model, local: bool) -> None:
    """Turn the first kernel's channels: the weights were trained on BGR, we feed RGB."""
    layer = network.get_layer("conv1_conv")
    kernel, *rest = layer.get_weights()
    layer.set_weights([kernel[:, :, ::-1], *rest])


# The taps are those of "Animal recognition with Siamese Networks and Mean Embeddings" (2021).
# EfficientNet scales inside the network and wants 0..255; the article fed it -1..1.
BACKBONES = {
    backbone.name: backbone
    for backbone in (
        Backbone(
            "mobilenet_v2",
            keras.applications.MobileNetV2,
            "block_10_project_BN",
            1 / 127.5,
            -1.0,
            widths=True,
        ),
        Backbone(
            "resnet101_v2",
            keras.applications.ResNet101V2,
            "conv4_block23_out",
            1 / 127.5,
            -1.0,
        ),
        Backbone(
            "efficientnet_b5",
            keras.applications.EfficientNetB5,
            "block3c_add",
            1.0,
            0.0,
            after_weights=_rescale_efficientnet,
        ),
        Backbone("resnet50", _resnet50, "conv4_block6_out", 1.0, 0.0, after_weights=_turn_resnet50),
    )
}


def find_backbone(name: str) -> Backbone:
    """Return a registered backbone; UsageError lists the names there are."""
    if name not in BACKBONES:
        raise UsageError(f"no backbone {name!r}; choose one of {', '.join(sorted(BACKBONES))}")
    return BACKBONES[name]


def build_features(
    backbone: Backbone, tap: str, input_size: int, alpha: float, weights: Weights
) -> keras.Model:
    """Return the network from (B, S, S, 3) float32 real pixel values to the tap's feature map.

    weights: None for random ones, "imagenet" to download, or a local Keras file of the whole
    network without its top. Raises UsageError when weights or tap cannot be had.
    """
    arguments: dict[str, Any] = {"input_shape": (input_size, input_size, 3), "include_top": False}
    if backbone.widths:
        arguments["alpha"] = alpha
    elif alpha != 1.0:
        raise UsageError(f"backbone {backbone.name} has one width only; leave alpha at 1.0")
    if isinstance(weights, Path) and not weights.is_file():
        raise UsageError(f"{weights}: no such weights file")
    if isinstance(weights, str) and weights != IMAGENET:
        raise UsageError(f"weights {weights!r}: give 'imagenet' or the path of a weights file")
    try:
        network = backbone.build(weights=_argument(weights), **arguments)
    except Exception as error:
        if weights is None:
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        advice = (
            "; without a network, give a local file or train from scratch"
            if weights == IMAGENET
            else f"; is it {backbone.name} of width {alpha:g}, without its top?"
        )
        raise UsageError(f"weights {weights}: cannot be used: {reason}{advice}") from error
    if weights is not None:
        backbone.after_weights(network, isinstance(weights, Path))
    try:
        output = network.get_layer(tap).output
    except ValueError as error:
        raise UsageError(
            f"backbone {backbone.name} has no layer {tap!r} to tap; its usual one is {backbone.tap}"
        ) from error
    return keras.Model(network.input, output, name=backbone.name)


def freeze_through(model: keras.Model, last: str) -> None:
    """Keep the layers from the input up to and including `last` as they are.

    Raises UsageError when the network has no such layer.
    """
    if last not in {layer.name for layer in model.layers}:
        raise UsageError(f"freeze_through names no layer of the backbone: {last!r}")
    for layer in keras.Model(model.inputs, model.get_layer(last).output).layers:
        layer.trainable = False


def describe_weights(weights: Weights) -> str:
    """Say in a few words where training started from, for logs and reports."""
    if weights is None:
        return "from scratch (no pretrained weights: expect worse results)"
    return "ImageNet" if weights == IMAGENET else f"file {Path(weights).name}"


def _argument(weights: Weights) -> str | None:
    return str(weights) if isinstance(weights, Path) else weights

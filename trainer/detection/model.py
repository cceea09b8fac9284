"""The detector network: SSDLite on MobileNetV2, from stride 8 on, with a pyramid if wanted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras

from edge.errors import UsageError
from trainer.detection.anchors import AnchorShapes
from trainer.embedding.backbones import Weights, build_features, find_backbone

BACKBONE = "mobilenet_v2"
# Expanded features, as SSDLite takes them (Sandler et al. 2018); stride 64 is a layer of our own.
_TAPS = {8: "block_6_expand_relu", 16: "block_13_expand_relu", 32: "out_relu"}
_PRIOR = 0.01
_EXTRA_CHANNELS = (256, 512)


def build_detector(
    shapes: AnchorShapes,
    classes: int,
    *,
    input_size: tuple[int, int],
    alpha: float = 1.0,
    weights: Weights = None,
    pyramid: int = 0,
) -> keras.Model:
    """Return the network from (B, H, W, 3) float32 real pixel values to encodings and logits.

    Its outputs are encodings (B, N, 4) ty tx th tw and class logits (B, N, C) of all anchors, in
    the order of `lay_anchors`. shapes: levels and anchors of the heads. classes: C. input_size:
    (H, W), multiples of 32. pyramid: 0 for plain SSDLite heads; else channels of a feature
    pyramid (Lin et al. 2017, "FPNLite") that carries what stride 32 sees down to finer levels.
    """
    height, width = input_size
    if height % 32 or width % 32 or min(height, width) < 64:
        raise UsageError(
            f"input_size must be multiples of 32 from 64 on, height and width, not {input_size}"
        )
    levels = range(min(shapes.strides), max(shapes.strides) + 1)
    needed = [stride for stride in (8, 16, 32, 64) if stride in levels]
    if pyramid:
        needed = [stride for stride in (8, 16, 32, 64) if stride >= needed[0]]
        needed = [stride for stride in needed if stride <= max(32, shapes.strides[-1])]
    backbone = _rectangular(input_size)
    tap = _TAPS[min(needed[-1], 32)]
    features = build_features(backbone, tap, max(input_size), alpha, weights)
    maps = {
        stride: features.get_layer(_TAPS[stride]).output for stride in needed if stride in _TAPS
    }
    if 64 in needed:
        maps[64] = _downsampled(maps[32])
    if pyramid:
        maps = _pyramid(maps, pyramid)
    encodings, logits = [], []
    for stride, level in zip(shapes.strides, shapes.shapes, strict=True):
        outputs = maps[stride]
        encodings.append(_head(outputs, f"boxes_{stride}", len(level), 4, 0.0))
        bias = -math.log((1 - _PRIOR) / _PRIOR)
        logits.append(_head(outputs, f"classes_{stride}", len(level), classes, bias))
    return keras.Model(
        features.input, [_joined(encodings, "boxes"), _joined(logits, "classes")], name="detector"
    )


def feature_cells(strides: Sequence[int], input_size: tuple[int, int]) -> list[tuple[int, int]]:
    """Return rows and columns of each level's feature map: every stride halves, rounding up."""
    return [
        (math.ceil(input_size[0] / stride), math.ceil(input_size[1] / stride)) for stride in strides
    ]


def set_batchnorm(model: keras.Model, *, frozen: bool, momentum: float = 0.9) -> None:
    """Freeze the backbone's BatchNorms, or let them learn; those of the heads always learn.

    The networks come with momentum 0.999, made for runs of a hundred thousand steps.
    """
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = layer.name.startswith("head_") or not frozen
            layer.momentum = momentum


def _rectangular(input_size: tuple[int, int]) -> Any:
    """Return the registry's backbone, built for an input that need not be square."""
    backbone = find_backbone(BACKBONE)

    def build(**arguments: Any) -> keras.Model:
        return backbone.build(**{**arguments, "input_shape": (*input_size, 3)})

    return replace(backbone, build=build)


def _downsampled(inputs: Any) -> Any:
    """Return SSDLite's extra layer: half the rows and columns of its input."""
    narrow, wide = _EXTRA_CHANNELS
    outputs = _convolved(inputs, "head_extra_narrow", narrow)
    outputs = _depthwise(outputs, "head_extra_depthwise", strides=2)
    return _convolved(outputs, "head_extra_wide", wide)


def _pyramid(maps: dict[int, Any], channels: int) -> dict[int, Any]:
    """Return maps of `channels` channels, each with what the coarser ones see added to it."""
    merged: dict[int, Any] = {}
    above = None
    for stride in sorted(maps, reverse=True):
        outputs = _convolved(maps[stride], f"head_lateral_{stride}", channels, activate=False)
        if above is not None:
            grown = keras.layers.UpSampling2D(name=f"head_grown_{stride}")(above)
            rows, columns = outputs.shape[1:3]
            if grown.shape[1:3] != (rows, columns):
                surplus = ((0, grown.shape[1] - rows), (0, grown.shape[2] - columns))
                grown = keras.layers.Cropping2D(surplus, name=f"head_cut_{stride}")(grown)
            outputs = keras.layers.Add(name=f"head_sum_{stride}")([outputs, grown])
        above = outputs
        smooth = _depthwise(outputs, f"head_smooth_depthwise_{stride}")
        merged[stride] = _convolved(smooth, f"head_smooth_{stride}", channels)
    return merged


def _head(inputs: Any, name: str, anchors: int, values: int, bias: float) -> Any:
    """Return what one level says of each of its anchors: (B, rows * columns * anchors, values)."""
    outputs = _depthwise(inputs, f"head_{name}_depthwise")
    outputs = keras.layers.Conv2D(
        anchors * values,
        1,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        bias_initializer=keras.initializers.Constant(bias),
        name=f"head_{name}",
    )(outputs)
    return keras.layers.Reshape((-1, values), name=f"head_{name}_flat")(outputs)


def _joined(parts: list[Any], name: str) -> Any:
    return parts[0] if len(parts) == 1 else keras.layers.Concatenate(axis=1, name=name)(parts)


def _convolved(inputs: Any, name: str, channels: int, *, activate: bool = True) -> Any:
    outputs = keras.layers.Conv2D(channels, 1, use_bias=False, name=name)(inputs)
    outputs = keras.layers.BatchNormalization(name=f"{name}_bn")(outputs)
    return keras.layers.ReLU(6.0, name=f"{name}_relu")(outputs) if activate else outputs


def _depthwise(inputs: Any, name: str, strides: int = 1) -> Any:
    outputs = keras.layers.DepthwiseConv2D(3, strides, padding="same", use_bias=False, name=name)(
        inputs
    )
    outputs = keras.layers.BatchNormalization(name=f"{name}_bn")(outputs)
    return keras.layers.ReLU(6.0, name=f"{name}_relu")(outputs)

"""The detector network: SSD heads on a backbone, with a feature pyramid if wanted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras

from edge.errors import UsageError
from trainer.detection.anchors import STRIDES, AnchorShapes
from trainer.detection.backbones import find_detector_backbone
from trainer.embedding.backbones import Backbone, Weights, build_features

_PRIOR = 0.01
_EXTRA_CHANNELS = {64: (256, 512), 128: (128, 256)}


def build_detector(
    shapes: AnchorShapes,
    classes: int,
    *,
    input_size: tuple[int, int],
    backbone: str = "mobilenet_v2",
    alpha: float = 1.0,
    weights: Weights = None,
    pyramid: int = 0,
    tower: int = 0,
) -> keras.Model:
    """Return the network from (B, H, W, 3) float32 real pixel values to encodings and logits.

    Its outputs are encodings (B, N, 4) ty tx th tw and class logits (B, N, C) of all anchors, in
    the order of `lay_anchors`. shapes: levels and anchors of the heads. classes: C. input_size:
    (H, W), multiples of 32. pyramid: 0 for plain SSD heads; else channels of a feature pyramid (Lin
    et al. 2017) that carries what coarse levels see down to finer ones. tower: so many layers of
    those channels before the heads, shared by all levels but for their BatchNorms (RetinaNet has
    4); they need a pyramid. With a light backbone all of these are depthwise separable: SSDLite
    and FPNLite.
    """
    height, width = input_size
    if height % 32 or width % 32 or min(height, width) < 64:
        raise UsageError(
            f"input_size must be multiples of 32 from 64 on, height and width, not {input_size}"
        )
    if tower and not pyramid:
        raise UsageError("a tower is shared by the levels of a pyramid; give its channels")
    found = find_detector_backbone(backbone)
    needed = [stride for stride in STRIDES if stride >= min(shapes.strides)]
    needed = [s for s in needed if s <= max(32 if pyramid else 0, *shapes.strides)]
    tap = found.taps[min(needed[-1], 32)]
    features = build_features(
        _rectangular(found.features, input_size), tap, max(input_size), alpha, weights
    )
    maps = {
        stride: features.get_layer(found.taps[stride]).output
        for stride in needed
        if stride in found.taps
    }
    convolved = _Light() if found.light else _Full()
    for stride in (64, 128):
        if stride in needed:
            maps[stride] = convolved.halved(maps[stride // 2], stride)
    if pyramid:
        maps = _pyramid(maps, pyramid, convolved)
    encodings, logits = [], []
    bias = -math.log((1 - _PRIOR) / _PRIOR)
    towers = {name: convolved.tower(name, pyramid, tower) for name in ("boxes", "classes")}
    for stride, level in zip(shapes.strides, shapes.shapes, strict=True):
        count = len(level)
        boxes = towers["boxes"](maps[stride], stride)
        outputs = convolved.head(boxes, f"boxes_{stride}", count * 4, 0.0)
        encodings.append(keras.layers.Reshape((-1, 4), name=f"head_boxes_{stride}_flat")(outputs))
        named = towers["classes"](maps[stride], stride)
        outputs = convolved.head(named, f"classes_{stride}", count * classes, bias)
        name = f"head_classes_{stride}_flat"
        logits.append(keras.layers.Reshape((-1, classes), name=name)(outputs))
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


def _rectangular(backbone: Backbone, input_size: tuple[int, int]) -> Backbone:
    """Return the registry's backbone, built for an input that need not be square."""

    def build(**arguments: Any) -> keras.Model:
        return backbone.build(**{**arguments, "input_shape": (*input_size, 3)})

    return replace(backbone, build=build)


def _pyramid(maps: dict[int, Any], channels: int, layers: _Light | _Full) -> dict[int, Any]:
    """Return maps of `channels` channels, each with what the coarser ones see added to it."""
    merged: dict[int, Any] = {}
    above = None
    for stride in sorted(maps, reverse=True):
        outputs = _pointwise(maps[stride], f"head_lateral_{stride}", channels, activate=False)
        if above is not None:
            # One RESIZE_NEAREST_NEIGHBOR; UpSampling2D becomes five-dimensional reshapes and tiles.
            grown = Grown(outputs.shape[1:3], name=f"head_grown_{stride}")(above)
            outputs = keras.layers.Add(name=f"head_sum_{stride}")([outputs, grown])
        above = outputs
        merged[stride] = layers.smooth(outputs, stride, channels)
    return merged


@keras.saving.register_keras_serializable(package="earmark")
class Grown(keras.layers.Layer):
    """Brings a map (B, h, w, C) to the rows and columns of `size` by its nearest values."""

    def __init__(self, size: Sequence[int], **arguments: Any) -> None:
        super().__init__(**arguments)
        self._size = tuple(size)

    def call(self, inputs: Any) -> Any:
        """Return the map (B, *size, C)."""
        return keras.ops.image.resize(inputs, self._size, interpolation="nearest")

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return (B, *size, C)."""
        return (input_shape[0], *self._size, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """Return what a copy is made of."""
        return {**super().get_config(), "size": self._size}


class _Light:
    """Depthwise separable layers, for backbones made for small devices."""

    def halved(self, inputs: Any, stride: int) -> Any:
        """Return SSDLite's extra layer: half the rows and columns of its input."""
        extra = "extra" if stride == 64 else f"extra_{stride}"
        narrow, wide = _EXTRA_CHANNELS[stride]
        outputs = _pointwise(inputs, f"head_{extra}_narrow", narrow)
        outputs = _depthwise(outputs, f"head_{extra}_depthwise", strides=2)
        return _pointwise(outputs, f"head_{extra}_wide", wide)

    def smooth(self, inputs: Any, stride: int, channels: int) -> Any:
        """Return what a pyramid's level looks like after the coarser ones were added."""
        outputs = _depthwise(inputs, f"head_smooth_depthwise_{stride}")
        return _pointwise(outputs, f"head_smooth_{stride}", channels)

    def tower(self, name: str, channels: int, depth: int) -> _Tower:
        """Return `depth` layers that all levels share."""
        shared = [
            keras.layers.SeparableConv2D(
                channels, 3, padding="same", use_bias=False, name=f"head_tower_{name}_{number}"
            )
            for number in range(depth)
        ]
        return _Tower(f"head_tower_{name}", shared)

    def head(self, inputs: Any, name: str, channels: int, bias: float) -> Any:
        """Return what one level says of each of its anchors: (B, rows, columns, channels)."""
        outputs = _depthwise(inputs, f"head_{name}_depthwise")
        return _last(channels, 1, name, bias)(outputs)


class _Full:
    """Plain convolutions, for a workstation's backbones."""

    def halved(self, inputs: Any, stride: int) -> Any:
        """Return half the rows and columns of a map."""
        return _full(inputs, f"head_extra_{stride}", 256, strides=2)

    def smooth(self, inputs: Any, stride: int, channels: int) -> Any:
        """Return what a pyramid's level looks like after the coarser ones were added."""
        return _full(inputs, f"head_smooth_{stride}", channels)

    def tower(self, name: str, channels: int, depth: int) -> _Tower:
        """Return `depth` layers that all levels share."""
        shared = [
            keras.layers.Conv2D(
                channels, 3, padding="same", use_bias=False, name=f"head_tower_{name}_{number}"
            )
            for number in range(depth)
        ]
        return _Tower(f"head_tower_{name}", shared)

    def head(self, inputs: Any, name: str, channels: int, bias: float) -> Any:
        """Return what one level says of each of its anchors: (B, rows, columns, channels)."""
        return _last(channels, 3, name, bias)(inputs)


class _Tower:
    """Layers that every level goes through, with BatchNorms of its own: levels differ in scale."""

    def __init__(self, name: str, shared: list[keras.layers.Layer]) -> None:
        self._name, self._shared = name, shared

    def __call__(self, inputs: Any, stride: int) -> Any:
        outputs = inputs
        for number, layer in enumerate(self._shared):
            outputs = _normalised(layer(outputs), f"{self._name}_{number}_{stride}")
        return outputs


def _last(channels: int, size: int, name: str, bias: float) -> keras.layers.Layer:
    return keras.layers.Conv2D(
        channels,
        size,
        padding="same",
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        bias_initializer=keras.initializers.Constant(bias),
        name=f"head_{name}",
    )


def _joined(parts: list[Any], name: str) -> Any:
    return parts[0] if len(parts) == 1 else keras.layers.Concatenate(axis=1, name=name)(parts)


def _pointwise(inputs: Any, name: str, channels: int, *, activate: bool = True) -> Any:
    outputs = keras.layers.Conv2D(channels, 1, use_bias=False, name=name)(inputs)
    return _normalised(outputs, name, activate=activate)


def _depthwise(inputs: Any, name: str, strides: int = 1) -> Any:
    outputs = keras.layers.DepthwiseConv2D(3, strides, padding="same", use_bias=False, name=name)(
        inputs
    )
    return _normalised(outputs, name)


def _full(inputs: Any, name: str, channels: int, strides: int = 1) -> Any:
    outputs = keras.layers.Conv2D(channels, 3, strides, padding="same", use_bias=False, name=name)(
        inputs
    )
    return _normalised(outputs, name)


def _normalised(inputs: Any, name: str, *, activate: bool = True) -> Any:
    outputs = keras.layers.BatchNormalization(name=f"{name}_bn")(inputs)
    return keras.layers.ReLU(6.0, name=f"{name}_relu")(outputs) if activate else outputs

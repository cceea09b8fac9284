"""The detector as a TFLite file that ends in `TFLite_Detection_PostProcess`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edge.errors import EarmarkError
from edge.files import write_atomically
from edge.release.manifest import DetectorSpec
from edge.vision.runtime import Model, open_model
from edge.vision.types import Floats
from trainer.detection.assign import CODER_SCALES
from trainer.detection.train import TrainedDetector
from trainer.export.quantise import convert_int8, operator_names

POST_PROCESS = "TFLite_Detection_PostProcess"
# What is weaker the operator drops itself; low, for evaluation and tracking see weak boxes too.
_WEAKEST_SCORE = 0.01


def export_detector(
    trained: TrainedDetector,
    calibration: NDArray[np.uint8],
    out: Path,
    *,
    quantise: bool = True,
) -> DetectorSpec:
    """Write the model to `out` and return how it is to be fed and read.

    calibration: real frames uint8 (N, H, W, 3), letterboxed; a hundred of every camera and light.
    quantise: int8 with uint8 input; False gives the float32 twin, for comparison. Raises
    EarmarkError when the result does not end in one post-process with the four known outputs.
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
        output_type=tf.float32,
        finish=_post_process(trained),
        quantise=quantise,
    )
    count = sum(name in (POST_PROCESS, "CUSTOM") for name in operator_names(data))
    if count != 1:
        raise EarmarkError(f"the converted detector has {count} {POST_PROCESS} operators, not one")
    write_atomically(out, data)
    model = open_model(out)
    height, width = options.input_size
    return DetectorSpec(
        input_shape=(1, height, width, 3),
        dtype=model.input.dtype.name,
        scale=model.input.scale,
        zero_point=model.input.zero_point,
        pixel_scale=backbone.pixel_scale,
        pixel_offset=backbone.pixel_offset,
        letterbox_colour=options.letterbox_colour,
        outputs=output_roles(model, options.top_k),
        class_names=list(trained.class_names),
        score_threshold=trained.score_threshold,
        top_k=options.top_k,
        nms_iou=options.nms_iou,
    )


def output_roles(model: Model, top_k: int) -> dict[str, str]:
    """Return the tensor name of each role: boxes, scores, classes, count.

    boxes and count tell themselves by shape. scores and classes share one: their tensors are
    numbered in the operator's own order boxes, classes, scores, count, whatever the position they
    are listed at; a blank frame proves the guess, since classes are whole numbers.
    """
    by_shape: dict[tuple[int, ...], list[str]] = {}
    for output in sorted(model.outputs, key=lambda output: output.name):
        by_shape.setdefault(output.shape, []).append(output.name)
    boxes, pair = by_shape.get((1, top_k, 4), []), by_shape.get((1, top_k), [])
    counts = by_shape.get((1,), [])
    if (len(boxes), len(pair), len(counts)) != (1, 2, 1):
        shapes = [output.shape for output in model.outputs]
        raise EarmarkError(
            f"the converted detector has outputs {shapes}, not those of {POST_PROCESS}"
        )
    classes, scores = _told_apart(model, pair, counts[0])
    return {"boxes": boxes[0], "scores": scores, "classes": classes, "count": counts[0]}


def _told_apart(model: Model, pair: list[str], count_name: str) -> tuple[str, str]:
    """Return which of two outputs holds classes and which scores, by what they say of noise."""
    rng = np.random.default_rng(0)
    limits = (0, 256) if model.input.dtype == np.uint8 else (-1, 1)
    for _ in range(8):
        noise = rng.uniform(*limits, model.input.shape).astype(model.input.dtype)
        outputs = model.invoke(noise)
        count = int(outputs[count_name].reshape(-1)[0])
        whole = [
            bool((np.round(rows := outputs[name].reshape(-1)[:count]) == rows).all())
            for name in pair
        ]
        falling = [
            bool((np.diff(rows := outputs[name].reshape(-1)[:count]) <= 0).all()) and rows.max() > 0
            for name in pair
            if count
        ]
        if count > 1 and whole[0] != whole[1]:
            classes = pair[whole.index(True)]
            return classes, next(name for name in pair if name != classes)
        if count > 1 and falling[0] != falling[1]:
            scores = pair[falling.index(True)]
            return next(name for name in pair if name != scores), scores
    raise EarmarkError(
        "the converted detector finds nothing at all, so its outputs cannot be told apart; "
        "train it longer"
    )


def _post_process(trained: TrainedDetector) -> Any:
    """Return what turns encodings and logits into the operator's four outputs."""
    options = trained.options
    height, width = options.input_size
    y_scale, x_scale, h_scale, w_scale = CODER_SCALES
    attributes = (
        f'name: "{POST_PROCESS}"'
        f' attr {{ key: "max_detections" value {{ i: {options.top_k} }} }}'
        ' attr { key: "max_classes_per_detection" value { i: 1 } }'
        ' attr { key: "use_regular_nms" value { b: false } }'
        f' attr {{ key: "nms_score_threshold" value {{ f: {_WEAKEST_SCORE} }} }}'
        f' attr {{ key: "nms_iou_threshold" value {{ f: {options.nms_iou} }} }}'
        f' attr {{ key: "y_scale" value {{ f: {y_scale} }} }}'
        f' attr {{ key: "x_scale" value {{ f: {x_scale} }} }}'
        f' attr {{ key: "h_scale" value {{ f: {h_scale} }} }}'
        f' attr {{ key: "w_scale" value {{ f: {w_scale} }} }}'
        f' attr {{ key: "num_classes" value {{ i: {len(trained.class_names)} }} }}'
    )

    # What it computes is thrown away: the converter puts the operator in its place.
    @tf.function(experimental_implements=attributes)
    def post_process(boxes: Any, scores: Any, anchors: Any) -> Any:
        top = options.top_k
        return (
            tf.zeros((1, top, 4), name="boxes"),
            tf.zeros((1, top), name="classes"),
            tf.zeros((1, top), name="scores"),
            tf.zeros((1,), name="count"),
        )

    fractions = trained.anchors / np.array([height, width, height, width], np.float32)
    anchors = tf.constant(fractions.astype(np.float32), name="anchors")

    def finish(outputs: Any) -> Any:
        encodings, logits = outputs
        return post_process(encodings, tf.sigmoid(logits), anchors)

    return finish

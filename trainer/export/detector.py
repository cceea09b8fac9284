"""The detector as a TFLite file that ends in `TFLite_Detection_PostProcess`."""

from __future__ import annotations

import tempfile
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
from trainer.evaluate.detection import LOW_SCORE
from trainer.export.post_process import POST_PROCESS, find_post_process
from trainer.export.quantise import convert_int8
from trainer.export.tflite_graph import read_graph

# What is weaker the operator drops itself; low, for evaluation and tracking see weak boxes too.
_WEAKEST_SCORE = LOW_SCORE


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
    with tempfile.TemporaryDirectory() as folder:
        candidate = Path(folder) / out.name
        candidate.write_bytes(data)
        model = open_model(candidate)
        outputs = output_roles(data, model, options.top_k)
    write_atomically(out, data)
    height, width = options.input_size
    return DetectorSpec(
        input_shape=(1, height, width, 3),
        dtype=model.input.dtype.name,
        scale=model.input.scale,
        zero_point=model.input.zero_point,
        pixel_scale=backbone.pixel_scale,
        pixel_offset=backbone.pixel_offset,
        letterbox_colour=options.letterbox_colour,
        outputs=outputs,
        class_names=list(trained.class_names),
        score_threshold=trained.score_threshold,
        top_k=options.top_k,
        nms_iou=options.nms_iou,
        soft_nms=options.soft_nms,
    )


def output_roles(data: bytes, model: Model, top_k: int) -> dict[str, str]:
    """Return the tensor name of each role: boxes, classes, scores, count.

    data: the TFLite file. Raises EarmarkError when there is not one such operator or its outputs
    are not the model's, for `top_k` boxes.
    """
    where = "the converted detector"
    roles = find_post_process(read_graph(data, where), where).outputs
    shapes = {output.name: output.shape for output in model.outputs}
    expected = {
        "boxes": (1, top_k, 4),
        "classes": (1, top_k),
        "scores": (1, top_k),
        "count": (1,),
    }
    if (
        len(shapes) != len(expected)
        or {role: shapes.get(name) for role, name in roles.items()} != expected
    ):
        raise EarmarkError(
            f"the converted detector has outputs {shapes}, not those of {POST_PROCESS}"
        )
    return roles


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

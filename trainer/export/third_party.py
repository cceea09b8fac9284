"""A detector that somebody else made: how it is fed and read, told from its file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edge.errors import UsageError
from edge.release.manifest import DetectorSpec
from edge.vision.detector import Detector
from edge.vision.geometry import Colour
from edge.vision.runtime import Model, TensorSpec, open_model
from trainer.export.labels import fit_labels
from trainer.export.post_process import PostProcess, find_post_process
from trainer.export.tflite_graph import read_graph

GREY = 114


class Pixels(NamedTuple):
    """real value of a pixel = pixel * scale + offset: what a network was trained on."""

    scale: float
    offset: float


# The three that detectors are trained with.
NORMALISATIONS: Mapping[str, Pixels] = {
    "-1..1": Pixels(1 / 127.5, -1.0),
    "0..1": Pixels(1 / 255, 0.0),
    "0..255": Pixels(1.0, 0.0),
}
# Quantised inputs cover what they were calibrated with, some thousandths off.
_NEAR = 0.02
# Share of the pixels' range that an input may lack at either end: by rounding, and where its own
# trainer says what pixels are and had calibrated it with frames that were never quite white.
CLIPPED, OWN_CLIPPED = 0.05, 0.25
_ROUNDING = 1e-3
_IN_THE_FILE = ("input_shape", "dtype", "outputs", "top_k", "nms_iou")


def third_party_spec(
    path: Path,
    *,
    names: list[str] | None,
    pixels: Pixels | None,
    score_threshold: float,
    letterbox_colour: Colour,
    soft_nms: float | None = None,
    clipped: float = CLIPPED,
) -> DetectorSpec:
    """Return how a TFLite detector is fed and read; it has been loaded, but not run.

    path: a model for one RGB image, uint8, int8 or float32, that ends in
    `TFLite_Detection_PostProcess`. names: of its classes; None for `animal` if it has but one.
    pixels: None to tell it from the input's quantisation. soft_nms: as in the spec, for what the
    file cannot tell. clipped: see `check_pixels`. Raises UsageError for any other file, BundleError
    for one that cannot be loaded.
    """
    try:
        graph = read_graph(path.read_bytes(), str(path))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    last = find_post_process(graph, str(path))
    model = open_model(path)
    shape = _input_shape(model)
    top_k = _top_k(model, last)
    if names is None:
        if last.num_classes != 1:
            raise UsageError(f"{path}: knows {last.num_classes} classes; name them with --labels")
        names = ["animal"]
    names = fit_labels(names, last.num_classes, str(path))
    fed = pixels_of(model.input, str(path)) if pixels is None else pixels
    check_pixels(fed, model.input, str(path), clipped)
    return DetectorSpec(
        input_shape=shape,
        dtype=model.input.dtype.name,
        scale=model.input.scale,
        zero_point=model.input.zero_point,
        pixel_scale=fed.scale,
        pixel_offset=fed.offset,
        letterbox_colour=letterbox_colour,
        outputs=last.outputs,
        class_names=names,
        score_threshold=score_threshold,
        top_k=top_k,
        nms_iou=last.nms_iou,
        soft_nms=soft_nms,
    )


def check_told(told: DetectorSpec, spec: DetectorSpec, where: str) -> None:
    """Raise UsageError where a spec that came with a model says something else than the model.

    told: the spec. spec: what `third_party_spec` read from the file.
    """
    for name in _IN_THE_FILE:
        said, found = getattr(told, name), getattr(spec, name)
        same = math.isclose(said, found, abs_tol=_ROUNDING) if name == "nms_iou" else said == found
        if not same:
            raise UsageError(f"{where}: says {name} {said}, the model has {found}; correct it")


def pixels_of(tensor: TensorSpec, where: str) -> Pixels:
    """Return the normalisation that an input's quantisation speaks of.

    Scale 1/127.5 and zero point 127 or 128 hold -1..1, scale 1/255 and 0 hold 0..1, scale 1 holds
    0..255; likewise in int8, whose zero points are 128 lower. Raises UsageError for anything else.
    """
    if tensor.scale > 0:
        low, high = _range(tensor)
        for pixels in NORMALISATIONS.values():
            first, last = pixels.offset, 255 * pixels.scale + pixels.offset
            near = _NEAR * (last - first)
            if abs(low - first) <= near and abs(high - last) <= near:
                return pixels
        holds = f"holds {low:.4g} to {high:.4g}, none of {', '.join(NORMALISATIONS)}"
    else:
        holds = "is not quantised"
    raise UsageError(
        f"{where}: its input {holds}; say what it was trained on: --normalisation, or "
        "--pixel-scale and --pixel-offset"
    )


def check_pixels(pixels: Pixels, tensor: TensorSpec, where: str, clipped: float = CLIPPED) -> None:
    """Raise UsageError for pixel values that a quantised input cannot hold.

    clipped: share of their range that it may lack at either end.
    """
    ends = sorted((pixels.offset, 255 * pixels.scale + pixels.offset))
    if not all(map(math.isfinite, ends)) or ends[0] == ends[1]:
        raise UsageError(f"{where}: pixels cannot be scaled by {pixels.scale} plus {pixels.offset}")
    if tensor.scale <= 0:
        return
    low, high = _range(tensor)
    slack = clipped * (ends[1] - ends[0])
    if ends[0] < low - slack or ends[1] > high + slack:
        raise UsageError(
            f"{where}: its input holds {low:.4g} to {high:.4g}, but pixels are to become "
            f"{ends[0]:.4g} to {ends[1]:.4g}; choose another --normalisation"
        )


def try_detector(detector: Detector, spec: DetectorSpec, where: str) -> None:
    """Run a detector once on a grey image; UsageError for answers that cannot be detections."""
    height, width = spec.input_shape[1:3]
    try:
        found = detector.detect(np.full((height, width, 3), GREY, np.uint8), score_threshold=0.0)
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"{where}: fails on a grey image: {str(error).strip()}") from error
    if not (np.isfinite(found.boxes).all() and (found.scores <= 1 + _ROUNDING).all()):
        raise UsageError(f"{where}: answers a grey image with boxes or scores that are none")
    known = len(spec.class_names)
    if ((found.classes < 0) | (found.classes >= known)).any():
        raise UsageError(
            f"{where}: answers class {int(found.classes.max())}, it should know {known} only"
        )


def _input_shape(model: Model) -> tuple[int, int, int, int]:
    shape, dtype = model.input.shape, model.input.dtype.name
    if len(shape) != 4 or shape[0] != 1 or shape[3] != 3 or min(shape) < 1:
        raise UsageError(f"{model.path}: its input is {shape}, expected (1, height, width, 3)")
    if dtype not in ("uint8", "int8", "float32"):
        raise UsageError(f"{model.path}: its input is {dtype}, expected uint8, int8 or float32")
    if dtype != "float32" and not model.input.scale > 0:
        raise UsageError(f"{model.path}: its {dtype} input has no quantisation")
    return (1, shape[1], shape[2], 3)


def _top_k(model: Model, last: PostProcess) -> int:
    """Return how many boxes the model answers with; UsageError for outputs of other shapes."""
    shapes = {output.name: output.shape for output in model.outputs}
    boxes = shapes.get(last.outputs["boxes"], ())
    top_k = boxes[1] if len(boxes) == 3 else 0
    wanted = {"boxes": (1, top_k, 4), "classes": (1, top_k), "scores": (1, top_k), "count": (1,)}
    found = {role: shapes.get(name) for role, name in last.outputs.items()}
    if found != wanted or top_k < 1:
        raise UsageError(
            f"{model.path}: its outputs are {found}, expected boxes (1, N, 4), classes and scores "
            "(1, N), count (1,)"
        )
    return top_k


def _range(tensor: TensorSpec) -> tuple[float, float]:
    """Return the smallest and the largest real number that a quantised tensor holds."""
    limits = np.iinfo(tensor.dtype)
    low, high = ((end - tensor.zero_point) * tensor.scale for end in (limits.min, limits.max))
    return float(low), float(high)

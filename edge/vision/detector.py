"""Frame in, boxes out: the SSD with its post-process inside the model."""

from __future__ import annotations

import numpy as np

from edge.errors import BundleError
from edge.release.manifest import DetectorSpec
from edge.vision.doubles import soften
from edge.vision.geometry import clip_boxes, letterbox
from edge.vision.pixels import quantise
from edge.vision.runtime import Model, quantisation_table
from edge.vision.types import Detections, Image


class Detector:
    """Finds animals in a frame with a model that ends in `TFLite_Detection_PostProcess`."""

    def __init__(self, model: Model, spec: DetectorSpec) -> None:
        names = {output.name for output in model.outputs}
        for role, name in spec.outputs.items():
            if name not in names:
                raise BundleError(
                    f"{model.path}: the manifest's {role} output {name!r} is not in the model"
                )
        if model.input.shape != tuple(spec.input_shape):
            raise BundleError(
                f"{model.path}: input is {model.input.shape}, the manifest says {spec.input_shape}"
            )
        self._model = model
        self._spec = spec
        self._table = quantisation_table(
            model.input.scale,
            model.input.zero_point,
            model.input.dtype,
            spec.pixel_scale,
            spec.pixel_offset,
        )

    @property
    def score_threshold(self) -> float:
        """The score from which a box is an animal, as the trainer chose it."""
        return self._spec.score_threshold

    def detect(self, image: Image, score_threshold: float | None = None) -> Detections:
        """Return the animals of a frame (H, W, 3), best first, boxes cut to the frame.

        `score_threshold` replaces the manifest's; the tracker asks for weaker boxes too.
        """
        height, width = self._spec.input_shape[1:3]
        target, box = letterbox(image, (height, width), self._spec.letterbox_colour)
        outputs = self._model.invoke(quantise(target, self._table)[None])
        roles = {role: outputs[name] for role, name in self._spec.outputs.items()}
        count = int(roles["count"].reshape(-1)[0])
        scores = roles["scores"].reshape(-1)[:count]
        limit = self._spec.score_threshold if score_threshold is None else score_threshold
        keep = np.flatnonzero(scores >= limit)
        keep = keep[np.argsort(-scores[keep], kind="stable")]
        # The post-process speaks y1 x1 y2 x2 as fractions of the letterboxed input.
        fractions = roles["boxes"].reshape(-1, 4)[keep]
        boxes = fractions[:, [1, 0, 3, 2]] * np.array([width, height, width, height], np.float32)
        classes = roles["classes"].reshape(-1)[keep].astype(np.int32)
        found = Detections(box.to_source(boxes), scores[keep], classes)
        if self._spec.soft_nms is not None:
            # As the trainer does it: before boxes are cut, which changes how they overlap.
            found = soften(found, self._spec.soft_nms)
        boxes = clip_boxes(found.boxes, image.shape[1], image.shape[0])
        solid = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf) >= 1
        rows = np.flatnonzero(solid & (found.scores >= limit))
        return Detections(boxes[rows], found.scores[rows], found.classes[rows])

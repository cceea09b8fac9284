"""`TFLite_Detection_PostProcess`: which of a detector's outputs is which, and what it was told.

The operator of TensorFlow Lite's custom kernels (detection_postprocess.cc): its outputs are boxes,
classes, scores and count, in this order, whatever that of the model's own outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edge.errors import UsageError
from trainer.export.tflite_graph import Graph

POST_PROCESS = "TFLite_Detection_PostProcess"
ROLES = ("boxes", "classes", "scores", "count")


@dataclass(frozen=True, slots=True)
class PostProcess:
    """A detector's last operator. outputs: tensor name by role.

    num_classes: without background. nms_iou: of boxes of one class, above which the weaker goes.
    """

    outputs: dict[str, str]
    num_classes: int
    nms_iou: float


def find_post_process(graph: Graph, where: str) -> PostProcess:
    """Return a detector's post-process; `where` names the file.

    Raises UsageError when there is not one, its outputs are not the model's, or its attributes are
    not what the operator takes.
    """
    found = [operator for operator in graph.operators if operator.name == POST_PROCESS]
    if len(found) != 1:
        raise UsageError(
            f"{where}: has {len(found)} {POST_PROCESS} operators instead of one; only detectors "
            "that end in it can be used"
        )
    names = [tensor.name for tensor in found[0].outputs]
    given = {tensor.name for tensor in graph.outputs}
    if len(names) != len(ROLES) or set(names) != given or len(given) != len(ROLES):
        raise UsageError(
            f"{where}: its outputs are not the four of {POST_PROCESS} "
            f"(boxes, classes, scores, count) but {', '.join(sorted(given)) or 'none'}"
        )
    try:
        attributes = found[0].attributes()
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    classes = _number(attributes, "num_classes", where)
    if classes < 1 or classes != int(classes):
        raise UsageError(f"{where}: {POST_PROCESS} has num_classes {classes:g}")
    nms_iou = _number(attributes, "nms_iou_threshold", where)
    if not 0 <= nms_iou <= 1:
        raise UsageError(f"{where}: {POST_PROCESS} has nms_iou_threshold {nms_iou:g}")
    return PostProcess(dict(zip(ROLES, names, strict=True)), int(classes), round(nms_iou, 6))


def _number(attributes: dict[str, Any], name: str, where: str) -> float:
    value = attributes.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{where}: {POST_PROCESS} has no number {name!r}")
    return float(value)

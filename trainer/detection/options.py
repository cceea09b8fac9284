"""How a detector is trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edge.errors import UsageError
from edge.vision.geometry import Colour
from trainer.detection.augment import FrameAugmentation, check_augmentation
from trainer.detection.backbones import DetectorBackbone, find_detector_backbone
from trainer.embedding.backbones import Weights

BoxLoss = Literal["smooth_l1", "giou"]
ClassLoss = Literal["focal", "quality", "hard_negatives"]
BOX_LOSSES: tuple[BoxLoss, ...] = ("smooth_l1", "giou")
# Measured on 105 photographs, ImageNet's MobileNetV2, BatchNorms frozen: AP50 0.77 after 150 steps
# at 3e-4; 0.08 after 450 at 2e-3.
_PRETRAINED_RATE = 4e-4
_SCRATCH_RATE = 3e-3
CLASS_LOSSES: tuple[ClassLoss, ...] = ("focal", "quality", "hard_negatives")


@dataclass(frozen=True, slots=True)
class DetectorOptions:
    """How a detector is trained.

    input_size: height and width in pixels, multiples of 32. backbone: mobilenet_v2 for devices,
    resnet50 for workstations. alpha: width of mobilenet_v2. weights: of the backbone: None,
    "imagenet" or a local file. start: a detector's weights that a run left, `detector_weights.npz`;
    what fits by name and shape is taken, so other classes or anchors begin anew. strides: feature
    levels, None for those that the training boxes call for. anchors_per_cell: of each level.
    pyramid: 0 for plain SSD heads, else channels of a feature pyramid. tower: layers before its
    heads that all levels share. SSDLite is the default; FPNLite is mobilenet_v2 with pyramid 128
    and tower 4; RetinaNet, the 2021 article's detector, is resnet50 with pyramid 256 and tower 4.

    freeze_through: layers of the backbone up to this one keep their weights; the first know edges
    and textures, and learning them again takes a third of the time. freeze_batchnorm: of the
    backbone; None for yes with pretrained weights, no from scratch. match_iou: from which overlap
    on an anchor answers for a box. class_loss: focal; quality: focal, a score says how well its
    box fits; hard_negatives: cross-entropy of the positives and of the three times as many worst
    negatives. box_loss: smooth_l1 or giou, times box_weight. learning_rate: the peak; it warms
    up, then falls as a cosine; None for 4e-4 with pretrained weights, which forget what they know
    at more, and 3e-3 from scratch. backbone_rate: times it, the rate of the backbone.
    weight_decay: decoupled (AdamW). average: decay of the weights' running average, which is what
    is validated and kept; 0 for none. evaluate_every: steps between validations and checkpoints.
    patience: validations in a row without a better one before training stops early, 0 for never.
    refit_steps: so many more on all frames, those of validation too, once these have chosen the
    step and the threshold. detail: how many times the input's sides the frames are kept at in
    memory, so that what augmentation grows is sharp; it takes the square of it in memory.

    score_threshold: None for the one with the best F1 on the validation frames. nms_iou, top_k: of
    the post-process in the model. soft_nms: sigma of the Soft-NMS that devices do then, which tells
    two boxes of one animal from two animals that lie against each other; None for none.
    """

    input_size: tuple[int, int] = (320, 320)
    backbone: str = "mobilenet_v2"
    alpha: float = 1.0
    weights: Weights = None
    start: Path | None = None
    strides: tuple[int, ...] | None = None
    anchors_per_cell: int = 6
    pyramid: int = 0
    tower: int = 0
    freeze_through: str | None = None
    freeze_batchnorm: bool | None = None
    steps: int = 1000
    batch_size: int = 16
    learning_rate: float | None = None
    backbone_rate: float = 1.0
    weight_decay: float = 0.0
    average: float = 0.99
    match_iou: float = 0.5
    class_loss: ClassLoss = "focal"
    box_loss: BoxLoss = "smooth_l1"
    box_weight: float = 1.0
    evaluate_every: int = 100
    patience: int = 0
    refit_steps: int = 0
    workers: int = 1
    detail: int = 1
    letterbox_colour: Colour = (114, 114, 114)
    score_threshold: float | None = None
    nms_iou: float = 0.6
    soft_nms: float | None = 0.5
    top_k: int = 50
    augmentation: FrameAugmentation = field(default_factory=FrameAugmentation)
    seed: int = 0

    @property
    def found_backbone(self) -> DetectorBackbone:
        """The registry entry."""
        return find_detector_backbone(self.backbone)

    @property
    def batchnorm_frozen(self) -> bool:
        """Whether the backbone's BatchNorms keep their statistics and scales."""
        return self.pretrained if self.freeze_batchnorm is None else self.freeze_batchnorm

    @property
    def peak_rate(self) -> float:
        """The highest learning rate."""
        if self.learning_rate is None:
            return _PRETRAINED_RATE if self.pretrained else _SCRATCH_RATE
        return self.learning_rate

    @property
    def pretrained(self) -> bool:
        """Whether training starts from anything but chance."""
        return self.weights is not None or self.start is not None


def check_options(options: DetectorOptions) -> None:
    """Raise UsageError for names and numbers that no training could use."""
    find_detector_backbone(options.backbone)
    for name, value, known in (
        ("class loss", options.class_loss, CLASS_LOSSES),
        ("box loss", options.box_loss, BOX_LOSSES),
    ):
        if value not in known:
            raise UsageError(f"no {name} {value!r}; choose one of {', '.join(known)}")
    for name in (
        "steps",
        "batch_size",
        "evaluate_every",
        "top_k",
        "anchors_per_cell",
        "workers",
        "detail",
    ):
        if getattr(options, name) < 1:
            raise UsageError(f"{name} must be 1 or more, not {getattr(options, name)}")
    for name, value in (
        ("learning_rate", options.peak_rate),
        ("alpha", options.alpha),
        ("backbone_rate", options.backbone_rate),
    ):
        if not value > 0:
            raise UsageError(f"{name} must be more than 0, not {value}")
    for name in (
        "pyramid",
        "tower",
        "patience",
        "weight_decay",
        "box_weight",
        "seed",
    ):
        if not getattr(options, name) >= 0:
            raise UsageError(f"{name} must not be negative: {getattr(options, name)}")
    for name in ("match_iou", "nms_iou"):
        if not 0 < getattr(options, name) < 1:
            raise UsageError(f"{name} must lie between 0 and 1, not {getattr(options, name)}")
    if options.soft_nms is not None and not options.soft_nms > 0:
        raise UsageError(f"soft_nms must be more than 0, or null, not {options.soft_nms}")
    if not 0 <= options.average < 1:
        raise UsageError(f"average must be from 0 to below 1, not {options.average}")
    threshold = options.score_threshold
    if threshold is not None and not 0 <= threshold <= 1:
        raise UsageError(f"score_threshold must be from 0 to 1, not {threshold}")
    check_augmentation(options.augmentation)

"""How an embedder is trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from edge.errors import UsageError
from edge.release.manifest import Turns
from edge.vision.geometry import Colour
from trainer.data.augment import Augmentation, check_augmentation
from trainer.embedding.backbones import Weights, find_backbone
from trainer.embedding.losses import LOSSES, TRIPLET_LOSSES, Metric
from trainer.embedding.model import HEADS, Head

Precision = Literal["auto", "float32", "mixed_float16", "mixed_bfloat16"]
TAP = "tap"
_USUAL_CLASSES = 12


def _losses() -> dict[str, float]:
    return {"cosine_softmax": 1.0, "batch_hard": 1.0}


@dataclass(frozen=True, slots=True)
class EmbedderOptions:
    """How an embedder is trained.

    input_size: side in pixels. dimension: of the embedding. tap: layer of the backbone, None for
    its usual one. weights: None, "imagenet" or a local file. freeze_through: layers of the backbone
    up to this one stay as they are, "tap" for all of them. freeze_batchnorm: None for yes with
    pretrained weights, no from scratch.

    classes_per_batch: animals in a batch; "all" of them, or None for up to 12. images_per_class: of
    each animal in a batch.

    losses: names and weights of what is added up: batch_hard, semi_hard, batch_all,
    cosine_softmax, softmax. scale, margin: of the cosine softmax. triplet_margin, triplet_metric:
    of semi_hard and batch_all; the margin is a distance of that metric. mirrored_animals: every
    animal's mirror image is one more animal to tell apart (coats are chiral), which doubles what
    there is to learn from. turns,
    gallery_turns: at how many angles a crop is embedded by devices and for class means, see
    `EmbedderSpec`; 1 for a network trained without rotation.

    learning_rate: the peak; it warms up, then falls as a cosine. weight_decay: decoupled (AdamW).
    evaluate_every: steps between validations and checkpoints. patience: validations in a row
    without a better one before training stops early, 0 for never. refit_steps: so many more on all
    crops, those of validation too, once these have chosen the step and calibrated.
    reference_images: at most so many of an animal make its mean when validating. precision:
    "auto" is mixed_float16 on a GPU. workers: threads that augment; results do not depend on it.
    """

    input_size: int = 160
    dimension: int = 64
    backbone: str = "mobilenet_v2"
    tap: str | None = None
    alpha: float = 1.0
    weights: Weights = None
    head: Head = "pooled"
    freeze_through: str | None = None
    freeze_batchnorm: bool | None = None
    classes_per_batch: int | Literal["all"] | None = None
    images_per_class: int = 4
    steps: int = 1200
    learning_rate: float = 7e-4
    weight_decay: float = 0.0
    losses: dict[str, float] = field(default_factory=_losses)
    scale: float = 20.0
    margin: float = 0.25
    triplet_margin: float = 0.2
    triplet_metric: Metric = "cosine"
    mirrored_animals: bool = False
    turns: Turns = 1
    gallery_turns: Turns = 4
    evaluate_every: int = 100
    patience: int = 0
    refit_steps: int = 0
    reference_images: int = 40
    precision: Precision = "auto"
    workers: int = 1
    letterbox_colour: Colour = (114, 114, 114)
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0

    @property
    def layer(self) -> str:
        """Name of the layer that is tapped."""
        return self.tap or find_backbone(self.backbone).tap

    def batch_size(self, animals: int) -> int:
        """Return how many images one replica learns from in a step, of so many animals."""
        return self.classes_in_batch(animals) * self.images_per_class

    def classes_in_batch(self, animals: int) -> int:
        """Return how many of so many animals are in a batch."""
        if self.classes_per_batch == "all":
            return animals
        if self.classes_per_batch is None:
            return min(_USUAL_CLASSES, animals)
        return self.classes_per_batch

    @property
    def batchnorm_frozen(self) -> bool:
        """Whether the backbone's BatchNorms keep their statistics and scales."""
        if self.freeze_batchnorm is None:
            return self.weights is not None
        return self.freeze_batchnorm


def check_options(options: EmbedderOptions) -> None:
    """Raise UsageError for names and numbers that no training could use."""
    find_backbone(options.backbone)
    if options.head not in HEADS:
        raise UsageError(f"no head {options.head!r}; choose one of {', '.join(HEADS)}")
    for name, weight in options.losses.items():
        if name not in LOSSES:
            raise UsageError(f"no loss {name!r}; choose of {', '.join(LOSSES)}")
        if weight <= 0:
            raise UsageError(f"loss {name!r} has weight {weight:g}; give more than 0 or leave it")
    if not options.losses:
        raise UsageError(f"an embedder needs at least one loss of {', '.join(LOSSES)}")
    for name in (
        "input_size",
        "dimension",
        "steps",
        "evaluate_every",
        "workers",
        "images_per_class",
    ):
        if getattr(options, name) < 1:
            raise UsageError(f"{name} must be at least 1, not {getattr(options, name)}")
    for name in ("learning_rate", "scale", "alpha", "reference_images"):
        if not getattr(options, name) > 0:
            raise UsageError(f"{name} must be more than 0, not {getattr(options, name)}")
    for name in ("patience", "refit_steps", "weight_decay", "margin", "triplet_margin", "seed"):
        if not getattr(options, name) >= 0:
            raise UsageError(f"{name} must not be negative: {getattr(options, name)}")
    if options.images_per_class < 2 and set(options.losses) & set(TRIPLET_LOSSES):
        raise UsageError("triplets need images_per_class of at least 2")
    check_augmentation(options.augmentation)

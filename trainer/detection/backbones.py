"""Which layers of a backbone a detector looks at, and how heavy its own layers are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edge.errors import UsageError
from trainer.embedding.backbones import Backbone, find_backbone


@dataclass(frozen=True, slots=True)
class DetectorBackbone:
    """A backbone as detectors use it.

    features: the registry entry, which knows how pixels are fed. taps: a layer for each stride that
    the backbone has. light: whether the detector's own layers are depthwise separable, as fits a
    backbone made for small devices.
    """

    name: str
    features: Backbone
    taps: Mapping[int, str]
    light: bool


# MobileNetV2: expanded features, as SSDLite takes them (Sandler et al. 2018). ResNet50: the last
# block of each stage, as RetinaNet takes them (Lin et al. 2017).
DETECTOR_BACKBONES = {
    backbone.name: backbone
    for backbone in (
        DetectorBackbone(
            "mobilenet_v2",
            find_backbone("mobilenet_v2"),
            MappingProxyType(
                {8: "block_6_expand_relu", 16: "block_13_expand_relu", 32: "out_relu"}
            ),
            light=True,
        ),
        DetectorBackbone(
            "resnet50",
            find_backbone("resnet50"),
            MappingProxyType(
                {8: "conv3_block4_out", 16: "conv4_block6_out", 32: "conv5_block3_out"}
            ),
            light=False,
        ),
    )
}


def find_detector_backbone(name: str) -> DetectorBackbone:
    """Return a registered backbone; UsageError lists the names there are."""
    if name not in DETECTOR_BACKBONES:
        known = ", ".join(sorted(DETECTOR_BACKBONES))
        raise UsageError(f"no detector backbone {name!r}; choose one of {known}")
    return DETECTOR_BACKBONES[name]

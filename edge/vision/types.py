"""The values that flow through the agent's eye. Images are RGB, boxes are pixels of the frame."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of one camera.

    image: uint8 (H, W, 3), RGB.
    index: counts the frames of this source from 0.
    monotonic_s: seconds on a clock that never steps; the clip's own time for a file.
    wall_time: aware datetime, or None when the device's clock cannot be trusted.
    """

    image: Image
    camera: str
    index: int
    monotonic_s: float
    wall_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Detections:
    """Parallel arrays of N detections, best score first.

    boxes: float32 (N, 4), x1 y1 x2 y2 in pixels of the frame.
    scores: float32 (N,), 0..1.
    classes: int32 (N,), index into the detector's class names.
    bounds: x1 y1 x2 y2 of the part of the frame that was looked at, pixels; None for all of it.
    """

    boxes: Floats
    scores: Floats
    classes: NDArray[np.int32]
    bounds: tuple[int, int, int, int] | None = None

    def __post_init__(self) -> None:
        count = len(self.boxes)
        if self.boxes.shape != (count, 4):
            raise ValueError(f"boxes must be (N, 4), not {self.boxes.shape}")
        if self.scores.shape != (count,) or self.classes.shape != (count,):
            raise ValueError(
                f"scores and classes must be ({count},), not {self.scores.shape} and "
                f"{self.classes.shape}"
            )

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def empty(cls) -> Detections:
        """Return no detections at all."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))


@dataclass(frozen=True, slots=True)
class CropQuality:
    """Why a crop may be no evidence for anybody's identity.

    sharpness: variance of the Laplacian after resizing to a fixed size (grey levels squared).
    clipped: the box touches the frame's edge.
    covered: fraction 0..1 of the box that other boxes cover.
    side_px: shorter side of the box in pixels of the frame.
    """

    sharpness: float
    clipped: bool
    covered: float
    side_px: float


@dataclass(frozen=True, slots=True)
class Crop:
    """One animal cut out of a frame: image uint8 (S, S, 3) RGB; box float32 (4,) in pixels."""

    image: Image
    box: Floats
    quality: CropQuality


class FrameDetector(Protocol):
    """A detector, as whoever looks at frames needs it."""

    @property
    def score_threshold(self) -> float:
        """The score from which a box is an animal."""

    def detect(self, image: Image, score_threshold: float | None = None) -> Detections:
        """Return the animals of a frame (H, W, 3), best first."""

"""Augmentation of frames with their boxes: other views, scales, lights and cameras."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import UsageError
from edge.vision.geometry import Colour, box_areas
from edge.vision.types import Floats, Image

_SMALLEST_SIDE_PX = 3.0
# Of a mosaic: where its parts meet, as a share of the frame, and how much smaller they are.
_MOSAIC_SPLIT = (0.35, 0.65)
_MOSAIC_ZOOM = 0.65

Window = tuple[int, int, int, int]


class Annotated(NamedTuple):
    """image: uint8 (H, W, 3). boxes: float32 (n, 4) x1 y1 x2 y2. classes: int32 (n,)."""

    image: Image
    boxes: Floats
    classes: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class FrameAugmentation:
    """How far a frame may be changed.

    scale: factor, drawn log-uniformly from 1/scale..scale, about a point of the frame, so that
    growing crops. rotation_deg: angle, drawn from +-. flip, flip_vertical: probabilities of a
    mirror image, left to right and top to bottom; to find an animal it matters not whose coat
    it is, but photographs have a sky: none of the second, nor quarter turns, for them.
    quarter_turns: turn square inputs by 90 degrees too. brightness: of full scale, +-.
    contrast: factor 1 +-. tint: factor 1 +- for each channel. greyscale, blur, noise:
    probabilities of a night camera's grey, a blurred frame and sensor noise (sigma in grey
    levels). least_visible: a box keeps its animal if that share of it is still in the frame.
    mosaic: probability that a frame is put together from parts of four (Bochkovskiy et al.,
    "YOLOv4", 2020), so that few photographs make many scenes.
    """

    scale: float = 1.35
    rotation_deg: float = 8.0
    flip: float = 0.5
    flip_vertical: float = 0.5
    quarter_turns: bool = True
    brightness: float = 0.15
    contrast: float = 0.25
    tint: float = 0.08
    greyscale: float = 0.12
    blur: float = 0.1
    noise: float = 0.15
    noise_sigma: float = 8.0
    least_visible: float = 0.4
    mosaic: float = 0.0


def check_augmentation(options: FrameAugmentation) -> None:
    """Raise UsageError for a value that no frame can be changed by."""
    shares = (
        "flip",
        "flip_vertical",
        "brightness",
        "contrast",
        "tint",
        "greyscale",
        "blur",
        "noise",
    )
    for name in (*shares, "least_visible", "mosaic"):
        if not 0 <= getattr(options, name) <= 1:
            raise UsageError(
                f"augmentation: {name} must be from 0 to 1, not {getattr(options, name)}"
            )
    if not options.scale >= 1:
        raise UsageError(f"augmentation: scale must be at least 1, not {options.scale}")
    for name in ("rotation_deg", "noise_sigma"):
        if not getattr(options, name) >= 0:
            raise UsageError(f"augmentation: {name} must not be negative")


class FrameAugmenter:
    """Changes frames and their boxes. It keeps no state: threads may share one.

    seed: of the noise field. colour: around what a rotation or a shift uncovers.
    """

    def __init__(
        self,
        size: tuple[int, int],
        seed: int,
        colour: Colour = (114, 114, 114),
        options: FrameAugmentation | None = None,
    ) -> None:
        self._height, self._width = size
        self._colour = colour
        self._options = options or FrameAugmentation()
        # Drawing noise is slow; windows into one large field are as good.
        field = np.random.default_rng(seed).normal(
            0, self._options.noise_sigma, (2 * self._height, 2 * self._width, 3)
        )
        self._noise = np.round(field).astype(np.int16)

    def __call__(
        self, image: Image, boxes: Floats, classes: NDArray[np.int32], rng: np.random.Generator
    ) -> Annotated:
        """Return a changed copy of a frame (H, W, 3), and the boxes (n, 4) and classes (n,) left.

        Boxes are x1 y1 x2 y2 in pixels of the result, cut to it. The frame may be a whole number
        of times as large as that, its boxes are in pixels of the result all the same: what is
        grown is then sharp. `rng` decides.
        """
        whole = (0, 0, self._width, self._height)
        changed, boxes, classes = self._view(Annotated(image, boxes, classes), whole, 1.0, rng)
        return Annotated(self._spoil(changed, rng), boxes, classes)

    def mosaic(self, frames: Sequence[Annotated], rng: np.random.Generator) -> Annotated:
        """Return one frame of parts of four, as `__call__` would change each."""
        x = round(self._width * rng.uniform(*_MOSAIC_SPLIT))
        y = round(self._height * rng.uniform(*_MOSAIC_SPLIT))
        windows = (
            (0, 0, x, y),
            (x, 0, self._width, y),
            (0, y, x, self._height),
            (x, y, self._width, self._height),
        )
        canvas = np.empty((self._height, self._width, 3), np.uint8)
        parts = []
        for frame, window in zip(frames, windows, strict=True):
            part = self._view(frame, window, _MOSAIC_ZOOM, rng)
            x1, y1, x2, y2 = window
            canvas[y1:y2, x1:x2] = part.image
            parts.append(part)
        boxes, classes = (np.concatenate([part[column] for part in parts]) for column in (1, 2))
        return Annotated(self._spoil(canvas, rng), boxes, classes)

    def _view(
        self, frame: Annotated, window: Window, zoom: float, rng: np.random.Generator
    ) -> Annotated:
        """Return what of a changed frame fills a window of the result, boxes in the result."""
        image, boxes, classes = frame
        matrix, scale = self._draw_matrix(window, zoom, rng)
        detail = image.shape[1] / self._width
        if detail > 1 and scale <= 1:
            image = np.asarray(
                cv2.resize(image, (self._width, self._height), interpolation=cv2.INTER_AREA),
                np.uint8,
            )
            detail = 1.0
        x1, y1, x2, y2 = window
        pixels = matrix.copy()
        pixels[:, :2] /= detail
        # Pixel centres: the first of the larger frame lies (1 - detail) / 2 of its pixels off.
        pixels[:, 2] += pixels[:, :2].sum(axis=1) * (1 - detail) / 2 - (x1, y1)
        warped = cv2.warpAffine(
            self._light(image, rng),
            pixels,
            (x2 - x1, y2 - y1),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=self._colour,
        )
        moved = warp_boxes(boxes, matrix)
        low, high = np.array(window[:2], np.float32), np.array(window[2:], np.float32)
        cut = np.concatenate(
            [np.clip(moved[:, :2], low, high), np.clip(moved[:, 2:], low, high)], axis=1
        )
        keep = box_areas(cut) >= self._options.least_visible * box_areas(moved)
        keep &= (cut[:, 2:] - cut[:, :2]).min(axis=1, initial=np.inf) >= _SMALLEST_SIDE_PX
        return Annotated(np.asarray(warped, np.uint8), cut[keep], classes[keep])

    def _draw_matrix(
        self, window: Window, zoom: float, rng: np.random.Generator
    ) -> tuple[NDArray[np.float64], float]:
        """Return a random affine map (2, 3) of pixel centres into a window, and its scale."""
        options = self._options
        angle = math.radians(rng.uniform(-options.rotation_deg, options.rotation_deg))
        if options.quarter_turns and self._height == self._width:
            angle += math.pi / 2 * int(rng.integers(4))
        scale = float(zoom * options.scale ** rng.uniform(-1, 1))
        mirror = np.where(rng.random(2) < (options.flip, options.flip_vertical), -1.0, 1.0)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        linear = scale * turn @ np.diag(mirror)
        sides = np.array([self._width, self._height], np.float64)
        corner, end = np.array(window[:2], np.float64), np.array(window[2:], np.float64)
        # Grown, the frame is cropped anywhere; shrunk, it lies anywhere on the padding.
        room = np.abs(scale * sides - (end - corner)) / 2
        shift = (corner + end - 1) / 2 - linear @ ((sides - 1) / 2) + rng.uniform(-room, room)
        return np.column_stack([linear, shift]), scale

    def _light(self, image: Image, rng: np.random.Generator) -> Image:
        options = self._options
        factor = 1 + rng.uniform(-options.contrast, options.contrast)
        factors = factor * (1 + rng.uniform(-options.tint, options.tint, 3))
        offset = 255 * rng.uniform(-options.brightness, options.brightness)
        levels = (np.arange(256)[:, None] - 128) * factors + 128 + offset
        return np.asarray(cv2.LUT(image, np.clip(levels, 0, 255).astype(np.uint8)[None]), np.uint8)

    def _spoil(self, image: Image, rng: np.random.Generator) -> Image:
        options = self._options
        chances = rng.random(3)
        if chances[0] < options.greyscale:
            image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        if chances[1] < options.blur:
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.2))
        if chances[2] < options.noise:
            y, x = rng.integers(0, self._height), rng.integers(0, self._width)
            window = self._noise[y : y + self._height, x : x + self._width]
            image = cv2.add(image, window, dtype=cv2.CV_8U)
        return np.asarray(image, np.uint8)


def warp_boxes(boxes: Floats, matrix: NDArray[np.float64]) -> Floats:
    """Return the boxes (n, 4) that an affine map (2, 3) of pixel centres makes of boxes (n, 4).

    The ellipse within each box is turned and boxed anew: corners would give boxes too large for
    animals, which are round (Kalra et al., "Towards Rotation Invariance in Object Detection",
    2021).
    """
    linear, shift = matrix[:, :2], matrix[:, 2]
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    halves = (boxes[:, 2:] - boxes[:, :2]) / 2
    # Edges lie half a pixel beside pixel centres.
    moved = (centres - 0.5) @ linear.T + shift + 0.5
    reach = np.sqrt(halves.astype(np.float64) ** 2 @ (linear.T**2))
    return np.concatenate([moved - reach, moved + reach], axis=1).astype(np.float32)

"""Augmentation of crops for training: any angle, any light, never a mirror image.

Coats are chiral: a mirrored cow is another cow. Barn cameras look from above, so any angle comes.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import UsageError
from edge.vision.geometry import Colour
from edge.vision.types import Floats, Image


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How far a crop may be changed.

    rotation_deg: angle, drawn from +-. zoom: factor, drawn log-uniformly from 1/zoom..zoom.
    stretch: along an axis at any angle, and its inverse across, drawn log-uniformly likewise.
    hue_deg: turn of all hues, drawn from +-. saturation: factor, drawn log-uniformly likewise.
    shift: of the side, +-. brightness: of full scale, +-. contrast: factor 1 +-. tint: factor
    1 +- for each channel. greyscale, blur, noise, patch: probabilities of a night camera's grey,
    a blurred crop, sensor noise (sigma in grey levels) and an occluding patch of up to
    `patch_side` of the side. cut: probability of an animal that the picture's edge or a pillar cuts
    off: up to `cut_side` of the side is filled from one edge on. Such crops are what known animals
    are refused for.
    """

    rotation_deg: float = 180.0
    zoom: float = 1.25
    stretch: float = 1.0
    shift: float = 0.08
    brightness: float = 0.18
    contrast: float = 0.25
    tint: float = 0.08
    hue_deg: float = 0.0
    saturation: float = 1.0
    greyscale: float = 0.12
    blur: float = 0.15
    noise: float = 0.15
    noise_sigma: float = 8.0
    patch: float = 0.25
    patch_side: float = 0.4
    cut: float = 0.3
    cut_side: float = 0.35


NO_AUGMENTATION = Augmentation(
    rotation_deg=0,
    zoom=1,
    shift=0,
    brightness=0,
    contrast=0,
    tint=0,
    greyscale=0,
    blur=0,
    noise=0,
    patch=0,
    cut=0,
)


def check_augmentation(options: Augmentation) -> None:
    """Raise UsageError for a value that no crop can be changed by."""
    shares = ("brightness", "contrast", "tint", "shift")
    for name in ("greyscale", "blur", "noise", "patch", "cut", *shares):
        if not 0 <= getattr(options, name) <= 1:
            raise UsageError(
                f"augmentation: {name} must be from 0 to 1, not {getattr(options, name)}"
            )
    for name in ("zoom", "stretch", "saturation"):
        if not getattr(options, name) >= 1:
            raise UsageError(
                f"augmentation: {name} must be at least 1, not {getattr(options, name)}"
            )
    for name in ("patch_side", "cut_side"):
        if not 0.1 <= getattr(options, name) <= 0.9:
            raise UsageError(
                f"augmentation: {name} must be from 0.1 to 0.9: {getattr(options, name)}"
            )
    for name in ("rotation_deg", "hue_deg", "noise_sigma"):
        if not getattr(options, name) >= 0:
            raise UsageError(f"augmentation: {name} must not be negative")


class Augmenter:
    """Changes batches of crops. It keeps no state: threads may share one.

    seed: of the noise field. colour: around what a rotation or a shift uncovers.
    """

    def __init__(
        self,
        size: int,
        seed: int,
        colour: Colour = (114, 114, 114),
        options: Augmentation | None = None,
    ) -> None:
        self._size = size
        self._colour = colour
        self._options = options or Augmentation()
        # Drawing noise is slow; windows into one large field are as good.
        field = np.random.default_rng(seed).normal(
            0, self._options.noise_sigma, (2 * size, 2 * size, 3)
        )
        self._noise = np.round(field).astype(np.int16)

    def __call__(self, images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Return changed copies uint8 (B, S, S, 3) of crops uint8 (B, S, S, 3); `rng` decides."""
        changed = np.empty_like(images)
        for row, image in enumerate(images):
            changed[row] = self._change(image, rng)
        return changed

    def _change(self, image: Image, rng: np.random.Generator) -> Image:
        options = self._options
        chances = rng.random(5)
        if options.hue_deg or options.saturation > 1:
            image = self._recolour(image, rng)
        image = self._light(image, rng)
        if chances[0] < options.greyscale:
            image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        if chances[1] < options.blur:
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, max(0.8, self._size / 90)))
        image = self._warp(image, rng)
        if chances[4] < options.cut:
            image = self._cut(image, rng)
        if chances[2] < options.noise:
            y, x = rng.integers(0, self._size, 2)
            window = self._noise[y : y + self._size, x : x + self._size]
            image = cv2.add(image, window, dtype=cv2.CV_8U)
        if chances[3] < options.patch:
            image = self._occlude(image, rng)
        return np.asarray(image, np.uint8)

    def _recolour(self, image: Image, rng: np.random.Generator) -> Image:
        options = self._options
        # OpenCV's hues of bytes go from 0 to 179.
        turn = round(rng.uniform(-options.hue_deg, options.hue_deg) / 2)
        factor = options.saturation ** rng.uniform(-1, 1)
        levels = np.arange(256)
        table = np.stack(
            [(levels + turn) % 180, np.clip(levels * factor, 0, 255), levels], axis=-1
        ).astype(np.uint8)
        hsv = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), table[None])
        return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8)

    def _light(self, image: Image, rng: np.random.Generator) -> Image:
        options = self._options
        factor = 1 + rng.uniform(-options.contrast, options.contrast)
        factors = factor * (1 + rng.uniform(-options.tint, options.tint, 3))
        offset = 255 * rng.uniform(-options.brightness, options.brightness)
        levels = (np.arange(256)[:, None] - 128) * factors + 128 + offset
        return np.asarray(cv2.LUT(image, np.clip(levels, 0, 255).astype(np.uint8)[None]), np.uint8)

    def _warp(self, image: Image, rng: np.random.Generator) -> Image:
        options, size = self._options, self._size
        angle = rng.uniform(-options.rotation_deg, options.rotation_deg)
        zoom = options.zoom ** rng.uniform(-1, 1)
        centre = ((size - 1) / 2, (size - 1) / 2)
        matrix = cv2.getRotationMatrix2D(centre, angle, zoom)
        if options.stretch > 1:
            matrix = _stretched(matrix, centre, options.stretch ** rng.uniform(-1, 1), rng)
        matrix[:, 2] += size * rng.uniform(-options.shift, options.shift, 2)
        return np.asarray(
            cv2.warpAffine(
                image,
                matrix,
                (size, size),
                flags=cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_CONSTANT,
                borderValue=self._colour,
            ),
            np.uint8,
        )

    def _cut(self, image: Image, rng: np.random.Generator) -> Image:
        depth = max(1, int(self._size * rng.uniform(0.05, self._options.cut_side)))
        strip = (slice(None, depth), slice(-depth, None))[rng.integers(2)]
        image[(strip, slice(None)) if rng.random() < 0.5 else (slice(None), strip)] = self._colour
        return image

    def _occlude(self, image: Image, rng: np.random.Generator) -> Image:
        size = self._size
        height, width = (size * rng.uniform(0.1, self._options.patch_side, 2)).astype(int)
        y, x = rng.integers(0, size - height), rng.integers(0, size - width)
        image[y : y + height, x : x + width] = rng.integers(0, 256, 3)
        return image


def _stretched(
    matrix: Floats, centre: tuple[float, float], factor: float, rng: np.random.Generator
) -> Floats:
    """Return an affine matrix (2, 3) that stretches about `centre` before it does what it did."""
    angle = rng.uniform(0, np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ np.diag([factor, 1 / factor]) @ turn.T
    moved = np.array(centre) - linear @ np.array(centre)
    first = np.vstack([np.column_stack([linear, moved]), [0, 0, 1]])
    return np.asarray(matrix @ first)

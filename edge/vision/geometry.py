"""Boxes, and the one letterbox that training and the device share.

Boxes are float32 (N, 4) arrays `x1 y1 x2 y2`; pixel (0, 0) covers the square from (0, 0) to (1, 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from edge.vision.types import Floats, Image

Colour = tuple[int, int, int]


def box_areas(boxes: Floats) -> Floats:
    """Return the areas (N,) of boxes (N, 4); an inverted box has none."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return np.asarray(sides[:, 0] * sides[:, 1], np.float32)


def intersection_matrix(a: Floats, b: Floats) -> Floats:
    """Return the areas (N, M) that boxes `a` (N, 4) share with boxes `b` (M, 4)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = np.maximum(high - low, 0)
    return np.asarray(sides[..., 0] * sides[..., 1], np.float32)


def iou_matrix(a: Floats, b: Floats) -> Floats:
    """Return intersection over union (N, M) of boxes (N, 4) and (M, 4); 0 for empty ones."""
    shared = intersection_matrix(a, b)
    union = box_areas(a)[:, None] + box_areas(b)[None, :] - shared
    ratios = np.zeros_like(shared)
    np.divide(shared, union, out=ratios, where=union > 0)
    return ratios


def clip_boxes(boxes: Floats, width: float, height: float) -> Floats:
    """Return boxes (N, 4) cut to a frame of `width` by `height` pixels."""
    limits = np.array([width, height, width, height], np.float32)
    return np.clip(boxes, 0, limits).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Letterbox:
    """How an image was scaled and padded: target = source * (scale_x, scale_y) + (pad_x, pad_y).

    The two scales differ by less than a pixel over the image: the resized sides are whole pixels.
    """

    scale_x: float
    scale_y: float
    pad_x: int
    pad_y: int

    def to_target(self, boxes: Floats) -> Floats:
        """Map boxes (N, 4) from the source image to the letterboxed one."""
        return (boxes * self._scale() + self._pad()).astype(np.float32)

    def to_source(self, boxes: Floats) -> Floats:
        """Map boxes (N, 4) from the letterboxed image back to the source image."""
        return ((boxes - self._pad()) / self._scale()).astype(np.float32)

    def _scale(self) -> Floats:
        return np.array([self.scale_x, self.scale_y] * 2, np.float32)

    def _pad(self) -> Floats:
        return np.array([self.pad_x, self.pad_y] * 2, np.float32)


def letterbox(
    image: Image, size: tuple[int, int], colour: Colour = (114, 114, 114)
) -> tuple[Image, Letterbox]:
    """Scale an image (H, W, 3) to fit `size` (height, width), centred on `colour`.

    This is the only resize in front of a model: training, calibration and the device all call it.
    Shrinking averages areas by a whole factor first, so that fine coat patterns do not alias, and
    interpolates the rest, less than half; growing interpolates.
    """
    height, width = size
    source_height, source_width = image.shape[:2]
    if source_height == 0 or source_width == 0:
        raise ValueError(f"an image of {source_width}x{source_height} pixels cannot be scaled")
    scale = min(height / source_height, width / source_width)
    inner_width = min(width, max(1, round(source_width * scale)))
    inner_height = min(height, max(1, round(source_height * scale)))
    inner = cv2.resize(
        _shrunk(image, min(source_width // inner_width, source_height // inner_height)),
        (inner_width, inner_height),
        interpolation=cv2.INTER_LINEAR,
    )
    left, top = (width - inner_width) // 2, (height - inner_height) // 2
    right, bottom = width - inner_width - left, height - inner_height - top
    if left or top or right or bottom:
        inner = cv2.copyMakeBorder(
            inner, top, bottom, left, right, cv2.BORDER_CONSTANT, value=colour
        )
    target = np.asarray(inner, np.uint8)
    return target, Letterbox(inner_width / source_width, inner_height / source_height, left, top)


def _shrunk(image: Image, factor: int) -> Image:
    """Return the image at 1/`factor` of its size, each pixel the mean of factor² of them.

    Averaging by any other ratio costs OpenCV ten times as much: 11 ms of one core for a full HD
    frame, more than the detector takes. What is left over at the edges is trimmed evenly.
    """
    if factor < 2:
        return image
    rows, columns = image.shape[0] // factor, image.shape[1] // factor
    top, left = (image.shape[0] % factor) // 2, (image.shape[1] % factor) // 2
    whole = image[top : top + rows * factor, left : left + columns * factor]
    return np.asarray(cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)


def crop_pixels(image: Image, box: Floats) -> Image:
    """Return the pixels of `box` (4,) in a frame (H, W, 3), as a view.

    The box is cut to the frame, its sides fall on whole pixels outwards, and it is at least one
    pixel wide and high.
    """
    height, width = image.shape[:2]
    left, top, right, bottom = box.tolist()
    x1 = min(max(math.floor(left), 0), width - 1)
    y1 = min(max(math.floor(top), 0), height - 1)
    x2 = min(max(math.ceil(right), x1 + 1), width)
    y2 = min(max(math.ceil(bottom), y1 + 1), height)
    return image[y1:y2, x1:x2]


def cut_crop(image: Image, box: Floats, size: int, colour: Colour = (114, 114, 114)) -> Image:
    """Return the pixels of `box` (4,) letterboxed to (size, size, 3); see `crop_pixels`."""
    return letterbox(crop_pixels(image, box), (size, size), colour)[0]

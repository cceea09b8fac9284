"""Real coats: animals cut out of crops, laid along the canvas of `body`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import DataError
from edge.vision.types import Image
from trainer.data.crops import load_image, read_crops
from trainer.data.herd.body import COLUMNS, HALF_WIDTH, ROWS, TRUNK_HALF, Shape, shape_of

_TRIED = 8
_KEPT = 3
_SIDE = 128


@dataclass(frozen=True, slots=True, eq=False)
class Sprite:
    """A real animal on the canvas: rgb uint8 (R, C, 3) and its shape."""

    rgb: NDArray[np.uint8]
    shape: Shape


@dataclass(frozen=True, slots=True, eq=False)
class SpriteSheet:
    """The cut-outs of one animal, best first.

    name: its folder. stoutness: its width, as `Build` wants it.
    """

    name: str
    sprites: tuple[Sprite, ...]
    stoutness: float


def read_sprites(root: Path, animals: int) -> tuple[SpriteSheet, ...]:
    """Cut out the first `animals` animals of a crops folder.

    Raises DataError for a missing or empty folder, an unreadable image, and too few animals.
    """
    crops = read_crops(root)
    if len(crops.animals) < animals:
        raise DataError(
            f"{root}: has {len(crops.animals)} animals, {animals} are asked for; "
            f"ask for {len(crops.animals)} or add folders"
        )
    sheets = []
    for label, name in enumerate(crops.animals[:animals]):
        rows = np.flatnonzero(crops.labels == label)
        chosen = rows[np.unique(np.linspace(0, len(rows) - 1, _TRIED).round().astype(int))]
        cuts = [_cut_out(load_image(crops.paths[row])) for row in chosen]
        cuts.sort(key=lambda cut: -cut[0])
        best = tuple(sprite for _, sprite in cuts[:_KEPT])
        trunk = best[0].shape.alpha[:, COLUMNS // 4 : -COLUMNS // 4]
        stoutness = float(trunk.sum(axis=0).mean()) / COLUMNS / 2 / TRUNK_HALF
        sheets.append(SpriteSheet(name, best, stoutness))
    return tuple(sheets)


def _cut_out(image: Image) -> tuple[float, Sprite]:
    """Return how much the cut-out has an animal's outline (0..1), and the cut-out."""
    scale = _SIDE / max(image.shape[:2])
    size = (max(16, round(image.shape[1] * scale)), max(16, round(image.shape[0] * scale)))
    image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), np.uint8)
    mask = _foreground(image)
    moments = cv2.moments(mask, binaryImage=True)
    middle = np.array([moments["m10"], moments["m01"]]) / moments["m00"]
    angle = 0.5 * np.arctan2(2 * moments["mu11"], moments["mu20"] - moments["mu02"])
    rows, columns = np.nonzero(mask)
    axis = np.array([np.cos(angle), np.sin(angle)])
    normal = np.array([-axis[1], axis[0]])
    offsets = np.stack([columns, rows], axis=1) - middle
    along, across = offsets @ axis, offsets @ normal
    low, high = np.quantile(along, (0.004, 0.996))
    # Room for both ends to be round.
    low, high = low - 0.03 * (high - low), high + 0.03 * (high - low)
    # The narrower end is taken to be the head, which the canvas has on its left.
    ends = (along < low + 0.25 * (high - low), along > high - 0.25 * (high - low))
    if np.std(across[ends[0]]) > np.std(across[ends[1]]):
        axis, normal, low, high = -axis, -normal, -high, -low
    length = max(8.0, high - low)
    width = float(np.quantile(np.abs(across), 0.995))
    score = _ellipse_likeness(along - low, across, length, width)
    # Wide animals are squeezed into the canvas' height.
    squeeze = max(1.0, width / length / (HALF_WIDTH * 0.92))
    scale_along, scale_across = length / COLUMNS, squeeze * length / COLUMNS
    start = middle + low * axis
    matrix = np.array(
        [
            [axis[0] * scale_along, normal[0] * scale_across, 0.0],
            [axis[1] * scale_along, normal[1] * scale_across, 0.0],
        ]
    )
    matrix[:, 2] = start - matrix[:, 1] * (ROWS / 2)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    rgb = cv2.warpAffine(
        image, matrix, (COLUMNS, ROWS), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    alpha = cv2.warpAffine(mask.astype(np.float32), matrix, (COLUMNS, ROWS), flags=flags)
    # A little of the rim goes: it holds the ground that the animal stood on.
    alpha = cv2.GaussianBlur(alpha, (0, 0), 6)
    alpha = np.clip((alpha - 0.5) / 0.2, 0, 1).astype(np.float32)
    solid = (alpha > 0.5).astype(np.uint8)
    depth = cv2.distanceTransform(solid, cv2.DIST_L2, 5) / COLUMNS
    half = max(float(depth.max()), 1e-3)
    height = half * np.sqrt(np.clip(1 - (1 - depth / half) ** 2, 0, 1))
    return score, Sprite(np.asarray(rgb, np.uint8), shape_of(alpha, height.astype(np.float32)))


def _ellipse_likeness(
    along: NDArray[np.float64], across: NDArray[np.float64], length: float, width: float
) -> float:
    """Return the overlap (IoU) of a mask's pixels with an ellipse of its length and half width."""
    inside = ((2 * along / length - 1) ** 2 + (across / max(width, 1)) ** 2 <= 1).sum()
    ellipse = np.pi * length / 2 * max(width, 1)
    overlap = float(inside / (len(along) + ellipse - inside))
    return overlap - 0.4 * float(np.clip(2 * width / length - 0.65, 0, 1))


def _foreground(image: Image) -> NDArray[np.uint8]:
    """Return 1 where the animal is (H, W): GrabCut from an ellipse, then one smooth piece."""
    height, width = image.shape[:2]
    mask = np.full((height, width), cv2.GC_BGD, np.uint8)
    centre = (width // 2, height // 2)
    for share, label in ((0.98, cv2.GC_PR_BGD), (0.86, cv2.GC_PR_FGD), (0.4, cv2.GC_FGD)):
        axes = (round(share * width / 2), round(share * height / 2))
        cv2.ellipse(mask, centre, axes, 0, 0, 360, int(label), -1)
    ellipse = np.zeros((height, width), np.uint8)
    cv2.ellipse(ellipse, centre, (width * 46 // 100, height * 46 // 100), 0, 0, 360, 1, -1)
    cv2.setRNGSeed(0)
    try:
        cv2.grabCut(
            cv2.cvtColor(image, cv2.COLOR_RGB2BGR),
            mask,
            None,
            np.zeros((1, 65)),
            np.zeros((1, 65)),
            3,
            cv2.GC_INIT_WITH_MASK,
        )
    except cv2.error:
        return ellipse
    found = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
    found = cv2.morphologyEx(found, cv2.MORPH_CLOSE, kernel)
    found = cv2.morphologyEx(found, cv2.MORPH_OPEN, kernel)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(found)
    if count < 2:
        return ellipse
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    found = (labels == largest).astype(np.uint8)
    return found if 0.15 < found.mean() < 0.92 else ellipse

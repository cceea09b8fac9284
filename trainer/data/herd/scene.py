"""The empty pen: partly slatted floor, stains, trough, walls, and the tubes that hang over it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.vision.types import Floats
from trainer.data.herd.camera import WORLD_HEIGHT, WORLD_WIDTH
from trainer.data.herd.motion import PEN, TROUGH
from trainer.data.herd.noise import fractal_noise, smooth_noise, smoothstep

_MARGIN = 150
_CONCRETE = (157, 151, 141)
_GAP = (46, 42, 37)
_MANURE = (95, 78, 52)


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """Pictures of the pen in world pixels times `scale`, a margin around it.

    floor: float32 (h, w, 3) RGB, without light. bars: float32 (h, w, 4), RGB and alpha 0..1, what
    hangs above the animals. offset: pixel of the world's origin.
    """

    floor: Floats
    bars: Floats
    scale: float
    offset: float

    def seen(self, picture: Floats, world_x: Floats, world_y: Floats) -> Floats:
        """Return `picture` as a camera sees it whose pixels show these world points (H, W)."""
        x = (world_x * self.scale + self.offset - 0.5).astype(np.float32)
        y = (world_y * self.scale + self.offset - 0.5).astype(np.float32)
        return np.asarray(
            cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32
        )


class _Canvas:
    """Draws in world pixels on a picture of another scale."""

    def __init__(self, scale: float, channels: int) -> None:
        self.scale = scale
        self.offset = _MARGIN * scale
        self.height = round((WORLD_HEIGHT + 2 * _MARGIN) * scale)
        self.width = round((WORLD_WIDTH + 2 * _MARGIN) * scale)
        self.picture = np.zeros((self.height, self.width, channels), np.float32)
        columns = (np.arange(self.width, dtype=np.float32) + 0.5 - self.offset) / scale
        rows = (np.arange(self.height, dtype=np.float32) + 0.5 - self.offset) / scale
        self.x, self.y = np.meshgrid(columns, rows)

    def noise(self, rng: np.random.Generator, *cells: float) -> Floats:
        return fractal_noise(rng, self.height, self.width, [cell * self.scale for cell in cells])

    def box(self, x1: float, y1: float, x2: float, y2: float, soft: float = 0.7) -> Floats:
        """Return how far each pixel lies in a box, with edges `soft` world pixels wide."""
        inside_x = np.minimum(self.x - x1, x2 - self.x)
        inside_y = np.minimum(self.y - y1, y2 - self.y)
        return smoothstep(np.minimum(inside_x, inside_y), -soft, soft)

    def paint(self, colour: tuple[int, ...] | Floats, amount: Floats) -> None:
        """Lay a colour over the picture, `amount` (h, w) 0..1 thick."""
        self.picture += (np.asarray(colour, np.float32) - self.picture) * amount[..., None]

    def shade(self, factor: Floats) -> None:
        self.picture *= factor[..., None]


def build_scene(seed: int, scale: float) -> Scene:
    """Draw the pen of one herd; `scale` is frame pixels per world pixel."""
    rng = np.random.default_rng([seed, 3])
    floor = _Canvas(scale, 3)
    _concrete(floor, rng)
    _slats(floor, rng)
    _stains(floor, rng)
    tubes = _tubes(rng)
    _shadows(floor, tubes)
    _surroundings(floor, rng)
    _trough(floor, rng)
    bars = _Canvas(scale, 4)
    for x1, y1, x2, y2, thick in tubes:
        _tube(bars, rng, (x1, y1, x2, y2), thick)
    return Scene(np.clip(floor.picture, 0, 255), bars.picture, scale, floor.offset)


def _concrete(floor: _Canvas, rng: np.random.Generator) -> None:
    floor.picture[:] = np.array(_CONCRETE, np.float32) + rng.normal(0, 2.5, 3).astype(np.float32)
    floor.shade(1 + 0.05 * floor.noise(rng, 260, 90, 30) + 0.035 * floor.noise(rng, 7, 3))


def _slats(floor: _Canvas, rng: np.random.Generator) -> None:
    """Slats of some 15 px with dark gaps, cast in panels; one end of the pen is solid concrete."""
    pitch, gap, panel = rng.uniform(14, 17), rng.uniform(3.0, 3.8), rng.uniform(150, 200)
    phase = rng.uniform(0, pitch)
    share = (floor.y + phase) % pitch
    edge = 0.8
    slot = smoothstep(np.minimum(share, gap - share), -edge, edge)
    seam = np.minimum(floor.x % panel, panel - floor.x % panel)
    slot *= smoothstep(seam, 4.5, 7.0)
    left, _, right, _ = PEN
    solid_left = rng.random() < 0.5
    border = left + 0.25 * (right - left) if solid_left else right - 0.25 * (right - left)
    slatted = (
        smoothstep(floor.x - border, -1, 1) if solid_left else smoothstep(border - floor.x, -1, 1)
    )
    # Each slat is worn a little differently; its far edge catches the light.
    row = ((floor.y + phase) // pitch).astype(np.int64)
    column = (floor.x // panel).astype(np.int64)
    wear = rng.normal(0, 0.03, (256, 64)).astype(np.float32)
    floor.shade(1 + slatted * wear[row % 256, column % 64])
    rim = np.exp(-(((share - gap - 1.2) / 1.0) ** 2)).astype(np.float32)
    floor.shade(1 + 0.10 * rim * slatted)
    floor.paint(_GAP, slot * slatted * 0.93)
    joint = smoothstep(np.abs(floor.x - border), 3.0, 1.0)
    floor.paint((88, 82, 74), 0.7 * joint)


def _stains(floor: _Canvas, rng: np.random.Generator) -> None:
    dung = smoothstep(floor.noise(rng, 300, 110) + 0.5 * floor.noise(rng, 26, 10), 0.5, 1.9)
    floor.paint(_MANURE, 0.62 * dung)
    smears = smooth_noise(rng, floor.height, floor.width, 70 * floor.scale, 9 * floor.scale)
    smears = smoothstep(smears + 0.6 * floor.noise(rng, 180), 1.5, 2.6)
    floor.paint((84, 70, 50), 0.45 * smears)
    wet = smoothstep(floor.noise(rng, 170, 70) + 0.25 * floor.noise(rng, 24), 0.9, 1.35)
    floor.shade(1 - 0.24 * wet)
    glint = smoothstep(floor.noise(rng, 22, 9), 1.2, 2.4) * wet
    floor.paint((205, 210, 214), 0.35 * glint)
    litter = smoothstep(smooth_noise(rng, floor.height, floor.width, 2.6 * floor.scale), 2.5, 3.1)
    floor.paint((176, 150, 98), 0.6 * litter)


def _tubes(rng: np.random.Generator) -> list[tuple[float, float, float, float, float]]:
    """Return tubes over the pen as x1 y1 x2 y2 and thickness: a feed pipe and a tie bar."""
    x = float(rng.uniform(0.55, 0.78)) * WORLD_WIDTH
    y = float(rng.uniform(0.42, 0.62)) * WORLD_HEIGHT
    return [(x, -60.0, x, WORLD_HEIGHT + 60.0, 10.0), (-60.0, y, x, y, 5.0)]


def _shadows(floor: _Canvas, tubes: list[tuple[float, float, float, float, float]]) -> None:
    for x1, y1, x2, y2, thick in tubes:
        half = thick / 2
        shadow = floor.box(x1 - half + 16, y1 - half + 18, x2 + half + 16, y2 + half + 18, 7)
        floor.shade(1 - 0.22 * shadow)


def _tube(
    bars: _Canvas,
    rng: np.random.Generator,
    ends: tuple[float, float, float, float],
    thick: float,
) -> None:
    """A galvanised tube: bright along its middle, dull at its sides."""
    x1, y1, x2, y2 = ends
    half = thick / 2
    across = bars.x - x1 if x1 == x2 else bars.y - y1
    round_ = np.sqrt(np.clip(1 - (across / half) ** 2, 0, 1))
    level = 70 + 118 * round_ * (1 + 0.05 * bars.noise(rng, 30, 8))
    colour = np.stack([level, level * 1.01, level * 1.02, np.full_like(level, 1.0)], axis=-1)
    bars.paint(colour, bars.box(x1 - half, y1 - half, x2 + half, y2 + half))


def _surroundings(floor: _Canvas, rng: np.random.Generator) -> None:
    """Walls of boards between posts, and the dull corridor behind them."""
    left, top, right, bottom = 18.0, 34.0, WORLD_WIDTH - 18.0, WORLD_HEIGHT - 16.0
    # The walls' shadow on the floor.
    distance = np.minimum(
        np.minimum(floor.x - left, right - floor.x), np.minimum(floor.y - top, bottom - floor.y)
    )
    floor.shade(1 - 0.42 * smoothstep(distance, 34, 0))
    outside = smoothstep(distance, 0.7, -0.7)
    corridor = (
        np.array((104, 101, 97), np.float32) * (1 + 0.06 * floor.noise(rng, 90, 24, 6))[..., None]
    )
    floor.paint(corridor.astype(np.float32), outside)
    board = outside * smoothstep(distance, -11.5, -10.5)
    boards = (
        np.array((178, 180, 174), np.float32) * (1 + 0.04 * floor.noise(rng, 60, 12))[..., None]
    )
    floor.paint(boards.astype(np.float32), board)
    ridge = np.exp(-(((distance + 5) / 3) ** 2))
    floor.shade(1 + 0.14 * ridge * board)
    for number in range(9):
        for y in (top - 5.5, bottom + 5.5):
            x = left + number * (right - left) / 8
            floor.paint((120, 122, 122), floor.box(x - 7, y - 8, x + 7, y + 8))
            floor.paint((150, 152, 152), floor.box(x - 4, y - 5, x + 4, y + 5))
    floor.shade(1 - 0.35 * smoothstep(distance, -11, -34) * outside)


def _trough(floor: _Canvas, rng: np.random.Generator) -> None:
    x1, y1, x2, y2 = TROUGH
    floor.shade(1 - 0.45 * floor.box(x1 - 2, y1, x2 + 8, y2 + 9, 6))
    steel = (
        np.array((164, 167, 170), np.float32) * (1 + 0.05 * floor.noise(rng, 120, 18))[..., None]
    )
    floor.paint(steel.astype(np.float32), floor.box(x1, y1, x2, y2))
    floor.paint((92, 92, 92), floor.box(x1 + 5, y1 + 5, x2 - 5, y2 - 5, 1.5))
    depth = smoothstep(np.abs(floor.y - (y1 + y2) / 2 - 3), 22, 6)
    amount = smoothstep(floor.noise(rng, 90, 30), -1.2, 0.3) * depth
    feed = np.array((190, 160, 112), np.float32) * (1 + 0.10 * floor.noise(rng, 5, 2.2))[..., None]
    inner = floor.box(x1 + 6, y1 + 6, x2 - 6, y2 - 6, 1.5)
    floor.paint(feed.astype(np.float32), 0.95 * amount * inner)
    for number in range(1, 10):
        x = x1 + number * (x2 - x1) / 10
        floor.paint((148, 151, 154), floor.box(x - 2.2, y1 + 2, x + 2.2, y2 - 2))


def to_infrared(picture: Floats) -> NDArray[np.float32]:
    """Return a picture (h, w, 3) as an infrared camera sees it: three equal channels."""
    grey = 18 + 0.82 * (picture[..., :3] @ np.array((0.5, 0.32, 0.18), np.float32))
    return np.repeat(grey[..., None], 3, axis=2).astype(np.float32)

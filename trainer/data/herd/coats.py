"""Coats: what tells one animal from another. Painted on the canvas of `body`, once for life."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from edge.vision.types import Floats
from trainer.data.herd.body import COLUMNS, HALF_WIDTH, ROWS, canvas_coordinates
from trainer.data.herd.noise import fractal_noise, smooth_noise, smoothstep

Rgb = tuple[int, int, int]

# Base colour, and the colours its markings may have. Many animals of a herd share a base colour.
_BREEDS: tuple[tuple[str, float, Rgb, tuple[Rgb, ...]], ...] = (
    ("pink", 0.46, (220, 182, 166), ((62, 57, 60), (74, 66, 66), (104, 92, 88), (142, 92, 68))),
    ("white", 0.18, (226, 214, 202), ((60, 56, 60), (70, 62, 62), (112, 102, 98), (146, 98, 70))),
    ("brown", 0.14, (142, 95, 67), ((56, 50, 50), (66, 52, 46), (212, 188, 166))),
    ("grey", 0.10, (136, 126, 122), ((58, 54, 58), (222, 206, 196))),
    ("black", 0.12, (68, 61, 64), ((224, 196, 184), (150, 134, 128))),
)
_SPRAYS: tuple[Rgb, ...] = ((38, 74, 188), (196, 38, 48), (36, 136, 78), (118, 52, 150))
_TAGS: tuple[Rgb, ...] = ((236, 200, 40), (232, 232, 226), (230, 120, 40), (80, 160, 220))
_SKIN: Rgb = (214, 150, 138)
_DIRT: Rgb = (104, 84, 58)


@dataclass(frozen=True, slots=True, eq=False)
class Coat:
    """colour: float32 (R, C, 3) RGB, 0..255. infrared: float32 (R, C), reflectance 0..255."""

    breed: str
    colour: Floats
    infrared: Floats

    def dirtied(self, rng: np.random.Generator, ears: Floats) -> Coat:
        """Return the coat with the dirt of one day: on flanks and rump, never enough to hide it."""
        along, across = canvas_coordinates()
        edge = smoothstep(np.abs(across), 0.04, 0.15) * 0.8 + smoothstep(along, 0.75, 0.95) * 0.5
        field = fractal_noise(rng, ROWS, COLUMNS, (60, 22, 9))
        amount = smoothstep(field + 1.1 * edge, 1.35, 2.6) * rng.uniform(0.25, 0.6)
        amount = (amount * (1 - ears))[..., None].astype(np.float32)
        colour = self.colour * (1 - amount) + np.array(_DIRT, np.float32) * amount
        infrared = self.infrared * (1 - 0.35 * amount[..., 0])
        return Coat(self.breed, colour, infrared.astype(np.float32))


def random_coat(rng: np.random.Generator) -> Coat:
    """Draw a coat: base colour, patches, spots, belt or saddle, spray marks and an ear tag."""
    shares = np.array([share for _, share, _, _ in _BREEDS])
    breed, _, base, markings = _BREEDS[int(rng.choice(len(_BREEDS), p=shares / shares.sum()))]
    coat = np.empty((ROWS, COLUMNS, 3), np.float32)
    coat[:] = np.array(base, np.float32) + rng.normal(0, 5, 3) + rng.normal(0, 7)
    coat = _skin(coat, breed)
    coat = _markings(rng, coat, breed, markings)
    coat *= _hair(rng)[..., None]
    infrared = _infrared(coat)
    coat, infrared = _sprayed(rng, coat, infrared)
    coat, infrared = _tagged(rng, coat, infrared)
    return Coat(breed, np.clip(coat, 0, 255), np.clip(infrared, 0, 255))


def _infrared(coat: Floats) -> Floats:
    """Near infrared: pigment pales, and so does the contrast between coats, but it stays."""
    grey = coat @ np.array((0.55, 0.3, 0.15), np.float32)
    return np.asarray(38 + 0.8 * grey, np.float32)


def _skin(coat: Floats, breed: str) -> Floats:
    """Snout and ears show more skin."""
    along, across = canvas_coordinates()
    amount = 0.75 * smoothstep(along, 0.05, 0.02)
    amount += 0.35 * smoothstep(np.abs(across), 0.075, 0.11) * smoothstep(along, 0.34, 0.28)
    amount *= 0.25 if breed == "black" else 1.0
    return np.asarray(coat + (np.array(_SKIN, np.float32) - coat) * amount[..., None], np.float32)


def _hair(rng: np.random.Generator) -> Floats:
    """Hair runs along the spine; its streaks and the skin's folds differ between animals."""
    streaks = smooth_noise(rng, ROWS, COLUMNS, 14, 2.2)
    broad = fractal_noise(rng, ROWS, COLUMNS, (48, 20))
    return np.asarray(1 + 0.032 * streaks + 0.035 * broad, np.float32)


def _markings(
    rng: np.random.Generator, coat: Floats, breed: str, colours: tuple[Rgb, ...]
) -> Floats:
    """Lay markings over a fair share of the back; a draw with too few or too many is repeated."""
    plain = rng.random() < 0.12
    low, high = (0.03, 0.12) if plain else (0.10, 0.5)
    chosen = rng.permutation(len(colours))[:2]
    for _ in range(20):
        first = _patches(rng, plain)
        second = _spots(rng) if rng.random() < 0.6 else _patches(rng, True)
        back = np.maximum(first, second)[ROWS // 4 : -ROWS // 4, COLUMNS // 5 :]
        if low <= float(back.mean()) <= high:
            break
    for mask, index in ((first, chosen[0]), (second, chosen[-1])):
        tone = np.array(colours[index], np.float32) + rng.normal(0, 5)
        coat = coat + (tone.astype(np.float32) - coat) * mask[..., None]
    return np.asarray(coat, np.float32)


def _patches(rng: np.random.Generator, few: bool) -> Floats:
    """A belt or a saddle now and then, and blobs with ragged edges."""
    along, across = canvas_coordinates()
    field = np.full((ROWS, COLUMNS), -1.0, np.float32)
    kind = rng.random()
    if kind < 0.13 and not few:
        centre, half = rng.uniform(0.33, 0.6), rng.uniform(0.035, 0.1)
        lean = rng.normal(0, 0.25)
        field = np.maximum(field, 1 - np.abs(along - centre - lean * across) / half)
    elif kind < 0.24 and not few:
        centre = (rng.uniform(0.45, 0.75), rng.normal(0, 0.03))
        radii = (rng.uniform(0.12, 0.22), rng.uniform(0.09, 0.14))
        field = np.maximum(field, _blob(rng, along, across, centre, radii))
    for _ in range(int(rng.integers(1, 4) if few else rng.integers(3, 9))):
        centre = (rng.uniform(0.05, 0.93), rng.uniform(-0.14, 0.14))
        radius = float(np.exp(rng.uniform(np.log(0.022), np.log(0.095))))
        radii = (radius * rng.uniform(0.8, 1.6), radius * rng.uniform(0.7, 1.2))
        field = np.maximum(field, _blob(rng, along, across, centre, radii))
    ragged = field + 0.2 * fractal_noise(rng, ROWS, COLUMNS, (20, 9, 4))
    return smoothstep(ragged, -0.06, 0.1)


def _blob(
    rng: np.random.Generator,
    along: Floats,
    across: Floats,
    centre: tuple[float, float],
    radii: tuple[float, float],
) -> Floats:
    """Return 1 at the centre, 0 on a wavy outline, less outside."""
    x, y = (along - centre[0]) / radii[0], (across - centre[1]) / radii[1]
    angle = np.arctan2(y, x)
    outline = np.ones_like(x)
    for order in (2, 3, 5):
        outline += rng.normal(0, 0.24 / np.sqrt(order)) * np.cos(
            order * angle + rng.uniform(0, 6.3)
        )
    return np.asarray(1 - np.hypot(x, y) / np.maximum(outline, 0.35), np.float32)


def _spots(rng: np.random.Generator) -> Floats:
    along, across = canvas_coordinates()
    field = np.full((ROWS, COLUMNS), -1.0, np.float32)
    middle, spread = rng.uniform(0.3, 0.8), rng.uniform(0.12, 0.3)
    for _ in range(int(rng.integers(5, 26))):
        place = (rng.normal(middle, spread), rng.uniform(-0.13, 0.13))
        radius = rng.uniform(0.011, 0.03)
        field = np.maximum(field, _blob(rng, along, across, place, (radius, radius)))
    return smoothstep(field, -0.1, 0.2)


def _sprayed(rng: np.random.Generator, coat: Floats, infrared: Floats) -> tuple[Floats, Floats]:
    """Farmers' marks: lines, crosses and dots on the back; infrared hardly sees the dye."""
    for _ in range(int(rng.choice(3, p=(0.4, 0.42, 0.18)))):
        mask = np.zeros((ROWS, COLUMNS), np.uint8)
        x, y = rng.uniform(0.36, 0.82), rng.uniform(-0.05, 0.05)
        kind = rng.choice(("along", "across", "cross", "dots", "pair"))
        size = rng.uniform(0.05, 0.1)
        tilt = rng.normal(0, 0.25)
        thick = int(rng.integers(7, 12))
        strokes: list[tuple[float, float, float, float]] = []
        if kind in ("along", "cross"):
            strokes.append((x - size, y - size * tilt, x + size, y + size * tilt))
        if kind in ("across", "cross"):
            strokes.append((x + size * tilt, y - size, x - size * tilt, y + size))
        if kind == "pair":
            strokes += [(x + gap, y - size, x + gap, y + size) for gap in (-0.03, 0.03)]
        for x1, y1, x2, y2 in strokes:
            cv2.line(mask, _pixel(x1, y1), _pixel(x2, y2), 255, thick, cv2.LINE_AA)
        if kind == "dots":
            for number in range(int(rng.integers(1, 4))):
                cv2.circle(mask, _pixel(x + 0.055 * number, y), thick, 255, -1, cv2.LINE_AA)
        colour = np.array(_SPRAYS[int(rng.integers(len(_SPRAYS)))], np.float32)
        soft = cv2.GaussianBlur(mask, (0, 0), 2.2).astype(np.float32) / 255
        speckle = np.clip(0.78 + 0.16 * smooth_noise(rng, ROWS, COLUMNS, 3), 0, 0.95)
        amount = (soft * speckle)[..., None]
        coat = coat * (1 - amount) + colour * amount
        infrared = infrared * (1 - 0.05 * soft)
    return np.asarray(coat, np.float32), np.asarray(infrared, np.float32)


def _tagged(rng: np.random.Generator, coat: Floats, infrared: Floats) -> tuple[Floats, Floats]:
    """An ear tag in one ear; every animal may have the same, so it names nobody."""
    if rng.random() < 0.35:
        return coat, infrared
    side = -1 if rng.random() < 0.5 else 1
    mask = np.zeros((ROWS, COLUMNS), np.uint8)
    cv2.circle(mask, _pixel(0.225, side * 0.1), 5, 255, -1, cv2.LINE_AA)
    amount = mask.astype(np.float32)[..., None] / 255
    colour = np.array(_TAGS[int(rng.choice(len(_TAGS), p=(0.7, 0.1, 0.1, 0.1)))], np.float32)
    coat = coat * (1 - amount) + colour * amount
    infrared = infrared * (1 - amount[..., 0]) + 225 * amount[..., 0]
    return np.asarray(coat, np.float32), np.asarray(infrared, np.float32)


def _pixel(along: float, across: float) -> tuple[int, int]:
    return round(along * COLUMNS), round((across + HALF_WIDTH) * COLUMNS)

"""A coat on a body, shaded and brought to the size that a camera sees: what gets drawn."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.vision.types import Floats
from trainer.data.herd.body import COLUMNS, Build, body_shape
from trainer.data.herd.coats import Coat
from trainer.data.herd.sprites import Sprite

# A coat slides over a lying body: more of the upper flank shows.
_ROLL_ROWS = 9


@dataclass(frozen=True, slots=True, eq=False)
class Skin:
    """One posture: rgba uint8 (r, c, 4); the normals' parts along and across, float32 (r, c)."""

    rgba: NDArray[np.uint8]
    along: Floats
    across: Floats

    @property
    def columns(self) -> int:
        """Pixels per body length."""
        return self.rgba.shape[1]


def drawn_skins(
    coat: Coat,
    build: Build,
    rng: np.random.Generator,
    *,
    infrared: bool,
    ambient: float,
    length_px: float,
) -> tuple[Skin, Skin]:
    """Return a drawn animal standing and lying, as dirty as `rng` makes it this session.

    length_px: the animal's length in the frame. ambient: brightness of upright surfaces.
    """
    # Some lie on their side with the legs out, some on the belly with the legs below them.
    side = int(rng.choice((-1, 0, 1), p=(0.35, 0.3, 0.35)))
    standing = body_shape(build)
    coat = coat.dirtied(rng, standing.ears)
    picture = np.repeat(coat.infrared[..., None], 3, axis=2) if infrared else coat.colour
    skins = []
    for shape, shift in ((standing, 0), (body_shape(build, side), side * _ROLL_ROWS)):
        shade = ambient + (1 - ambient) * shape.up
        shade = shade * (1 - 0.30 * _outline(shape.ears))
        shifted = np.roll(picture, shift, axis=0)
        skins.append(
            _sized(shifted * shade[..., None], shape.alpha, shape.along, shape.across, length_px)
        )
    return skins[0], skins[1]


def sprite_skins(
    sprite: Sprite, *, infrared: bool, ambient: float, length_px: float
) -> tuple[Skin, Skin]:
    """Return a real animal's skin, the same standing and lying.

    Its picture holds some light already, so it is shaded half as much as a drawn coat.
    """
    picture = 14 + 0.84 * sprite.rgb.astype(np.float32)
    if infrared:
        grey = 26 + 0.8 * (picture @ np.array((0.45, 0.35, 0.2), np.float32))
        picture = np.repeat(grey[..., None], 3, axis=2)
    shape = sprite.shape
    shade = (1 + ambient) / 2 + (1 - ambient) / 2 * shape.up
    skin = _sized(
        picture * shade[..., None], shape.alpha, 0.6 * shape.along, 0.6 * shape.across, length_px
    )
    return skin, skin


def blended(standing: Skin, lying: Skin, share: float) -> Skin:
    """Return the posture between the two; `share` is 1 for lying."""
    if share <= 0 or standing is lying:
        return standing
    if share >= 1:
        return lying
    return Skin(
        np.asarray(cv2.addWeighted(lying.rgba, share, standing.rgba, 1 - share, 0), np.uint8),
        np.asarray(cv2.addWeighted(lying.along, share, standing.along, 1 - share, 0), np.float32),
        np.asarray(cv2.addWeighted(lying.across, share, standing.across, 1 - share, 0), np.float32),
    )


def lit(skin: Skin, light_along: float, light_across: float) -> NDArray[np.uint8]:
    """Return a skin's rgba with light from one side, given in the body's own directions."""
    shade = cv2.addWeighted(skin.along, 128 * light_along, skin.across, 128 * light_across, 128)
    factor = cv2.convertScaleAbs(np.clip(shade, 0, 255))
    unchanged = np.full_like(factor, 128)
    factors = cv2.merge([factor, factor, factor, unchanged])
    return np.asarray(cv2.multiply(skin.rgba, factors, scale=1 / 128), np.uint8)


def _outline(ears: Floats) -> Floats:
    """The dark rim around the ears, where they stand off the head."""
    wide = cv2.GaussianBlur(cv2.dilate(ears, np.ones((7, 7), np.uint8)), (0, 0), 1.5)
    return np.clip(wide - ears, 0, 1).astype(np.float32)


def _sized(picture: Floats, alpha: Floats, along: Floats, across: Floats, length_px: float) -> Skin:
    """Shrink to a little more than the frame's resolution, so that nothing aliases."""
    unit = int(np.clip(round(1.15 * length_px / 5), 4, COLUMNS // 5))
    size = (5 * unit, 3 * unit)
    # Colours next to the outline must not mix with what lies outside of it.
    solid = (alpha > 0.02).astype(np.float32)
    weight = cv2.GaussianBlur(solid, (0, 0), 4) + 1e-4
    spread = cv2.GaussianBlur(picture * solid[..., None], (0, 0), 4) / weight[..., None]
    picture = np.where(solid[..., None] > 0, picture, spread)
    rgba = np.dstack([picture, alpha * 255]).clip(0, 255).astype(np.float32)
    small = cv2.resize(rgba, size, interpolation=cv2.INTER_AREA)
    return Skin(
        np.round(small).clip(0, 255).astype(np.uint8),
        np.asarray(cv2.resize(along, size, interpolation=cv2.INTER_AREA), np.float32),
        np.asarray(cv2.resize(across, size, interpolation=cv2.INTER_AREA), np.float32),
    )

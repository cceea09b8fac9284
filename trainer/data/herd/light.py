"""Day, dusk and infrared night: how bright each pixel is, and from where light falls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.vision.types import Floats
from trainer.data.herd.camera import WORLD_HEIGHT, WORLD_WIDTH, Camera
from trainer.data.herd.noise import smooth_noise
from trainer.data.herd.options import Light

GAIN_ONE = 128


@dataclass(frozen=True, slots=True, eq=False)
class Lighting:
    """One session's light in one camera.

    gain: uint8 (H, W, 3), GAIN_ONE leaves a pixel as it is. direction: x, y of where light comes
    from, in the frame; its length is how much a slope shows. ambient: brightness of a surface that
    stands upright. shadow: how dark the shadow under an animal is; shadow_px: how far it falls.
    noise: sensor noise, sigma in grey levels. grey: noise is the same in all channels.
    """

    gain: NDArray[np.uint8]
    direction: tuple[float, float]
    ambient: float
    shadow: float
    shadow_px: tuple[float, float]
    noise: float
    grey: bool


def open_lighting(
    light: Light, camera: Camera, seed: int, session: int, world_x: Floats, world_y: Floats
) -> Lighting:
    """Return the light of a session. world_x, world_y: the world point of each pixel (H, W)."""
    pen = np.random.default_rng([seed, 5])
    # Both cameras see the same light, so it must not depend on the camera.
    rng = np.random.default_rng([seed, 6, session])
    angle = pen.uniform(0, 2 * np.pi) + rng.normal(0, 0.15)
    exposure = rng.uniform(0.94, 1.06)
    along = (world_x - WORLD_WIDTH / 2) * np.cos(angle) + (world_y - WORLD_HEIGHT / 2) * np.sin(
        angle
    )
    along = np.clip(along / (WORLD_WIDTH / 2), -1.2, 1.2)
    clouds = smooth_noise(rng, camera.height, camera.width, camera.width / 4)
    tint = np.array(camera.tint, np.float32)
    turned = angle + camera.rotation
    direction = np.array([np.cos(turned), np.sin(turned)])
    far = -direction * camera.scale
    if light == "day":
        level = exposure * (1.0 + 0.10 * along + 0.02 * clouds)
        colour = tint * np.array((1.0, 1.0, 0.985), np.float32)
        look = (0.30, 0.50, 0.42, 7.0, camera.noise)
    elif light == "dusk":
        level = exposure * (0.60 + 0.20 * along + 0.03 * clouds)
        level += 0.22 * _pool(world_x, world_y, pen, 260)
        colour = tint * np.array((1.08, 0.90, 0.73), np.float32)
        look = (0.42, 0.40, 0.5, 11.0, camera.noise * 1.5)
    else:
        level = exposure * (1.12 * _lamp(camera, rng) + 0.02 * clouds)
        colour = np.ones(3, np.float32)
        look = (0.06, 0.30, 0.5, 2.0, camera.noise * 1.7)
    strength, ambient, shadow, length, noise = look
    gain = np.clip(level[..., None] * colour * GAIN_ONE, 0, 255).round().astype(np.uint8)
    return Lighting(
        gain,
        (float(direction[0] * strength), float(direction[1] * strength)),
        ambient,
        shadow,
        (float(far[0] * length), float(far[1] * length)),
        noise,
        light == "night",
    )


def _pool(world_x: Floats, world_y: Floats, rng: np.random.Generator, radius: float) -> Floats:
    """A lamp over one place of the pen."""
    x, y = rng.uniform(0.2, 0.8) * WORLD_WIDTH, rng.uniform(0.25, 0.75) * WORLD_HEIGHT
    return np.exp(-((world_x - x) ** 2 + (world_y - y) ** 2) / (2 * radius**2)).astype(np.float32)


def _lamp(camera: Camera, rng: np.random.Generator) -> Floats:
    """The camera's own infrared lamp: bright in the middle, dull in the corners."""
    x, y = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    middle_x = camera.width * (0.5 + rng.normal(0, 0.03))
    middle_y = camera.height * (0.5 + rng.normal(0, 0.03))
    squares = ((x - middle_x) ** 2 + (y - middle_y) ** 2) / (camera.width / 2) ** 2
    return (0.16 + 0.84 / (1 + 0.95 * squares) ** 1.5).astype(np.float32)

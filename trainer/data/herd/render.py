"""The herd: its animals for life, and the frames a camera sees of them in a session."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import UsageError
from edge.vision.types import Floats, Image
from trainer.data.herd.body import Build, random_build
from trainer.data.herd.camera import Camera, open_camera
from trainer.data.herd.coats import Coat, random_coat
from trainer.data.herd.light import GAIN_ONE, Lighting, open_lighting
from trainer.data.herd.motion import Poses, herd_motion
from trainer.data.herd.options import HerdOptions, SessionPlan, check_options, check_plan
from trainer.data.herd.pose import canvas_patch, spine
from trainer.data.herd.scene import Scene, build_scene, to_infrared
from trainer.data.herd.skins import Skin, blended, drawn_skins, lit, sprite_skins
from trainer.data.herd.sprites import SpriteSheet, read_sprites

# Less than this share, or fewer pixels, is no animal that anybody could box.
_LEAST_VISIBLE = 0.06
_LEAST_PIXELS = 12
# Up to so many animals have their full size in the pen.
_ROOMY = 28
_NOISE_SPARE = 96


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedFrame:
    """A picture with its truth: parallel arrays of the n animals that can be seen.

    image: uint8 (H, W, 3) RGB. boxes: float32 (n, 4) x1 y1 x2 y2 in pixels, tight around what is
    visible. animals: ids. track_ids: int32 (n,), one number per animal and session. visibility:
    float32 (n,), share of the animal's own pixels that nothing hides and the frame holds.
    """

    index: int
    image: Image
    boxes: Floats
    animals: tuple[str, ...]
    track_ids: NDArray[np.int32]
    visibility: Floats


class Herd:
    """Animals with fixed coats and bodies in one pen.

    Raises UsageError for options that cannot be, DataError for sprites that cannot be used.
    """

    def __init__(self, options: HerdOptions) -> None:
        check_options(options)
        self.options = options
        self.animals = options.animal_ids()
        scale = min(1.0, float(np.sqrt(_ROOMY / options.animals)))
        numbers = range(options.first_number, options.first_number + options.animals)
        self.builds: tuple[Build, ...] = tuple(
            random_build(np.random.default_rng([options.seed, 1, number]), scale)
            for number in numbers
        )
        self.sheets: tuple[SpriteSheet, ...] = ()
        self.coats: tuple[Coat, ...] = ()
        if options.sprites is not None:
            self.sheets = read_sprites(options.sprites, options.animals)
            self.builds = tuple(
                replace(build, stoutness=sheet.stoutness)
                for build, sheet in zip(self.builds, self.sheets, strict=True)
            )
        else:
            self.coats = tuple(
                random_coat(np.random.default_rng([options.seed, 2, number])) for number in numbers
            )
        self._scene: Scene | None = None

    def render(self, plan: SessionPlan) -> Iterator[SimulatedFrame]:
        """Yield the frames of a session; the same plan gives the same pixels."""
        check_plan(plan)
        options = self.options
        view = _View(self, plan)
        motion = herd_motion(
            self.builds, plan.seed, plan.light, plan.frames, options.fps, options.pace
        )
        for index, poses in enumerate(motion):
            yield view.draw(index, poses)

    def scene(self, scale: float) -> Scene:
        """Return the empty pen, drawn once."""
        if self._scene is None or self._scene.scale != scale:
            self._scene = build_scene(self.options.seed, scale)
        return self._scene


class _View:
    """One camera in one session: all that does not change from frame to frame."""

    def __init__(self, herd: Herd, plan: SessionPlan) -> None:
        options = herd.options
        self._herd, self._plan = herd, plan
        camera = self._camera = open_camera(plan.camera, options.width, options.height)
        if camera.scale * min(build.length_px for build in herd.builds) < 12:
            raise UsageError(
                f"{options.width}x{options.height} is too small for {options.animals} animals; "
                "ask for larger frames or fewer animals"
            )
        world_x, world_y = camera.world_map()
        night = plan.light == "night"
        self._lighting = open_lighting(
            plan.light, camera, options.seed, plan.seed, world_x, world_y
        )
        scene = herd.scene(min(options.width / 1280, options.height / 720))
        floor = scene.seen(scene.floor, world_x, world_y)
        bars = scene.seen(scene.bars, world_x, world_y)
        if night:
            floor = to_infrared(floor)
            bars[..., :3] = to_infrared(bars)
        gain = self._lighting.gain.astype(np.float32) / GAIN_ONE
        self._floor = np.clip(floor * gain, 0, 255).round().astype(np.uint8)
        self._bar_rows, self._bar_columns = np.nonzero(bars[..., 3] > 0.02)
        inside = bars[self._bar_rows, self._bar_columns]
        light = gain[self._bar_rows, self._bar_columns]
        self._bar_alpha = inside[:, 3:]
        self._bar_colour = np.clip(inside[:, :3] * light, 0, 255) * self._bar_alpha
        self._bar_solid = inside[:, 3] > 0.5
        self._skins = [self._dress(number, night) for number in range(options.animals)]
        self._blur = camera.blur * options.width / 1280
        self._noise = _noise_field(camera, self._lighting, [options.seed, 8, plan.seed])
        ranks = np.random.default_rng([options.seed, 7, plan.seed])
        self._ranks = ranks.permutation(options.animals) / options.animals

    def _dress(self, number: int, night: bool) -> tuple[Skin, Skin]:
        herd, plan = self._herd, self._plan
        length = herd.builds[number].length_px * self._camera.scale
        rng = np.random.default_rng([herd.options.seed, 4, plan.seed, number])
        if herd.sheets:
            sprites = herd.sheets[number].sprites
            sprite = sprites[int(rng.integers(len(sprites)))]
            return sprite_skins(
                sprite,
                infrared=night,
                ambient=self._lighting.ambient,
                length_px=length,
            )
        return drawn_skins(
            herd.coats[number],
            herd.builds[number],
            rng,
            infrared=night,
            ambient=self._lighting.ambient,
            length_px=length,
        )

    def draw(self, index: int, poses: Poses) -> SimulatedFrame:
        image = self._floor.copy()
        owners = np.zeros(image.shape[:2], np.uint8)
        areas = np.zeros(len(self._skins), np.int64)
        windows = [(0, 0, 0, 0)] * len(self._skins)
        # Who lies is lower than who stands; among equals the order stays the same.
        for number in np.argsort(self._ranks - 2 * poses.lying, kind="stable"):
            areas[number], windows[number] = self._draw_animal(image, owners, poses, int(number))
        rows, columns = self._bar_rows, self._bar_columns
        covered = image[rows, columns] * (1 - self._bar_alpha) + self._bar_colour
        image[rows, columns] = covered.astype(np.uint8)
        owners[rows[self._bar_solid], columns[self._bar_solid]] = 0
        image = self._sense(image, index)
        return self._truth(index, image, owners, areas, windows)

    def _draw_animal(
        self, image: Image, owners: NDArray[np.uint8], poses: Poses, number: int
    ) -> tuple[int, tuple[int, int, int, int]]:
        """Draw one animal; return its pixels, seen or not, and its window x1 y1 x2 y2."""
        camera, lighting = self._camera, self._lighting
        heading = float(poses.headings[number])
        points = spine(
            poses.places[number],
            heading,
            float(poses.front[number]),
            float(poses.rear[number]),
            float(poses.head[number]),
            self._herd.builds[number].length_px,
        )
        skin = blended(*self._skins[number], float(poses.lying[number]))
        patch = canvas_patch(points, float(poses.breath[number]), skin.columns, camera)
        turned = heading + camera.rotation
        light_x, light_y = lighting.direction
        rgba = lit(
            skin,
            -light_x * np.cos(turned) - light_y * np.sin(turned),
            light_x * np.sin(turned) - light_y * np.cos(turned),
        )
        drawn = cv2.remap(rgba, patch.map_x, patch.map_y, cv2.INTER_LINEAR)
        area = int(np.count_nonzero(drawn[..., 3] > 127))

        height, width = drawn.shape[:2]
        x1, y1 = max(0, patch.left), max(0, patch.top)
        x2 = min(image.shape[1], patch.left + width)
        y2 = min(image.shape[0], patch.top + height)
        if x1 >= x2 or y1 >= y2:
            return area, (0, 0, 0, 0)
        inner = (slice(y1 - patch.top, y2 - patch.top), slice(x1 - patch.left, x2 - patch.left))
        window = (slice(y1, y2), slice(x1, x2))
        alpha = drawn[..., 3]
        under = cv2.multiply(image[window], self._shade(alpha)[inner], scale=1 / 255)
        colour = cv2.multiply(drawn[inner][..., :3], lighting.gain[window], scale=1 / GAIN_ONE)
        alpha = alpha[inner]
        alphas = cv2.merge([alpha, alpha, alpha])
        over = cv2.multiply(colour, alphas, scale=1 / 255)
        image[window] = cv2.add(over, cv2.multiply(under, cv2.bitwise_not(alphas), scale=1 / 255))
        owners[window][alpha > 127] = number + 1
        return area, (x1, y1, x2, y2)

    def _shade(self, alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the soft shadow of a patch: 255 leaves what is below as it is; three channels."""
        lighting = self._lighting
        size = max(3, round(13 * self._camera.scale) | 1)
        x, y = lighting.shadow_px
        moved = cv2.warpAffine(
            alpha, np.array([[1, 0, x], [0, 1, y]]), (alpha.shape[1], alpha.shape[0])
        )
        soft = cv2.blur(moved, (size, size))
        shade = cv2.convertScaleAbs(soft, alpha=-lighting.shadow, beta=255)
        return np.asarray(cv2.merge([shade, shade, shade]), np.uint8)

    def _sense(self, image: Image, index: int) -> Image:
        """Lens blur and sensor noise."""
        if self._blur > 0.2:
            image = cv2.GaussianBlur(image, (3, 3), self._blur)
        rng = np.random.default_rng([self._plan.seed, self._plan.camera, index])
        y, x = rng.integers(0, _NOISE_SPARE, 2)
        height, width = image.shape[:2]
        window = self._noise[y : y + height, x : x + width]
        return np.asarray(cv2.add(image, window, dtype=cv2.CV_8U), np.uint8)

    def _truth(
        self,
        index: int,
        image: Image,
        owners: NDArray[np.uint8],
        areas: NDArray[np.int64],
        windows: list[tuple[int, int, int, int]],
    ) -> SimulatedFrame:
        boxes, seen, visibility = [], [], []
        for number, (x1, y1, x2, y2) in enumerate(windows):
            if x1 >= x2:
                continue
            own = cv2.compare(owners[y1:y2, x1:x2], number + 1, cv2.CMP_EQ)
            pixels = cv2.countNonZero(own)
            share = pixels / max(1, areas[number])
            if pixels < _LEAST_PIXELS or share < _LEAST_VISIBLE:
                continue
            left, top, width, height = cv2.boundingRect(own)
            boxes.append((x1 + left, y1 + top, x1 + left + width, y1 + top + height))
            seen.append(number)
            visibility.append(share)
        return SimulatedFrame(
            index,
            image,
            np.array(boxes, np.float32).reshape(-1, 4),
            tuple(self._herd.animals[number] for number in seen),
            np.array(seen, np.int32) + np.int32(1),
            np.array(visibility, np.float32),
        )


def _noise_field(camera: Camera, lighting: Lighting, seed: list[int]) -> NDArray[np.int16]:
    """Return a field larger than the frame; each frame's noise is a window of it."""
    rng = np.random.default_rng([*seed, round(1000 * camera.noise)])
    channels = 1 if lighting.grey else 3
    shape = (camera.height + _NOISE_SPARE, camera.width + _NOISE_SPARE, channels)
    field = rng.standard_normal(shape, np.float32) * lighting.noise
    # Neighbouring pixels share some of their noise: demosaicing and compression see to that.
    field = np.asarray(cv2.GaussianBlur(field, (3, 3), 0.55) * 1.35).reshape(shape)
    return np.round(np.repeat(field, 3 // channels, axis=2)).astype(np.int16)

"""What of a camera's picture is looked at: a region of it, and not what a mask hides.

A region is cut out before the detector, so that small animals get more of its pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import UsageError
from edge.vision.geometry import Colour
from edge.vision.types import Image

RelativeBox = tuple[float, float, float, float]
Polygon = Sequence[tuple[float, float]]

WHOLE: RelativeBox = (0.0, 0.0, 1.0, 1.0)
# Grey, as around a letterboxed picture: the detector has learned that nothing is there.
_HIDDEN: Colour = (114, 114, 114)
_DARK = 128
_TRIAL_SIDE = 256


@dataclass(frozen=True, slots=True)
class Window:
    """The region in whole pixels of a frame, and a frame of the hidden colour with the mask.

    visible: uint8 (H, W) of the region, 255 where it is looked at, 0 where it is hidden; None
    where nothing is.
    """

    x1: int
    y1: int
    x2: int
    y2: int
    visible: NDArray[np.uint8] | None
    blank: Image


class View:
    """A region and a mask, both relative to the whole picture, whatever its size.

    region: x1 y1 x2 y2, 0..1. polygons: corners (x, y), 0..1, of what is hidden. stencil: uint8
    (h, w) of the whole picture, dark (below 128) where it is hidden. Raises UsageError for a
    region without extent and for a mask that hides all of it.
    """

    def __init__(
        self,
        region: RelativeBox = WHOLE,
        polygons: Sequence[Polygon] = (),
        stencil: NDArray[np.uint8] | None = None,
    ) -> None:
        x1, y1, x2, y2 = region
        if not (0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1):
            raise UsageError(
                f"region {list(region)}: expected [x1, y1, x2, y2] with 0 <= x1 < x2 <= 1 and "
                "0 <= y1 < y2 <= 1, as fractions of the picture"
            )
        self._region = region
        self._polygons = [np.array(polygon, np.float64).reshape(-1, 2) for polygon in polygons]
        self._stencil = stencil
        self._windows: dict[tuple[int, int], Window] = {}
        trial = self._make_window(_TRIAL_SIDE, _TRIAL_SIDE)
        if trial.visible is not None and not trial.visible.any():
            raise UsageError("mask: hides all there is to look at")

    def window(self, height: int, width: int) -> Window:
        """Return the part of a frame of this size that is looked at."""
        window = self._windows.get((height, width))
        if window is None:
            # A camera has one size; one that was set to another needs the old one no more.
            window = self._make_window(height, width)
            self._windows = {(height, width): window}
        return window

    def look(self, image: Image) -> Image:
        """Return the region of an image (H, W, 3), what is hidden grey; the image stays as it is.

        Without a mask the region shares its memory with the image.
        """
        window = self.window(*image.shape[:2])
        part = image[window.y1 : window.y2, window.x1 : window.x2]
        if window.visible is None:
            return part
        return np.asarray(cv2.copyTo(part, window.visible, window.blank.copy()), np.uint8)

    def _make_window(self, height: int, width: int) -> Window:
        x1, x2 = _pixels(self._region[0], self._region[2], width)
        y1, y2 = _pixels(self._region[1], self._region[3], height)
        blank = np.empty((y2 - y1, x2 - x1, 3), np.uint8)
        blank[:] = _HIDDEN
        if not self._polygons and self._stencil is None:
            return Window(x1, y1, x2, y2, None, blank)
        visible = np.full((height, width), 255, np.uint8)
        for polygon in self._polygons:
            corners = np.round(polygon * (width, height)).astype(np.int32)
            cv2.fillPoly(visible, [corners], 0)
        if self._stencil is not None:
            scaled = cv2.resize(self._stencil, (width, height), interpolation=cv2.INTER_NEAREST)
            visible[np.asarray(scaled) < _DARK] = 0
        part = np.ascontiguousarray(visible[y1:y2, x1:x2])
        return Window(x1, y1, x2, y2, None if part.all() else part, blank)


def make_view(region: RelativeBox | None, mask: Sequence[Polygon] | str | None) -> View | None:
    """Return the view of a camera's settings; None for all of the picture.

    mask: polygons, or the file of a picture that is dark where nothing is to be looked at. Raises
    UsageError where `View` does, and for a file that is no picture.
    """
    if region is None and not mask:
        return None
    if isinstance(mask, str):
        return View(region or WHOLE, stencil=read_stencil(Path(mask)))
    return View(region or WHOLE, mask or ())


def read_stencil(path: Path) -> NDArray[np.uint8]:
    """Return a mask's picture as grey levels (h, w); UsageError for a file that is none."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise UsageError(f"{path}: mask cannot be read: {error.strerror or error}") from error
    try:
        grey = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE) if data.size else None
    except cv2.error:
        grey = None
    if grey is None:
        raise UsageError(f"{path}: mask is no picture; a PNG, dark where nothing is looked at")
    return np.asarray(grey, np.uint8)


def _pixels(low: float, high: float, count: int) -> tuple[int, int]:
    """Return the pixels from `low` to `high`, rounded outwards, at least one."""
    first = min(int(np.floor(low * count)), count - 1)
    return first, min(count, max(first + 1, int(np.ceil(high * count))))

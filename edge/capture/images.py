"""A folder of images as a source, and the reading of single images."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from edge.capture.clock import wall_time
from edge.capture.source import SourceOptions
from edge.errors import SourceError, UsageError
from edge.vision.types import Frame, Image

LOG = logging.getLogger("earmark.capture")
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
_FPS_IF_UNKNOWN = 10.0
# So many unreadable images are told one by one.
_MOST_TOLD = 3


def read_image(path: Path) -> Image:
    """Return an image file as uint8 (H, W, 3) RGB, upright; SourceError names one that is none."""
    try:
        image = decode_image(path)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error
    if image is None:
        raise SourceError(f"{path}: not a readable image; remove or replace it")
    return image


def decode_image(path: Path) -> Image | None:
    """Return an image file as uint8 (H, W, 3) RGB, upright, or None for what is no image.

    Raises OSError when the file cannot be read at all.
    """
    data = np.fromfile(path, np.uint8)
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error:
        return None
    return None if image is None else np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def find_images(folder: Path) -> list[Path]:
    """Return the image files under a folder, sorted; hidden ones are left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


class ImageFolder:
    """The images of a folder in the order of their names, as if a camera had taken them.

    monotonic_s is index / fps, of the option `fps` or 10. Images that cannot be read are told of
    and left out, and keep their index.
    """

    live = False
    dropped = 0
    link = None

    def __init__(
        self,
        folder: Path,
        camera: str,
        options: SourceOptions,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not folder.is_dir():
            raise UsageError(f"{folder}: no such folder")
        self._paths: Sequence[Path] = find_images(folder)
        if not self._paths:
            kinds = ", ".join(sorted(IMAGE_SUFFIXES))
            raise UsageError(f"{folder}: holds no images ({kinds})")
        self.camera = camera
        self._folder = folder
        self.fps = options.fps or _FPS_IF_UNKNOWN
        self._options = options
        self._clock = clock
        self._closed = threading.Event()
        self._unreadable: dict[Path, str] = {}

    @property
    def finite(self) -> bool:
        """Whether the frames end by themselves."""
        return not self._options.loop

    @property
    def unreadable(self) -> int:
        """How many images were left out because they could not be read."""
        return len(self._unreadable)

    def frames(self) -> Iterator[Frame]:
        """Yield the images; SourceError when a whole pass has none that can be read."""
        started = self._clock()
        index = 0
        while True:
            told = self.unreadable
            shown = 0
            for path in self._paths:
                if self._closed.is_set():
                    return
                try:
                    image = read_image(path)
                except SourceError as error:
                    self._leave_out(path, str(error))
                    index += 1
                    continue
                shown += 1
                due_s = index / self.fps
                if self._options.realtime:
                    self._closed.wait(max(0.0, started + due_s - self._clock()))
                if self._closed.is_set():
                    return
                yield Frame(image, self.camera, index, due_s, wall_time())
                index += 1
            if not shown:
                why = next(iter(self._unreadable.values()))
                raise SourceError(f"{self._folder}: none of its images can be read; {why}")
            if self.unreadable > max(told, _MOST_TOLD):
                LOG.warning(
                    "%s: %d of %d images were left out, they cannot be read",
                    self._folder,
                    self.unreadable,
                    len(self._paths),
                )
            if self.finite:
                return

    def _leave_out(self, path: Path, why: str) -> None:
        if path not in self._unreadable:
            self._unreadable[path] = why
            if self.unreadable <= _MOST_TOLD:
                LOG.warning("%s; left out", why)

    def close(self) -> None:
        """End `frames` soon."""
        self._closed.set()

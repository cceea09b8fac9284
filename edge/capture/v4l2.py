"""Cameras of the machine itself: Video4Linux devices such as a USB camera."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from edge.errors import SourceError
from edge.vision.types import Image


class V4l2Grabber:
    """One opening of a device. OpenCV gives up on a picture by itself after ten seconds."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._capture: Any = cv2.VideoCapture(device, cv2.CAP_V4L2)
        if not self._capture.isOpened():
            self._capture.release()
            raise SourceError(
                f"{device}: cannot be opened; is the camera plugged in, not in use elsewhere, and "
                "this user in the group video?"
            )

    def read(self) -> Image:
        """Wait for the next picture, uint8 (H, W, 3) RGB."""
        readable, image = self._capture.read()
        if not readable or image is None:
            raise SourceError(f"{self._device}: gives no more frames; is it still plugged in?")
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)

    def kill(self) -> None:
        """Do nothing: releasing a capture under a reading thread crashes OpenCV."""

    def close(self) -> None:
        """Let go of the device."""
        self._capture.release()

"""OpenCV, as quiet as it can be: what is wrong with a file is ours to say, once."""

from __future__ import annotations

import os

import cv2


def silence_opencv() -> None:
    """Keep OpenCV's own complaints from the terminal, unless OPENCV_LOG_LEVEL wants them."""
    # Read by OpenCV when it first opens a video.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    if "OPENCV_LOG_LEVEL" in os.environ:
        return
    if hasattr(cv2.utils, "logging"):
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    else:  # before OpenCV 5
        cv2.setLogLevel(0)  # type: ignore[attr-defined]

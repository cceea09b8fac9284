"""From pixels to a model's input tensor."""

# Not in runtime.py: the inference process loads that one, and has no use for OpenCV's memory.

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.vision.types import Image


def quantise(image: Image, table: NDArray[Any]) -> NDArray[Any]:
    """Return the tensor (H, W, 3) of an image uint8 (H, W, 3): the table's value for each pixel.

    table: (256,), of the tensor's dtype. The same as `table[image]` to the bit, and quicker.
    """
    return np.asarray(cv2.LUT(image, table), table.dtype)

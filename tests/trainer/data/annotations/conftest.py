from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import DataError
from trainer.data.annotations import read_frames

Picture = Callable[..., Path]
Refused = Callable[..., str]


@pytest.fixture
def picture() -> Picture:
    """Writes a noisy picture of 40x20 pixels, or of another size."""

    def write(path: Path, width: int = 40, height: int = 20, seed: int = 0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(seed).integers(0, 255, (height, width, 3))
        assert cv2.imwrite(str(path), noise.astype(np.uint8))
        return path

    return write


@pytest.fixture
def refused() -> Refused:
    """Reads what cannot be read and returns the one line that says why."""

    def read(source: Path, **arguments: object) -> str:
        with pytest.raises(DataError) as caught:
            read_frames(source, **arguments)  # type: ignore[arg-type]
        message = str(caught.value)
        assert "\n" not in message
        return message

    return read

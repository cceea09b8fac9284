"""An embedder that sees colours, and crops of one colour each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.identity.means import ClassMeans, MeansHeader
from edge.vision.types import Floats

COLOURS = {
    "red": (230, 20, 20),
    "green": (20, 230, 20),
    "blue": (20, 20, 230),
    "grey": (120, 120, 120),
    "orange": (230, 120, 20),
}


class ColourEmbedder:
    """The mean colour of a crop as a unit vector. tilt: how far it strays towards blue."""

    size = 16
    dimension = 3
    letterbox_colour = (114, 114, 114)
    gallery_turns = 1

    def __init__(self, tilt: float = 0.0) -> None:
        self._tilt = tilt

    def embed(self, crops: np.ndarray, turns: int | None = None) -> Floats:
        means = crops.reshape(len(crops), -1, 3).mean(axis=1)
        means[:, 2] += 255 * self._tilt
        return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def colour_embedder() -> Callable[..., ColourEmbedder]:
    """Call (with a tilt) for an embedder."""
    return ColourEmbedder


@pytest.fixture
def colour_means() -> ClassMeans:
    """Red, with two prototypes and a threshold of its own, and green."""
    prototypes = np.array([COLOURS["red"], COLOURS["orange"], COLOURS["green"]], np.float32)
    prototypes /= np.linalg.norm(prototypes, axis=1, keepdims=True)
    return ClassMeans(
        ("green", "red"),
        prototypes,
        np.array([1, 1, 0], np.int32),
        np.zeros((2, 3)),
        np.zeros(2, np.int64),
        np.array([0.2, 0.1], np.float32),
        0.05,
        MeansHeader(seq=4, calibration={"threshold": 0.15}),
    )


@pytest.fixture
def draw_crops(tmp_path: Path) -> Callable[..., Path]:
    """Call with a folder's name and `{"animal/session_frame": colour}`; return the folder."""

    def draw(folder: str, crops: dict[str, str]) -> Path:
        for name, colour in crops.items():
            path = tmp_path / folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.full((20, 20, 3), COLOURS[colour][::-1], np.uint8))
        return tmp_path / folder

    return draw

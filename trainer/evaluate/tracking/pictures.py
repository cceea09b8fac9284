"""Path pictures: where each animal went, and where its name went, side by side by tracker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.vision.geometry import Colour
from edge.vision.types import Image
from trainer.evaluate.tracking.paths import NamePath, path_counts
from trainer.pictures import jpeg, shrunk, tile_sheet

# Told apart by the colour-blind, too; RGB.
_TRUE: Colour = (255, 255, 255)
_NEAR: Colour = (0, 158, 115)
_FAR: Colour = (213, 94, 0)
_PANEL_PX = 400
_DIM = 0.45
_COLUMNS = 3


def path_sheet(still: Image, paths: Mapping[str, Mapping[str, NamePath]]) -> bytes | None:
    """Return a JPEG: a row an animal, a column a tracker (one tracker: three animals a row).

    None without animals.

    still: a frame of the clip (H, W, 3). paths: by tracker, then by animal. The true path is
    white; the name's is green where it is within a body length of the animal and orange where it
    is not. A ring marks where each begins, a dot where it ends.
    """
    animals = sorted({animal for own in paths.values() for animal in own})
    if not animals:
        return None
    ground = shrunk((still * _DIM).astype(np.uint8), _PANEL_PX)
    scale = ground.shape[1] / still.shape[1]
    tiles, captions = [], []
    for animal in animals:
        for tracker, own in paths.items():
            tiles.append(path_panel(ground, own[animal], scale))
            captions.append(f"{animal}, {tracker}\n{_distances(own[animal])}")
    size = (ground.shape[0], ground.shape[1])
    columns = len(paths) if len(paths) > 1 else _COLUMNS
    return jpeg(tile_sheet(tiles, captions, size, columns))


def path_panel(ground: Image, path: NamePath, scale: float) -> Image:
    """Return a copy of `ground` (H, W, 3) with one animal's paths, in pixels of it by `scale`."""
    canvas = ground.copy()
    _line(canvas, path.true * scale, [_TRUE] * len(path.true))
    far = ~(path.gaps(held=False) <= path.length_px)
    # Where the animal is nowhere, its name is far from it.
    _line(canvas, path.named * scale, [_FAR if off else _NEAR for off in far])
    return canvas


def _distances(path: NamePath) -> str:
    counts = path_counts(path)
    full = counts.full_lengths / counts.full_frames if counts.full_frames else float("nan")
    if not counts.partial_frames:
        return f"full {full:.2f} body lengths, never named"
    partial = counts.partial_lengths / counts.partial_frames
    return f"full {full:.2f}, partial {partial:.2f} body lengths"


def _line(canvas: Image, places: NDArray[np.float64], colours: Sequence[Colour]) -> None:
    """Draw a path (F, 2), a break where it has no place; a piece is as far off as its worse end."""
    known = np.flatnonzero(np.isfinite(places[:, 0]))
    points = np.nan_to_num(places).round().astype(int)
    for before, after in pairwise(known):
        if after == before + 1:
            ends = points[before].tolist(), points[after].tolist()
            worse = before if colours[before] == _FAR else after
            cv2.line(canvas, *ends, colours[worse], 1, cv2.LINE_AA)
        else:
            cv2.circle(canvas, points[after].tolist(), 1, colours[after], -1, cv2.LINE_AA)
    if len(known):
        cv2.circle(canvas, points[known[0]].tolist(), 4, colours[known[0]], 1, cv2.LINE_AA)
        cv2.circle(canvas, points[known[-1]].tolist(), 3, colours[known[-1]], -1, cv2.LINE_AA)

"""Drawing with pixels alone: contact sheets, boxes on frames, JPEG bytes. Images are RGB."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from edge.vision.geometry import Colour
from edge.vision.types import Floats, Image

_FONT, _FONT_SCALE, _INK = cv2.FONT_HERSHEY_SIMPLEX, 0.35, (20, 20, 20)
_CAPTION_LINE = 15


def contact_sheet(
    tiles: Sequence[Image],
    captions: Sequence[str],
    tile: int = 96,
    columns: int = 10,
    *,
    frames: Sequence[Colour] | None = None,
) -> bytes:
    """Return a JPEG of square tiles (S, S, 3) RGB with a caption under each.

    A caption may have several lines; what is too long for its tile is cut. frames: a colour for
    each tile's frame.
    """
    return jpeg(tile_sheet(tiles, captions, (tile, tile), columns, frames=frames))


def tile_sheet(
    tiles: Sequence[Image],
    captions: Sequence[str],
    size: tuple[int, int],
    columns: int,
    *,
    frames: Sequence[Colour] | None = None,
) -> Image:
    """Return a sheet as `contact_sheet`, of tiles that are stretched to `size` (height, width)."""
    if not tiles:
        raise ValueError("a contact sheet needs at least one tile")
    height, width = size
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    strip = _CAPTION_LINE * max(caption.count("\n") + 1 for caption in captions)
    sheet = np.full((rows * (height + strip), columns * width, 3), 255, np.uint8)
    for number, (image, caption) in enumerate(zip(tiles, captions, strict=True)):
        y, x = number // columns * (height + strip), number % columns * width
        sheet[y : y + height, x : x + width] = cv2.resize(
            image, (width, height), interpolation=cv2.INTER_AREA
        )
        if frames is not None:
            corner = (x + width - 3, y + height - 3)
            cv2.rectangle(sheet, (x + 2, y + 2), corner, frames[number], 3)
        for line, text in enumerate(caption.split("\n")):
            baseline = (x + 2, y + height + _CAPTION_LINE * line + 11)
            cv2.putText(
                sheet, _fitting(text, width - 4), baseline, _FONT, _FONT_SCALE, _INK, 1, cv2.LINE_AA
            )
    return sheet


def _fitting(text: str, width: int) -> str:
    """Return as much of a line as fits into so many pixels."""
    if cv2.getTextSize(text, _FONT, _FONT_SCALE, 1)[0][0] <= width:
        return text
    while text and cv2.getTextSize(text + "..", _FONT, _FONT_SCALE, 1)[0][0] > width:
        text = text[:-1]
    return text + ".."


def boxed(image: Image, boxes: Floats, truth: Floats, width: int = 720) -> bytes:
    """Return a JPEG of a frame (H, W, 3): true boxes (M, 4) thin white, found (N, 4) green."""
    canvas = image.copy()
    for box in truth.astype(int):
        cv2.rectangle(canvas, box[:2].tolist(), box[2:].tolist(), (255, 255, 255), 1)
    for box in boxes.astype(int):
        cv2.rectangle(canvas, box[:2].tolist(), box[2:].tolist(), (40, 220, 80), 2)
    return jpeg(shrunk(canvas, width))


def shrunk(image: Image, width: int) -> Image:
    """Return an image (H, W, 3) at most `width` pixels wide."""
    scale = min(1.0, width / image.shape[1])
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def jpeg(image: Image, quality: int = 82) -> bytes:
    """Return an image (H, W, 3) RGB as JPEG bytes."""
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    if not done:
        raise ValueError(f"an image of shape {image.shape} cannot be encoded")
    return bytes(data)

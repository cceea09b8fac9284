"""A contact sheet of annotated frames: are the boxes where the animals are?"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from edge.draw import animal_colour
from edge.errors import DataError, UsageError
from edge.files import write_atomically
from edge.vision.geometry import Colour, intersection_matrix, letterbox
from edge.vision.types import Floats, Image
from trainer.data.crops import load_image
from trainer.data.frames import FrameSet
from trainer.progress import Report, silent

SUFFIXES = (".jpg", ".jpeg", ".png")
_TILE_WIDTH, _GAP, _STRIP = 480, 6, 20
_MOST_COLUMNS = 4
_FONT, _SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.42
_PAPER, _INK, _DARK = (255, 255, 255), (20, 20, 20), (15, 15, 15)


def check_target(out: Path) -> None:
    """Raise UsageError for a file that no sheet can be written as."""
    if out.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{out}: must end in {', '.join(SUFFIXES)}")
    if out.exists():
        raise UsageError(f"{out}: exists already; choose another --out")


def write_preview(
    frames: FrameSet, out: Path, count: int, seed: int, report: Report = silent
) -> int:
    """Draw `count` frames, chosen by `seed`, on one sheet (JPEG or PNG); return how many."""
    check_target(out)
    if not len(frames):
        raise DataError("there are no frames to draw")
    chosen = np.random.default_rng(seed).permutation(len(frames))[:count]
    sheet = contact_sheet(frames.select(np.sort(chosen)), report)
    done, data = cv2.imencode(out.suffix.lower(), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    if not done:
        raise DataError(f"{out}: a sheet of {len(chosen)} frames is too large; lower --count")
    write_atomically(out, data.tobytes())
    return len(chosen)


def contact_sheet(frames: FrameSet, report: Report = silent) -> Image:
    """Return all frames (N ≥ 1) with boxes, classes and animals: uint8 (H, W, 3) RGB.

    An animal's colour is always the same; without an id a class's is. Under each frame stands its
    file, its session and the number of its boxes.
    """
    columns = min(_MOST_COLUMNS, int(np.ceil(np.sqrt(len(frames)))))
    rows = -(-len(frames) // columns)
    height = 0
    sheet = np.empty((0, 0, 3), np.uint8)
    for row, path in enumerate(frames.paths):
        image = load_image(path)
        if not height:
            # As the first frame: most sets come from one kind of camera.
            ratio = image.shape[0] / image.shape[1]
            height = round(_TILE_WIDTH * min(1.5, max(0.4, ratio)))
            cell = (height + _STRIP + _GAP, _TILE_WIDTH + _GAP)
            sheet = np.full((rows * cell[0] + _GAP, columns * cell[1] + _GAP, 3), _PAPER, np.uint8)
        tile = _drawn(image, frames, row, (height, _TILE_WIDTH))
        y, x = row // columns * cell[0] + _GAP, row % columns * cell[1] + _GAP
        sheet[y : y + height, x : x + _TILE_WIDTH] = tile
        boxes = len(frames.boxes[row])
        caption = f"{path.name}  {boxes} box{'' if boxes == 1 else 'es'}"
        if frames.sessions[row] not in path.name:
            caption = f"{frames.sessions[row]}  {caption}"
        _write(sheet, _fitting(caption), (x + 2, y + height + 14), _INK)
        report(row + 1, len(frames))
    return sheet


def _drawn(image: Image, frames: FrameSet, row: int, size: tuple[int, int]) -> Image:
    """Return one frame at `size` (height, width) with what is known of it."""
    tile, box = letterbox(image, size)
    tile = np.ascontiguousarray(tile).copy()
    boxes = box.to_target(frames.boxes[row])
    marks = []
    for corners, label, animal in zip(boxes, frames.classes[row], frames.animals[row], strict=True):
        name = frames.class_names[label]
        colour = animal_colour(name if animal is None else animal)
        several = animal is None or len(frames.class_names) > 1
        marks.append((corners, " ".join([name] * several + [animal or ""]).strip(), colour))
        low, high = np.round(corners).astype(int).reshape(2, 2).tolist()
        cv2.rectangle(tile, low, high, colour, 2)
    # Names are drawn last, so that no neighbour's box crosses them.
    taken = np.empty((0, 4), np.float32)
    for corners, text, colour in marks:
        plate = _spot(tile, corners, text, taken)
        taken = np.concatenate([taken, plate[None]])
        x1, y1, x2, y2 = plate.astype(int).tolist()
        cv2.rectangle(tile, (x1, y1), (x2, y2), colour, -1)
        _write(tile, text, (x1 + 2, y2 - 3), _DARK)
    return tile


def _spot(tile: Image, corners: Floats, text: str, taken: Floats) -> Floats:
    """Return the plate (4,) of a name: above its box or below, or inside it, off others' plates."""
    (width, height), _ = cv2.getTextSize(text, _FONT, _SCALE, 1)
    width, height = width + 3, height + 4
    x1, y1, x2, y2 = corners
    places = [(x1, y1 - height), (x1, y2), (x2 - width, y1 - height), (x2 - width, y2), (x1, y1)]
    limits = np.array([tile.shape[1] - width - 1, tile.shape[0] - height - 1], np.float32)
    low = np.clip(np.array(places, np.float32), 0, np.maximum(limits, 0))
    plates = np.concatenate([low, low + np.array([width, height], np.float32)], axis=1)
    covered = intersection_matrix(plates, taken).sum(axis=1)
    return np.asarray(plates[int(covered.argmin())], np.float32)


def _write(image: Image, text: str, place: tuple[int, int], colour: Colour) -> None:
    cv2.putText(image, text, place, _FONT, _SCALE, colour, 1, cv2.LINE_AA)


def _fitting(text: str) -> str:
    """Return the end of a line that fits under a tile: the end tells files apart."""
    short = text
    while cv2.getTextSize(short, _FONT, _SCALE, 1)[0][0] > _TILE_WIDTH - 4:
        text = text[1:]
        short = f"..{text}"
    return short

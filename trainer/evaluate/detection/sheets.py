"""The frames that went worst, and the animals that were missed, drawn for a person to look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.vision.geometry import Colour, Letterbox, iou_matrix, letterbox
from edge.vision.types import Detections, Floats, Image
from trainer.data.crops import load_image
from trainer.data.frames import FrameSet
from trainer.evaluate.detection.figures import Findings
from trainer.evaluate.detection.matching import (
    MATCH_IOU,
    OVERLAPS,
    match_detections,
    overlap_groups,
)
from trainer.pictures import jpeg, tile_sheet

MOST_FRAMES = 12
MOST_MISSED = 60
_TILE_WIDTH, _COLUMNS = 460, 3
_CROP_TILE, _CROP_COLUMNS = 140, 8
# How much of a missed animal's surroundings is shown, in sides of its box.
_CONTEXT = 0.25
_TRUTH: Colour = (255, 255, 255)
_HIT: Colour = (40, 235, 120)
_MISSED: Colour = (255, 190, 0)
_FALSE: Colour = (255, 60, 220)
_PAPER: Colour = (40, 40, 40)
_LEGEND_HEIGHT = 26
_FONT = cv2.FONT_HERSHEY_SIMPLEX


class Missed(NamedTuple):
    """An animal that was not found: its frame, its box there, and the best score of a find.

    score: of a detection below the threshold that would have been right; 0 without one.
    """

    frame: int
    box: Floats
    overlap: str
    score: float


def worst_frames(findings: Findings, most: int = MOST_FRAMES) -> list[int]:
    """Return the frames with a miss or a false find: lowest F1 first, then the most missed."""
    counts = findings.tally
    f1, missed = counts.f1(), counts.true - counts.hits
    order = np.lexsort((-missed, f1))
    return [int(row) for row in order if f1[row] < 1][:most]


def worst_sheet(frames: FrameSet, findings: Findings, most: int = MOST_FRAMES) -> bytes | None:
    """Return a JPEG of the worst frames with truth, hits, misses and false finds; None of none."""
    rows = worst_frames(findings, most)
    if not rows:
        return None
    images = [load_image(frames.paths[row]) for row in rows]
    # One shape for all tiles; frames of others stand in it between bars.
    shape = float(np.median([image.shape[0] / image.shape[1] for image in images]))
    size = (round(_TILE_WIDTH * min(max(shape, 0.4), 1.5)), _TILE_WIDTH)
    tiles = []
    for row, image in zip(rows, images, strict=True):
        tile, placed = letterbox(image, size, _PAPER)
        draw_frame(tile, placed, findings.sure[row], frames.boxes[row], frames.classes[row])
        tiles.append(_apart(tile))
    captions = [_caption(frames, findings, row) for row in rows]
    sheet = tile_sheet(tiles, captions, size, _COLUMNS)
    return jpeg(_with_legend(sheet), 88)


def draw_frame(
    tile: Image,
    placed: Letterbox,
    sure: Detections,
    boxes: Floats,
    classes: NDArray[np.int32],
) -> None:
    """Draw what was there and what was found onto a letterboxed frame.

    sure: the detections at the threshold that is asked. boxes (n, 4), classes (n,): the truth.
    """
    matches = match_detections(sure, boxes, classes)
    found = np.isin(np.arange(len(boxes)), matches)
    truth, finds = placed.to_target(boxes), placed.to_target(sure.boxes)
    for box in truth[found]:
        _rectangle(tile, box, _TRUTH, 1)
    for box in finds[matches >= 0]:
        _rectangle(tile, box, _HIT, 1)
    for box in truth[~found]:
        _rectangle(tile, box, _MISSED, 2)
    for box, score in zip(finds[matches < 0], sure.scores[matches < 0], strict=True):
        _rectangle(tile, box, _FALSE, 2)
        _write(tile, f"{score:.2f}", box, _FALSE)


def missed_animals(frames: FrameSet, findings: Findings) -> list[Missed]:
    """Return the animals that were not found, the largest first."""
    rows: list[Missed] = []
    for number, (found, sure) in enumerate(zip(findings.found, findings.sure, strict=True)):
        boxes, classes = frames.boxes[number], frames.classes[number]
        missed = ~np.isin(np.arange(len(boxes)), match_detections(sure, boxes, classes))
        groups = overlap_groups(boxes)
        weak = found.scores < findings.score_threshold
        for row in np.flatnonzero(missed):
            near = iou_matrix(found.boxes, boxes[row][None])[:, 0] >= MATCH_IOU
            right = near & weak & (found.classes == classes[row])
            score = float(found.scores[right].max(initial=0))
            rows.append(Missed(number, boxes[row], OVERLAPS[groups[row]], score))
    areas = [float(np.prod(row.box[2:] - row.box[:2])) for row in rows]
    return [rows[place] for place in np.argsort(-np.array(areas), kind="stable")]


def missed_sheet(
    frames: FrameSet, missed: Sequence[Missed], most: int = MOST_MISSED
) -> bytes | None:
    """Return a JPEG of missed animals with some of what is around them; None without any."""
    shown = sorted(missed[:most], key=lambda row: row.frame)
    if not shown:
        return None
    tiles: list[Image] = []
    image, loaded = None, -1
    for row in shown:
        if image is None or loaded != row.frame:
            image, loaded = load_image(frames.paths[row.frame]), row.frame
        tiles.append(_surroundings(image, row.box))
    captions = []
    for row in shown:
        width, height = (round(float(side)) for side in row.box[2:] - row.box[:2])
        seen = f"seen at {row.score:.2f}" if row.score > 0 else "not seen at all"
        path = frames.paths[row.frame]
        captions.append(f"{path.parent.name}/{path.stem}\n{width}x{height} {row.overlap}\n{seen}")
    return jpeg(tile_sheet(tiles, captions, (_CROP_TILE, _CROP_TILE), _CROP_COLUMNS), 88)


def _surroundings(image: Image, box: Floats) -> Image:
    """Return an animal in its box, with what is around it: uint8 (S, S, 3)."""
    height, width = image.shape[:2]
    pad = _CONTEXT * (box[2:] - box[:2])
    x1, y1 = (int(max(0, value)) for value in box[:2] - pad)
    x2 = int(np.clip(np.ceil(box[2] + pad[0]), x1 + 1, width))
    y2 = int(np.clip(np.ceil(box[3] + pad[1]), y1 + 1, height))
    tile, placed = letterbox(image[y1:y2, x1:x2], (_CROP_TILE, _CROP_TILE), _PAPER)
    inside = (box - np.array([x1, y1, x1, y1], np.float32))[None]
    _rectangle(tile, placed.to_target(inside)[0], _MISSED, 1)
    return _apart(tile)


def _apart(tile: Image) -> Image:
    """Keep a tile apart from the next one."""
    tile[:, -3:] = 255
    return tile


def _caption(frames: FrameSet, findings: Findings, row: int) -> str:
    counts, path = findings.tally, frames.paths[row]
    missed = counts.true[row] - counts.hits[row]
    wrong = counts.found[row] - counts.hits[row]
    return (
        f"{path.parent.name}/{path.name}\n"
        f"F1 {counts.f1()[row]:.2f}: {counts.true[row]} there, {missed} missed, {wrong} false"
    )


def _rectangle(tile: Image, box: Floats, colour: Colour, thickness: int) -> None:
    x1, y1, x2, y2 = (round(float(value)) for value in box)
    cv2.rectangle(tile, (x1, y1), (x2, y2), colour, thickness)


def _write(tile: Image, text: str, box: Floats, colour: Colour) -> None:
    """Write on a plate at the upper left of a box, within the tile."""
    (width, height), _ = cv2.getTextSize(text, _FONT, 0.32, 1)
    x = int(np.clip(box[0], 0, max(0, tile.shape[1] - width - 3)))
    y = int(np.clip(box[1], 0, max(0, tile.shape[0] - height - 4)))
    cv2.rectangle(tile, (x, y), (x + width + 3, y + height + 4), colour, cv2.FILLED)
    cv2.putText(tile, text, (x + 2, y + height + 1), _FONT, 0.32, (0, 0, 0), 1, cv2.LINE_AA)


def _with_legend(sheet: Image) -> Image:
    """Return the sheet below a strip that names the colours."""
    entries = (
        (_TRUTH, 1, "true box of a found animal"),
        (_HIT, 1, "found"),
        (_MISSED, 2, "missed"),
        (_FALSE, 2, "false find and its score"),
    )
    widths = [cv2.getTextSize(text, _FONT, 0.4, 1)[0][0] + 44 for *_, text in entries]
    needed = max(sheet.shape[1], sum(widths) + 8)
    strip = np.full((_LEGEND_HEIGHT, needed, 3), _PAPER, np.uint8)
    x = 8
    for (colour, thickness, text), width in zip(entries, widths, strict=True):
        cv2.rectangle(strip, (x, 6), (x + 18, 19), colour, thickness)
        cv2.putText(strip, text, (x + 24, 17), _FONT, 0.4, (235, 235, 235), 1, cv2.LINE_AA)
        x += width
    wide = np.full((sheet.shape[0], needed, 3), 255, np.uint8)
    wide[:, : sheet.shape[1]] = sheet
    return np.concatenate([strip, wide])

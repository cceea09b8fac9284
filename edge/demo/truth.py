"""The truth of a simulated clip: which animal is where in every frame."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from edge.errors import UsageError
from edge.vision.geometry import iou_matrix

SCHEMA = 1
_LEAST_IOU = 0.3

Whole = Annotated[int, msgspec.Meta(ge=0)]
# frame, index into `animals`, x1, y1, x2, y2 (exclusive), per cent that can be seen
Row = tuple[Whole, Whole, Whole, Whole, Whole, Whole, Whole]


class Truth(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of truth.json; boxes are whole pixels of the frame."""

    schema: int
    video: str
    camera: str
    fps: Annotated[float, msgspec.Meta(gt=0)]
    width: Annotated[int, msgspec.Meta(gt=0)]
    height: Annotated[int, msgspec.Meta(gt=0)]
    animals: list[str]
    boxes: list[Row]

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ValueError(f"truth schema {self.schema} is not {SCHEMA}")
        if any(row[1] >= len(self.animals) for row in self.boxes):
            raise ValueError("a box points outside the list of animals")


class TruthIndex:
    """Looks up which animal a box shows."""

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        self._rows: dict[int, list[Row]] = {}
        for row in truth.boxes:
            self._rows.setdefault(row[0], []).append(row)

    def animal_at(self, frame: int, box: tuple[float, float, float, float]) -> str | None:
        """Return the animal whose true box overlaps `box` (fractions) most, by IoU 0.3 or more."""
        rows = self._rows.get(frame, [])
        if not rows:
            return None
        size = np.array([self.truth.width, self.truth.height] * 2, np.float32)
        asked = np.array([box], np.float32) * size
        overlaps = iou_matrix(asked, np.array([row[2:6] for row in rows], np.float32))[0]
        best = int(overlaps.argmax())
        return self.truth.animals[rows[best][1]] if overlaps[best] >= _LEAST_IOU else None


def load_truth(path: Path) -> Truth:
    """Read truth.json; UsageError in one line for anything that is not one."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Truth)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file; the clip's truth is wanted") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a clip's truth: {error}") from error

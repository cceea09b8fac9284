"""Frames with the names and sizes that they get in a new folder: what writers write from."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.data.annotations.raw import Corners


@dataclass(frozen=True, slots=True)
class PlacedBox:
    """A checked box. corners: x1 y1 x2 y2 in pixels, float32 values as Python floats."""

    corners: Corners
    class_name: str
    animal: str | None


@dataclass(frozen=True, slots=True)
class PlacedFrame:
    """A frame with its image at `name`, relative to the new folder, width by height pixels."""

    name: str
    width: int
    height: int
    session: str
    boxes: tuple[PlacedBox, ...]


def number(value: float) -> str:
    """Return a float32 value as text that reads back as the same float32: 9 significant digits."""
    return f"{value:.9g}"

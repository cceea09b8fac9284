"""Annotated frames from the formats that people have, all through one validation."""

from __future__ import annotations

from trainer.data.annotations.coco import read_coco
from trainer.data.annotations.formats import FORMATS, Format, read_frames, write_frames

__all__ = ["FORMATS", "Format", "read_coco", "read_frames", "write_frames"]

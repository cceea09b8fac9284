"""Crops as files: the pixels that the device would cut, under names that keep their session."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import numpy as np

from edge.errors import DataError
from edge.vision.types import Image
from trainer.pictures import jpeg

_QUALITY = 94
# What else is in a name would need care on some system, or in a page.
_UNSAFE = re.compile(r"[^\w.+-]+")


def encode(crop: Image) -> bytes:
    """Return a crop (H, W, 3) RGB as the bytes of its file."""
    return jpeg(np.ascontiguousarray(crop), _QUALITY)


def safe(text: str) -> str:
    """Return a name that may be part of a file's name everywhere; never empty or hidden."""
    return _UNSAFE.sub("-", text).lstrip(".") or "-"


def crop_name(session: str, frame: str | int, copy: int = 1) -> str:
    """Return `<session>_<frame>.jpg`, whose session `trainer.data.crops.session_of` finds.

    copy: from 2 on a crop of the same frame, `<session>_<frame>-2.jpg`.
    """
    number = f"{frame:06d}" if isinstance(frame, int) else safe(frame).replace("_", "-")
    return f"{safe(session)}_{number}{'' if copy == 1 else f'-{copy}'}.jpg"


def put(source: Path, target: Path, *, link: bool) -> None:
    """Copy or hard-link a file to a place where nothing is; DataError when it cannot be read."""
    if link:
        try:
            os.link(source.resolve(), target)
            return
        except FileExistsError:
            raise
        except OSError:
            # Another disk, or one without hard links.
            pass
    try:
        with source.open("rb") as reader, target.open("xb") as writer:
            shutil.copyfileobj(reader, writer)
    except FileExistsError:
        raise
    except OSError as error:
        raise DataError(f"{source}: cannot be copied: {error.strerror}") from error

"""What image files are like: cut off, of one colour, or copies of each other."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import DataError
from edge.vision.types import Image
from trainer.data.annotations.raw import Problem, problem_of
from trainer.data.crops import load_image

_THUMB = 24
# Root mean square of grey levels (0 to 255) between thumbnails. On 164 photographs, copies at half
# the size differ by at most 2.9, copies at JPEG quality 30 by 0.9, any two others by 23 or more.
_NEAR_RMS = 3.0
_BLOCK = 512
# Noise of a covered lens stays below; the darkest night picture with anything in it does not.
_EMPTY_SPREAD = 2.0
# After a JPEG's start of scan: any marker but stuffing and restarts.
_AFTER_SCAN = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """An image file. thumb: float32 (24, 24) grey levels. digest: SHA-256.

    empty: the picture is of one colour.
    """

    digest: str
    thumb: NDArray[np.float32]
    empty: bool


def look_at(path: Path) -> Look | Problem:
    """Read one image file, or say what is wrong with it."""
    try:
        data = path.read_bytes()
        if not data:
            return Problem("broken image", str(path), "is empty (0 bytes); copy it again")
        # Before it is decoded: some decoders fill the rest with grey, others refuse with no reason.
        if is_truncated(data):
            message = "the file ends before the picture does; copy it again"
            return Problem("truncated image", str(path), message)
        image = load_image(path)
    except OSError as error:
        return Problem("broken image", str(path), f"cannot be read: {error.strerror}")
    except DataError as error:
        return problem_of("broken image", path, error)
    return Look(
        hashlib.sha256(data).hexdigest(),
        _thumb(image),
        float(image.std(axis=(0, 1)).max()) < _EMPTY_SPREAD,
    )


def is_truncated(data: bytes) -> bool:
    """Say whether a JPEG, PNG, BMP or WebP file ends too early.

    By each format's own account of its end; bytes behind that are nobody's harm.
    """
    if data.startswith(b"\xff\xd8"):
        return not _jpeg_ends(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return b"IEND\xaeB`\x82" not in data
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    if data[:2] == b"BM":
        return len(data) < int.from_bytes(data[2:6], "little")
    return False


def near_duplicates(
    looks: Sequence[Look], groups: Sequence[str]
) -> Iterator[tuple[int, int, float]]:
    """Yield pairs (i, j, difference) of images of two groups that are all but the same picture.

    Within a group (a session) neighbours are alike, and that is as it should be. difference: root
    mean square of grey levels. Copies of the same bytes are left out.
    """
    if len(looks) < 2:
        return
    thumbs = np.stack([look.thumb.ravel() for look in looks])
    order = np.argsort(thumbs.mean(axis=1), kind="stable")
    ordered = thumbs[order]
    means = ordered.mean(axis=1)
    squares = np.square(ordered).mean(axis=1)
    for start in range(0, len(order), _BLOCK):
        stop = min(start + _BLOCK, len(order))
        # The difference of means is never more than the root mean square.
        far = int(np.searchsorted(means, means[stop - 1] + _NEAR_RMS, side="right"))
        shared = ordered[start:stop] @ ordered[start:far].T / thumbs.shape[1]
        apart = squares[start:stop, None] + squares[None, start:far] - 2 * shared
        for a, b in np.argwhere(apart <= _NEAR_RMS**2):
            i, j = sorted((int(order[start + a]), int(order[start + b])))
            if a < b and groups[i] != groups[j] and looks[i].digest != looks[j].digest:
                yield i, j, float(np.sqrt(max(0.0, apart[a, b])))


def _thumb(image: Image) -> NDArray[np.float32]:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (_THUMB, _THUMB), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32)


def _jpeg_ends(data: bytes) -> bool:
    """Walk a JPEG's segments to its end-of-image marker; the EXIF thumbnail's own is skipped so."""
    place = 2
    while place + 4 <= len(data):
        if data[place] != 0xFF:
            # Not where a segment should begin: decoders look for the next marker as well.
            found = _AFTER_SCAN.search(data, place)
            if found is None:
                return False
            place = found.end() - 2
        marker = data[place + 1]
        if marker == 0xD9:
            return True
        if marker == 0xFF:
            place += 1
        elif 0xD0 <= marker <= 0xD8 or marker in (0x00, 0x01):
            place += 2
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
            if marker == 0xDA:
                found = _AFTER_SCAN.search(data, place)
                if found is None:
                    return False
                place = found.end() - 2
    return data[place : place + 2] == b"\xff\xd9"

"""How large an image is: what annotations declare is only believed where it is so."""

from __future__ import annotations

from pathlib import Path

from edge.errors import DataError
from trainer.data.annotations.raw import Problem, RawFrame, problem_of
from trainer.data.crops import load_image

Size = tuple[int, int]
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
_EXIF_ORIENTATION, _UPRIGHT = 0x0112, 1


def image_size(path: Path) -> Size:
    """Return an image's (width, height) as it is trained on: upright; DataError for none."""
    height, width = load_image(path).shape[:2]
    return width, height


def size_problem(frame: RawFrame) -> Problem | None:
    """Say what is wrong with a frame's declared size; its image is there.

    Boxes that were drawn at another size, or on the picture as it lies in the file before its EXIF
    orientation turns it, would all be in the wrong place.
    """
    # The header alone is a hundred times as fast, and nearly always enough.
    if frame.size is None or _header_size(frame.path) == frame.size:
        return None
    try:
        size = image_size(frame.path)
    except DataError as error:
        return problem_of("broken image", frame.path, error)
    if size == frame.size:
        return None
    (width, height), (w, h) = size, frame.size
    turned = "; its EXIF orientation turns it, annotate it upright" if size == (h, w) else ""
    message = f"has {width}x{height} pixels, declared are {w}x{h} ({frame.where}){turned}"
    return Problem("size differs from declared", str(frame.path), message)


def _header_size(path: Path) -> Size | None:
    """Return what a file says before its pixels, or None where that does not tell."""
    import PIL.Image

    try:
        with PIL.Image.open(path, formats=_FORMATS) as image:
            orientation = _UPRIGHT
            if "exif" in image.info:
                orientation = image.getexif().get(_EXIF_ORIENTATION, _UPRIGHT)
            return image.size if orientation == _UPRIGHT else None
    # A broken header is of a dozen kinds of error; what it is worth, decoding tells.
    except Exception:
        return None

"""Annotation files as bytes: bounded, and with one line for what cannot be read."""

from __future__ import annotations

from pathlib import Path

from edge.errors import DataError

# A year of a barn's labels is some ten million boxes; what is larger is not a file of labels.
MOST_BYTES = 1 << 30
_MEGABYTE = 1 << 20


def read_bytes(path: Path, what: str, most: int = MOST_BYTES) -> bytes:
    """Return a file's bytes, at most `most`; `what` was expected there. DataError names it."""
    try:
        if path.is_dir():
            raise DataError(f"{path}: is a folder; expected a file of {what}")
        size = path.stat().st_size
        if size > most:
            raise DataError(
                f"{path}: has {size // _MEGABYTE} MB, more than the {most // _MEGABYTE} MB that "
                f"{what} may have; split it"
            )
        with path.open("rb") as stream:
            # One byte more tells a file that grew, or that is no plain file at all.
            data = stream.read(most + 1)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; expected {what}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read: {reason}") from error
    if len(data) > most:
        raise DataError(f"{path}: has more than the {most // _MEGABYTE} MB that {what} may have")
    return data


def read_text(path: Path, what: str, most: int = MOST_BYTES) -> str:
    """Return a file's text, which must be UTF-8."""
    try:
        return read_bytes(path, what, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not {what}: byte {error.start} is not text in UTF-8") from error

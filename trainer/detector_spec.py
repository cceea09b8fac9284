"""How a detector is fed and read, as a file beside it: for detectors that lie in no bundle."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edge.errors import UsageError
from edge.files import write_atomically
from edge.release.manifest import DetectorSpec

DETECTOR_SPEC_NAME = "detector.json"


def save_spec(spec: DetectorSpec, path: Path) -> None:
    """Write a detector's spec as JSON, by rename."""
    write_atomically(path, msgspec.json.format(msgspec.json.encode(spec), indent=1) + b"\n")


def load_spec(path: Path) -> DetectorSpec:
    """Read a detector's spec; UsageError, one line, for anything else."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=DetectorSpec)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: does not say how a detector is fed: {error}") from error

"""How a detector is fed and read, as a file beside it: for detectors that lie in no bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from edge.errors import UsageError
from edge.files import sha256_file, write_atomically
from edge.release.manifest import DetectorSpec

DETECTOR_SPEC_NAME = "detector.json"


class _Document(DetectorSpec, frozen=True, kw_only=True):
    """A spec in its file. models: SHA-256 of the files that it is of, an int8 model and its twin.

    Empty where nobody said.
    """

    models: tuple[str, ...] = ()


_SPEC_FIELDS = tuple(field.name for field in msgspec.structs.fields(DetectorSpec))


def save_spec(spec: DetectorSpec, path: Path, models: Sequence[Path]) -> None:
    """Write a detector's spec as JSON, by rename. models: the TFLite files that it is of."""
    fields = {name: getattr(spec, name) for name in _SPEC_FIELDS}
    document = _Document(**fields, models=tuple(map(sha256_file, models)))
    write_atomically(path, msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")


def load_spec(path: Path) -> DetectorSpec:
    """Read a detector's spec, whichever model it is of; UsageError, one line, for anything else."""
    return _spec(_load(path))


def spec_beside(model: Path) -> DetectorSpec | None:
    """Return what lies beside a model and is of that very file.

    None without a `detector.json`, and for one of another model: what two networks have in common
    is not told by lying in one folder. UsageError for a file that cannot be read.
    """
    path = model.with_name(DETECTOR_SPEC_NAME)
    if not path.is_file() or not model.is_file():
        return None
    document = _load(path)
    return _spec(document) if sha256_file(model) in document.models else None


def _load(path: Path) -> _Document:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Document)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: does not say how a detector is fed: {error}") from error


def _spec(document: _Document) -> DetectorSpec:
    return DetectorSpec(**{name: getattr(document, name) for name in _SPEC_FIELDS})

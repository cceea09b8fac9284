"""Outputs appear whole or not at all: written beside their place, then renamed into it."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edge.errors import UsageError


def expanded(name: str) -> Path:
    """Return a path whose `~` stands for somebody's home; UsageError for one that nobody has."""
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{name}: there is no such home folder; write the whole path") from error


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_atomically(path: Path, data: bytes, *, synced: bool = True) -> None:
    """Write `data` to `path` so that a reader, or a power cut, finds the old bytes or the new.

    synced: without it a power cut may leave neither.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            if synced:
                os.fsync(stream.fileno())
        # mkstemp makes private files; an output is as readable as the umask would have left it.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; on success it takes `path`'s place, on error it goes,
    and so do parents that had to be made for it.

    A folder that stood at `path` is replaced, and stays untouched when the block fails. UsageError
    at once for a place that cannot be replaced, such as a mount point: not after hours of work.
    """
    path = path.resolve()
    made = [parent for parent in path.parents if not parent.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _beside(path) as temporary:
            yield temporary
    except BaseException:
        # Parents that were made for this alone go as well, unless somebody has used them since.
        with suppress(OSError):
            for parent in made:
                parent.rmdir()
        raise


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    if path.exists():
        _check_replaceable(path)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        temporary.chmod(0o777 & ~_umask())
        yield temporary
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
            path.replace(old / path.name)
            try:
                temporary.replace(path)
            except BaseException:
                (old / path.name).replace(path)
                raise
            finally:
                shutil.rmtree(old, ignore_errors=True)
        else:
            temporary.replace(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _check_replaceable(path: Path) -> None:
    """Rename a folder away and back."""
    aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.try.", dir=path.parent))
    try:
        path.replace(aside / path.name)
        (aside / path.name).replace(path)
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be replaced ({error.strerror}); name a folder inside it instead"
        ) from error
    finally:
        aside.rmdir()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

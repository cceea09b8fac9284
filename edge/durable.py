"""File operations that a power cut cannot undo once they have returned.

Written beside their place, synced, renamed, and the folder synced: in this order, because a name
that reaches the disk before its content is an empty file after a power cut. Between the steps
stand named points, at which tests kill the process or copy the disk.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

from edge.errors import EarmarkError

# What is written and not yet in its place ends like this; a kill may leave it behind.
UNFINISHED = ".new"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class DurableError(EarmarkError):
    """A file that could not be brought to the disk for good; `full` when there was no room."""

    def __init__(self, path: Path, error: OSError) -> None:
        self.full = error.errno in _FULL
        advice = "free some space on the disk" if self.full else "is the disk failing?"
        super().__init__(f"{path}: cannot be kept for good: {error.strerror}; {advice}")


def _nobody(point: str) -> None:
    """Nobody looks on."""


# Called with the name of each point that is passed. For tests.
observer: Callable[[str], None] = _nobody


def at(point: str) -> None:
    """Tell the observer that the program is now between two steps."""
    observer(point)


def write_durably(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write `data` to `path`: a reader or a power cut finds the old bytes or the new, all of them.

    The folder must be there. Raises DurableError; the old file is then untouched, unless it was
    the folder that could not be synced.
    """
    temporary = _beside(path)
    with _kept(path):
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(handle, "wb") as stream:
                at(f"{path.name}: made")
                stream.write(data)
                stream.flush()
                at(f"{path.name}: written")
                os.fsync(stream.fileno())
            at(f"{path.name}: synced")
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    at(f"{path.name}: renamed")
    sync_folder(path.parent)
    at(f"{path.name}: kept")


def replace_link(link: Path, target: str) -> None:
    """Let the symbolic link `link` point to `target`, by one rename; synced.

    Raises DurableError; the link may then point to either.
    """
    temporary = _beside(link)
    with _kept(link):
        try:
            temporary.symlink_to(target)
            at(f"{link.name}: made")
            temporary.replace(link)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    at(f"{link.name}: renamed")
    sync_folder(link.parent)
    at(f"{link.name}: kept")


def rename_durably(source: Path, target: Path) -> None:
    """Rename within one folder or between two; synced. Raises DurableError."""
    with _kept(target):
        source.replace(target)
    at(f"{target.name}: renamed")
    sync_folder(target.parent)
    if source.parent != target.parent:
        sync_folder(source.parent)
    at(f"{target.name}: kept")


def make_folder(path: Path) -> None:
    """Make a folder and the parents it wants, each synced into its own parent."""
    missing = [path, *path.parents]
    missing = missing[: next(i for i, one in enumerate(missing) if one.is_dir())]
    for folder in reversed(missing):
        with _kept(folder):
            folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_file(path: Path) -> None:
    """Bring a file's content to the disk. DurableError: drop the file, its pages are lost."""
    with _kept(path):
        _sync(path, os.O_RDONLY)


def sync_folder(path: Path) -> None:
    """Bring the names in a folder to the disk."""
    with _kept(path):
        _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def sync_tree(path: Path) -> None:
    """Bring all files below a folder to the disk, then the folders' names, `path` itself last.

    Links are left alone.
    """
    for entry in sorted(path.iterdir()):
        if entry.is_symlink():
            continue
        if entry.is_dir():
            sync_tree(entry)
        else:
            sync_file(entry)
    sync_folder(path)


def remove_tree(path: Path) -> None:
    """Remove a folder and all below it, a link or a file; what is not there is removed already."""
    with _kept(path):
        if path.is_dir() and not path.is_symlink():
            for entry in sorted(path.iterdir()):
                remove_tree(entry)
            path.rmdir()
            at(f"{path.name}: removed")
        elif path.is_symlink() or path.exists():
            path.unlink()
            at(f"{path.name}: removed")


def remove_unfinished(folder: Path) -> None:
    """Remove what a kill left in a folder between being written and being renamed.

    Nobody may be writing there.
    """
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if path.name.startswith(".") and path.name.endswith(UNFINISHED):
                remove_tree(path)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path` for a block, waiting for whoever has it."""
    with _kept(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def _kept(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DurableError(path, error) from error


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{UNFINISHED}")

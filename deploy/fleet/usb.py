"""`earmark-deploy usb`: a stick that a device takes its release from when it is plugged in.

earmark/metadata, earmark/targets    a repository, as far as these devices need it
EARMARK.txt                          what this is, for who finds it
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from deploy.fleet.repository import Content, Repository, RepositoryError, Wanted
from edge.errors import EarmarkError, UsageError

FOLDER = "earmark"
NOTE = "EARMARK.txt"
_UNFINISHED = ".part"
_BLOCK = 1 << 20


class StickError(EarmarkError):
    """A stick that cannot be written, or does not hold what was written to it."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a stick holds now. copied: files written, kept: those that were there, bytes: of all."""

    copied: int
    kept: int
    size: int


def write_stick(
    folder: Path,
    repository: Repository,
    devices: Sequence[str],
    now: datetime,
    told: Callable[[str], None] = lambda text: None,
) -> Written:
    """Write what `devices` need to the stick that is mounted at `folder`, and read it again.

    A stick that is pulled half-way holds the old repository or a part of the new one, which a
    device refuses. StickError when it does not hold what was written; UsageError for no folder.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; name where the stick is mounted")
    plans = {name: repository.wanted(name) for name in devices}
    if lacking := [name for name, wanted in plans.items() if wanted is None]:
        raise RepositoryError(
            f"{', '.join(lacking)}: nothing is assigned; earmark-deploy repo assign"
        )
    contents = {
        content.path: content
        for wanted in plans.values()
        if wanted is not None
        for content in wanted.files
    }
    repository.check(contents)
    # Metadata last, its timestamp at the very end: what it speaks of is there by then.
    contents |= {content.path: content for content in repository.metadata}
    target = folder / FOLDER
    copied = 0
    try:
        for content in contents.values():
            if not _holds(target / content.path, content):
                told(f"{content.path}, {content.size / 1e6:.2f} MB")
                _copy(repository.folder / content.path, target / content.path)
                copied += 1
        _remove_others(target, contents.keys())
        _write(folder / NOTE, _note(plans, now).encode())
        _sync_tree(folder)
        for content in contents.values():
            if not _holds(target / content.path, content, afresh=True):
                raise StickError(
                    f"{target / content.path}: is not what was written; use another stick"
                )
    except OSError as error:
        raise StickError(
            f"{error.filename or folder}: {error.strerror or error}; is the stick full, or pulled?"
        ) from error
    size = sum(content.size for content in contents.values())
    return Written(copied, len(contents) - copied, size)


def _note(plans: dict[str, Wanted | None], now: datetime) -> str:
    lines = [
        f"Releases of earmark for barn devices, written {now:%Y-%m-%d %H:%M} UTC.",
        "",
        "Plug this stick into the device and leave it there for some minutes; the device takes the",
        "release by itself, tries it, and goes back to the one before when it does not work.",
        "Only what the farm has signed is taken. There is nothing secret on this stick.",
        "",
    ]
    for name, wanted in sorted(plans.items()):
        if wanted is not None:
            means = f", class means {wanted.means_seq}" if wanted.means_seq else ""
            lines.append(f"{name}: {wanted.bundle[:12]}-{wanted.assignment}{means}")
    return "\r\n".join(lines) + "\r\n"


def _holds(path: Path, content: Content, *, afresh: bool = False) -> bool:
    """Whether a file is what it shall be. afresh: read from the medium, not from memory."""
    try:
        with path.open("rb") as stream:
            if os.fstat(stream.fileno()).st_size != content.size:
                return False
            if afresh:
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return hashlib.file_digest(stream, "sha256").hexdigest() == content.sha256
    except FileNotFoundError:
        return False


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + _UNFINISHED)
    with source.open("rb") as read, part.open("wb") as write:
        while block := read.read(_BLOCK):
            write.write(block)
        write.flush()
        os.fsync(write.fileno())
    part.replace(target)


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(path.name + _UNFINISHED)
    with part.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)


def _remove_others(folder: Path, kept: Iterable[str]) -> None:
    """Remove what an older repository has left: devices do not look at it."""
    wanted = {folder / path for path in kept}
    for part in ("metadata", "targets"):
        for path in sorted((folder / part).rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()):
                    path.rmdir()
            elif path not in wanted:
                path.unlink()


def _sync_tree(folder: Path) -> None:
    for path in (folder, *(path for path in folder.glob(f"{FOLDER}/**") if path.is_dir())):
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

"""Copy a repository's public folder to where devices read it, so that nobody sees half of it."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Set
from contextlib import suppress
from pathlib import Path

from deploy.repo.state import State
from edge.durable import UNFINISHED, make_folder, sync_folder, write_durably
from edge.files import sha256_file
from edge.release.targets import ROLES, content_path, is_repository_path

# So long a device may take to read what was current when it began.
_KEPT_S = 7 * 24 * 3600.0
_FOLDERS = ("metadata", "targets")


def copy_repository(state: State, target: Path, only: Collection[str] | None = None) -> int:
    """Copy what is published now into a folder; return how many files had to be copied.

    Contents go first, the timestamp and the newest root last, each by rename and synced: a web
    server may serve the folder meanwhile, a stick may be pulled at any moment. Only after several
    new keys at once there is a moment at which devices refuse what is there, and ask again. Files
    that are there already stay, as long as they are in the public folder. only: ids of the bundles
    whose files are taken along; all by default. Nobody may be changing the repository
    (`Repository.copy` sees to it).
    """
    copied = 0
    for path, sha256 in files_in_order(state, only):
        there = target / path
        if sha256 and there.is_file() and sha256_file(there) == sha256:
            continue
        data = (state.public / path).read_bytes()
        if not sha256 and there.is_file() and there.read_bytes() == data:
            continue
        make_folder(there.parent)
        write_durably(there, data)
        copied += 1
    _sweep(target)
    for name in _repository_files(target):
        if not (state.public / name).exists():
            (target / name).unlink()
    return copied


def current_files(state: State) -> set[str]:
    """Return the paths of all that is published now."""
    return {path for path, _ in files_in_order(state, None)}


def tidy(state: State, before: Set[str], now_s: float) -> None:
    """Remove what has not been current for a week from the public folder.

    before: what was current until now. All roots stay, for devices that were away. now_s: seconds
    since 1970.
    """
    current = current_files(state)
    for path in before - current:
        # From now on its age counts.
        with suppress(FileNotFoundError):
            os.utime(state.public / path, (now_s, now_s))
    for name in _repository_files(state.public):
        file = state.public / name
        if name not in current and now_s - file.stat().st_mtime > _KEPT_S:
            file.unlink()


def _repository_files(folder: Path) -> list[str]:
    paths = (path for own in _FOLDERS for path in (folder / own).glob("**/*"))
    names = (path.relative_to(folder).as_posix() for path in paths)
    return sorted(name for name in names if is_repository_path(name))


def files_in_order(state: State, only: Collection[str] | None) -> Iterator[tuple[str, str | None]]:
    """Yield paths in the order in which they are to appear, with the hash that names contents."""
    for role in ROLES:
        for name, info in state.roles[role].targets.items():
            if role == "models" and only is not None and name.split("/")[1] not in only:
                continue
            sha256 = info.hashes["sha256"]
            yield content_path(name, sha256), sha256
    newest = state.root.signed.version
    for version in range(state.first, newest):
        yield f"metadata/{version}.root.json", None
    for name, meta in state.snapshot.meta.items():
        yield f"metadata/{meta.version}.{name}", None
    yield f"metadata/{state.timestamp.snapshot_meta.version}.snapshot.json", None
    yield "metadata/timestamp.json", None
    # It may have done away with keys that signed what was there before; the one before it has not.
    yield f"metadata/{newest}.root.json", None


def _sweep(target: Path) -> None:
    """Remove what a copy that was broken off has left half written; other people's files stay."""
    for own in _FOLDERS:
        for folder, _, names in os.walk(target / own):
            left = [name for name in names if name.startswith(".") and name.endswith(UNFINISHED)]
            for name in left:
                (Path(folder) / name).unlink(missing_ok=True)
            if left:
                sync_folder(Path(folder))

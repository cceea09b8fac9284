"""Copy a repository's public folder to where devices read it, so that nobody sees half of it."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from deploy.repo.state import State
from edge.durable import UNFINISHED, make_folder, sync_folder, write_durably
from edge.files import sha256_file
from edge.release.targets import ROLES, content_path


def copy_repository(state: State, target: Path, only: Collection[str] | None = None) -> int:
    """Copy what is published now into a folder; return how many files had to be copied.

    Contents go first and the timestamp last, each file by rename and synced: a web server may serve
    the folder meanwhile, a stick may be pulled at any moment. Files that are there already stay.
    only: ids of the bundles whose files are taken along; all by default.
    """
    copied = 0
    for path, sha256 in _files(state, only):
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
    return copied


def _files(state: State, only: Collection[str] | None) -> Iterator[tuple[str, str | None]]:
    """Yield paths in the order in which they are to appear, with the hash that names contents."""
    for role in ROLES:
        for name, info in state.roles[role].targets.items():
            if role == "models" and only is not None and name.split("/")[1] not in only:
                continue
            sha256 = info.hashes["sha256"]
            yield content_path(name, sha256), sha256
    for version in range(1, state.root.signed.version + 1):
        yield f"metadata/{version}.root.json", None
    for name, meta in state.snapshot.meta.items():
        yield f"metadata/{meta.version}.{name}", None
    yield f"metadata/{state.timestamp.snapshot_meta.version}.snapshot.json", None
    yield "metadata/timestamp.json", None


def _sweep(target: Path) -> None:
    """Remove what a copy that was broken off has left half written."""
    for folder, _, names in os.walk(target):
        left = [name for name in names if name.startswith(".") and name.endswith(UNFINISHED)]
        for name in left:
            (Path(folder) / name).unlink(missing_ok=True)
        if left:
            sync_folder(Path(folder))

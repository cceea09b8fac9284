"""Folders of evaluations: an older one may be replaced, and nothing else."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from edge.errors import UsageError
from trainer.places import check_place


def check_out(
    out: Path, own: Collection[str], marks: Collection[str], read: Sequence[Path] = ()
) -> None:
    """Raise UsageError for a folder that holds something else than an older evaluation.

    own: names of all that such an evaluation writes. marks: those that are always among them.
    read: folders that are read, in which, as in a bundle, nothing may be written.
    """
    check_place(out, read)
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not all((out / name).is_file() for name in marks):
        raise UsageError(
            f"{out}: exists and is not the result of an evaluation; choose another --out"
        )
    foreign = sorted(path.name for path in out.iterdir() if path.name not in own)
    if foreign:
        raise UsageError(
            f"{out}: holds {foreign[0]!r}, which a new evaluation would delete; move it away, or "
            "choose another --out"
        )

"""Where outputs may go: beside what is read, never into it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge.errors import UsageError
from edge.release.manifest import MANIFEST_NAME


def check_place(out: Path, read: Sequence[Path] = ()) -> None:
    """Raise UsageError for an output in a bundle, in a folder that is read, or below a file.

    read: folders of images. A new folder among them would be an animal at the next reading; a
    bundle holds what its manifest lists and no more.
    """
    where = out.resolve()
    for folder in where.parents:
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{out}: {folder} is a file; choose another --out")
        if (folder / MANIFEST_NAME).is_file():
            raise UsageError(f"{out}: lies in the bundle {folder}; choose another --out")
    for root in read:
        if where.is_relative_to(root.resolve()):
            raise UsageError(
                f"{out}: lies in the folder {root}, which is read; choose another --out"
            )

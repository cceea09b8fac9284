"""Folders of crops as a person names them: several at once, one animal's, or of no animal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge.errors import DataError
from trainer.data.crops import SUFFIXES, CropSet, by_time, read_crops, session_of


def read_herd(roots: Sequence[Path]) -> CropSet:
    """List the crops of several folders, each with a sub-folder per animal, in the order of time.

    A sub-folder of the same name is the same animal, and a session of the same name the same
    session: so at worst too little is taken for independent, never too much. Raises DataError for
    a folder that holds images itself, or none.
    """
    if len({root.resolve() for root in roots}) < len(roots):
        raise DataError("a folder of crops is named twice")
    for root in roots:
        if root.is_dir() and (loose := _images(root)):
            raise DataError(
                f"{root}: holds images itself ({loose[0].name}); expected one folder per animal "
                "in it"
            )
    parts = [read_crops(root) for root in roots]
    rows = sorted(
        (name, by_time(path), path)
        for part in parts
        for name, path in zip(part.names(), part.paths, strict=True)
    )
    for *_, path in rows:
        if not _is_text(str(path)):
            raise DataError(f"{str(path)!r}: its name is not text in UTF-8; rename it")
    animals = tuple(sorted({name for name, *_ in rows}))
    index = {animal: label for label, animal in enumerate(animals)}
    return CropSet(
        tuple(path for *_, path in rows),
        animals,
        np.array([index[name] for name, *_ in rows], np.int32),
        tuple(session_of(path) for *_, path in rows),
    )


def read_animal(folder: Path, animal: str) -> CropSet:
    """List the crops of one animal, which lie in the folder itself; DataError without any."""
    paths = _images(_existing(folder))
    if not paths:
        inner = any(_images(part) for part in folder.iterdir() if part.is_dir())
        raise DataError(
            f"{folder}: holds folders of images, not images of one animal"
            if inner
            else f"{folder}: no images found; expected <session>_<frame>.jpg of one animal"
        )
    return _one(paths, animal)


def read_strangers(folder: Path) -> CropSet:
    """List all images below a folder as crops of nobody in particular; DataError without any.

    Each folder with images counts as one animal of unknown name, so that strangers in folders of
    their own are kept apart.
    """
    folders = [_existing(folder), *(path for path in sorted(folder.rglob("*")) if path.is_dir())]
    hidden = [any(part.startswith(".") for part in f.relative_to(folder).parts) for f in folders]
    paths = [
        path
        for part, hide in zip(folders, hidden, strict=True)
        if not hide
        for path in _images(part)
    ]
    if not paths:
        raise DataError(f"{folder}: no images found")
    homes = [path.parent.relative_to(folder).as_posix() for path in paths]
    animals = tuple(sorted(set(homes)))
    labels = np.array([animals.index(home) for home in homes], np.int32)
    return CropSet(tuple(paths), animals, labels, tuple(session_of(path) for path in paths))


def _one(paths: list[Path], animal: str) -> CropSet:
    sessions = tuple(session_of(path) for path in paths)
    return CropSet(tuple(paths), (animal,), np.zeros(len(paths), np.int32), sessions)


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    return folder


def _images(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def _is_text(name: str) -> bool:
    """Say whether a file's name can be written into JSON and HTML."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True

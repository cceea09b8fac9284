"""`data.yaml`, which says where a YOLO data set's images lie and what its classes are called.

As Ultralytics reads it: `train`, `val` and `test` are folders of images (searched with all their
sub-folders), `.txt` files with an image a line, or lists of both, relative to `path`; `names` is a
list, or a mapping from class numbers. Unlike there, a `path` that is not on this machine means the
file's own folder; and folders that begin with `../` are also looked for without it, since
Roboflow's exports need that.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from edge.errors import DataError
from trainer.data.annotations.files import read_text
from trainer.data.annotations.raw import is_within
from trainer.data.crops import SUFFIXES

PARTS = ("train", "val", "test")
_MOST_BYTES = 4 << 20
_LIST_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class DataYaml:
    """names: class number to name. root: the folder of all images. parts: to entries, as written.

    keypoint_columns: how many numbers of a label line are a pose's, after the box.
    """

    names: dict[int, str]
    root: Path
    parts: dict[str, tuple[str, ...]]
    keypoint_columns: int = 0


class _Loader(yaml.SafeLoader):
    """No aliases: nothing here needs them, and nested ones grow without bounds when walked."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            line = self.line + 1
            raise yaml.YAMLError(f"line {line}: uses an alias (*)")
        return super().compose_node(parent, index)


def read_data_yaml(path: Path, images: Path | None = None) -> DataYaml:
    """Read a `data.yaml`; images: the root instead of its `path`. DataError for what is wrong."""
    text = read_text(path, "a YOLO data.yaml", _MOST_BYTES)
    try:
        content = yaml.load(text, _Loader)
    # Numbers and dates are made by Python's own constructors, which raise ValueError.
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: not a YOLO data.yaml: {reason}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: not a YOLO data.yaml: expected keys such as `train` and `names`")
    parts = {part: _entries(path, part, content.get(part)) for part in PARTS}
    if not any(parts.values()):
        raise DataError(f"{path}: names no images; expected `train`, `val` or `test`")
    return DataYaml(
        _names(path, content.get("names"), content.get("nc")),
        _root(path, content.get("path")) if images is None else images,
        parts,
        _keypoint_columns(path, content.get("kpt_shape")),
    )


def images_of(path: Path, root: Path, entry: str) -> list[Path]:
    """Return the images that an entry of a part means, in order; those of a list may be missing."""
    place = root / entry
    if not _exists(place) and entry.startswith("../"):
        place = root / entry.removeprefix("../")
    if not _exists(place):
        raise DataError(f"{path}: {entry!r} is not in {root}; correct it or take it out")
    if not is_within(root, place):
        raise DataError(f"{path}: {entry!r} leads out of {root}; name its root with --images")
    if place.is_dir():
        return sorted(found for found in place.rglob("*") if found.suffix.lower() in SUFFIXES)
    listed = [
        line.strip() for line in read_text(place, "a list of images", _LIST_BYTES).split("\n")
    ]
    return [
        place.parent / line if _exists(place.parent / line) else root / line
        for line in listed
        if line
    ]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _entries(path: Path, part: str, value: Any) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    entries = tuple(value) if isinstance(value, list) else (value,)
    if not all(isinstance(entry, str) for entry in entries):
        raise DataError(f"{path}: `{part}` must be a folder, a .txt file, or a list of them")
    return entries


def _names(path: Path, value: Any, count: Any) -> dict[int, str]:
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, dict) or not value:
        raise DataError(f"{path}: `names` must list the classes, such as names: [pig]")
    names: dict[int, str] = {}
    for key, name in value.items():
        if isinstance(key, bool) or not isinstance(key, int) or key < 0:
            raise DataError(f"{path}: `names`: {key!r} is no class number (0, 1, …)")
        if isinstance(name, bool) or not isinstance(name, str | int | float):
            raise DataError(f"{path}: `names`: class {key} is {name!r}; write it in quotes")
        names[key] = str(name)
    if count is not None and count != len(names):
        raise DataError(f"{path}: `nc` is {count}, but `names` lists {len(names)} classes")
    return names


def _root(path: Path, value: Any) -> Path:
    if value is not None and not isinstance(value, str):
        raise DataError(f"{path}: `path` must be a folder, not {value!r}")
    root = path.parent / value if value else path.parent
    return root if _exists(root) and root.is_dir() else path.parent


def _keypoint_columns(path: Path, value: Any) -> int:
    if value is None:
        return 0
    if (
        not isinstance(value, list)
        or len(value) != 2
        or not all(isinstance(part, int) and 0 < part < 1000 for part in value)
    ):
        raise DataError(f"{path}: `kpt_shape` must be two whole numbers, not {value!r}")
    return int(value[0]) * int(value[1])

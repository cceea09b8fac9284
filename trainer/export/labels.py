"""Names of a detector's classes, from a label file or from the command line."""

from __future__ import annotations

import re
from pathlib import Path

from edge.errors import UsageError

# What label maps have where a number stands for nothing, background first of all.
NOTHING = "???"
_LARGEST_FILE = 1 << 20
_MOST_CLASSES = 10_000
_NUMBERED = re.compile(r"(\d+)[\s:]+(\S.*)")


def read_labels(text: str) -> list[str]:
    """Return class names from a file, or from a list such as `cow,calf` if there is no such file.

    Raises UsageError for what is neither.
    """
    path = Path(text)
    if path.is_file():
        if path.stat().st_size > _LARGEST_FILE:
            raise UsageError(f"{path}: larger than any label file should be")
        try:
            return parse_labels(path.read_text(encoding="utf-8-sig"), str(path))
        except UnicodeDecodeError as error:
            raise UsageError(f"{path}: not a text file") from error
    names = [name.strip() for name in text.split(",")]
    if not all(names) or "/" in text or path.suffix in (".txt", ".pbtxt", ".names"):
        raise UsageError(f"{text}: no such label file (--labels FILE, or names: --labels cow,calf)")
    return names


def parse_labels(text: str, where: str) -> list[str]:
    """Return class names by class number, `???` for numbers without one.

    text: a line a class, `name` or `number name`, all of them alike. Raises UsageError that names
    the line.
    """
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    lines = [(number, line) for number, line in lines if line]
    if not lines:
        raise UsageError(f"{where}: no class names in it")
    if lines[0][1].startswith("item"):
        raise UsageError(f"{where}: a .pbtxt label map; write one name a line instead")
    numbered = [_NUMBERED.fullmatch(line) for _, line in lines]
    if not any(numbered):
        return [line for _, line in lines]
    names: dict[int, str] = {}
    for (number, line), match in zip(lines, numbered, strict=True):
        if match is None:
            raise UsageError(f"{where}: line {number}: {line[:40]!r} has no number, others have")
        row = int(match[1]) if len(match[1]) < 9 else _MOST_CLASSES
        if row >= _MOST_CLASSES or row in names:
            what = "is there twice" if row in names else "is too large"
            raise UsageError(f"{where}: line {number}: class number {match[1]} {what}")
        names[row] = match[2]
    return [names.get(row, NOTHING) for row in range(max(names) + 1)]


def fit_labels(names: list[str], classes: int, where: str) -> list[str]:
    """Return one name for each of a detector's classes.

    A leading `???` beyond their number is the background, which the post-process leaves out.
    Raises UsageError when the numbers differ otherwise.
    """
    if len(names) == classes + 1 and names[0] == NOTHING:
        return names[1:]
    if len(names) != classes:
        raise UsageError(
            f"{where}: the detector knows {classes} class{'' if classes == 1 else 'es'}, "
            f"--labels names {len(names)}"
        )
    return names

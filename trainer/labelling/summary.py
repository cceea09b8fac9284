"""What a folder of crops is good for, in a few lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from trainer.data.crops import CropSet

FEW_CROPS = 10
_MOST_NAMES = 12


def describe(crops: CropSet) -> list[str]:
    """Return how many crops of how many animals and sessions there are, and who has too few."""
    sessions: dict[str, set[str]] = {animal: set() for animal in crops.animals}
    for animal, session in zip(crops.names(), crops.sessions, strict=True):
        sessions[animal].add(session)
    lines = [
        f"{counted(len(crops), 'crop')} of {counted(len(crops.animals), 'animal')} in "
        f"{counted(len(set(crops.sessions)), 'session')}"
    ]
    single = [animal for animal, own in sessions.items() if len(own) == 1]
    if single:
        lines.append(f"in a single session, so never held out: {_listed(single)}")
    counts = dict(zip(crops.animals, crops.counts().tolist(), strict=True))
    few = [f"{animal} ({count})" for animal, count in counts.items() if count < FEW_CROPS]
    if few:
        lines.append(f"fewer than {FEW_CROPS} crops: {_listed(few)}")
    return lines


def describe_skipped(skipped: Counter[str]) -> str:
    """Return what was left out, by reason, as one line; empty for nothing."""
    reasons = [f"{count} {reason}" for reason, count in skipped.most_common() if count]
    return f"left out: {', '.join(reasons)}" if reasons else ""


def counted(count: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _listed(names: Iterable[str]) -> str:
    shown = list(names)
    more = len(shown) - _MOST_NAMES
    return ", ".join(shown[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")

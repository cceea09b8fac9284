"""Up to which event a stream is settled: every one of them stored, or known to be lost.

Pure. A device that keeps its events until they are stored deletes up to the watermark, so it never
passes an event that might still come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lost:
    """`lost` of the events numbered first..last, both included, will never come."""

    first: int
    last: int
    lost: int


def settled(gaps: Sequence[Lost], stored_between: Callable[[int, int], int]) -> list[Lost]:
    """Return the gaps in which nothing is awaited any more: all that is not lost is stored.

    The others of a gap were on their way when the device counted its losses. stored_between: how
    many events of first..last are stored.
    """
    return [
        gap
        for gap in gaps
        if gap.last - gap.first + 1 - stored_between(gap.first, gap.last) <= gap.lost
    ]


def advance(watermark: int, stored: Iterable[int], gaps: Sequence[Lost]) -> int:
    """Return the highest seq up to which every event is stored or within one of `gaps`.

    stored: distinct stored seqs above `watermark`, rising; read only as far as needed, so that it
    may come from a query. gaps: settled ones.
    """
    spans = sorted((gap.first, gap.last) for gap in gaps)
    watermark = _skip(watermark, spans)
    for seq in stored:
        if seq <= watermark:
            continue
        if seq != watermark + 1:
            break
        watermark = _skip(seq, spans)
    return watermark


def _skip(watermark: int, spans: Iterable[tuple[int, int]]) -> int:
    """Pass the spans that begin where the watermark stands; they are sorted by their first."""
    for first, last in spans:
        if first > watermark + 1:
            break
        watermark = max(watermark, last)
    return watermark

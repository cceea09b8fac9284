"""Up to which event a stream is settled: every one of them stored, or known to be lost.

Pure. A device that keeps its events until they are stored deletes up to the watermark, so it never
passes an event that might still come.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Span = tuple[int, int]


def advance(watermark: int, stored: Iterable[int], gaps: Sequence[Span]) -> int:
    """Return the highest seq up to which every event is stored or within one of `gaps`.

    stored: distinct stored seqs above `watermark`, rising; read only as far as needed, so that it
    may come from a query. gaps: first and last, in any order, overlapping or not. What a device has
    told of as a gap it holds no more: an event of it that is on its way is not asked for again, and
    stored when it comes.
    """
    spans = sorted(gaps)
    watermark = _skip(watermark, spans)
    for seq in stored:
        if seq <= watermark:
            continue
        if seq != watermark + 1:
            break
        watermark = _skip(seq, spans)
    return watermark


def _skip(watermark: int, spans: Iterable[Span]) -> int:
    """Pass the spans that begin where the watermark stands; they are sorted by their first."""
    for first, last in spans:
        if first > watermark + 1:
            break
        watermark = max(watermark, last)
    return watermark

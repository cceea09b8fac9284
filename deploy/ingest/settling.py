"""Gaps are noted, and watermarks move on, by the rule of `watermark.py`, over the tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from deploy.ingest.database import Database
from deploy.ingest.streams import Stream
from deploy.ingest.watermark import Span, advance

# Rows of a query that is read until the first hole: small when there is one at once.
_FIRST_PAGE, _LARGEST_PAGE = 8, 4096

# First, last, and how many of them are lost.
Gap = tuple[int, int, int]


def all_lost(first: int, last: int) -> Gap:
    """Return the gap of events that are all lost."""
    return first, last, last - first + 1


def note_gap(database: Database, stream: int, gap: Gap, why: str, now: datetime) -> None:
    """Note that events of a stream will not come; once, however often it is told."""
    database.execute(
        "INSERT INTO gap (stream_id, first_seq, last_seq, lost, why, noted_at) "
        "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (stream, *gap, why, now),
    )


def settle(database: Database, streams: Iterable[Stream], *, with_gaps: bool) -> None:
    """Move the watermarks of locked streams on; with_gaps: gaps were noted in this transaction."""
    for stream in streams:
        stream.added.sort()
        begin = stream.watermark + 1
        if stream.added == list(range(begin, begin + len(stream.added))) and (
            stream.highest == stream.watermark and not with_gaps
        ):
            # Next in line and nothing beyond: the rule, and it needs no query.
            stream.watermark += len(stream.added)
            continue
        gaps = gaps_above(database, stream.id, stream.watermark)
        stored = stored_after(database, stream.id, stream.watermark)
        stream.watermark = advance(stream.watermark, stored, gaps)


def gaps_above(database: Database, stream: int, watermark: int) -> list[Span]:
    """Return the first and last of each gap that ends above a watermark."""
    rows = database.execute(
        "SELECT first_seq, last_seq FROM gap WHERE stream_id = ? AND last_seq > ?",
        (stream, watermark),
    )
    return [(first, last) for first, last in rows]


def stored_after(database: Database, stream: int, seq: int) -> Iterator[int]:
    """Yield the stored seqs above `seq`, rising, page by page."""
    page = _FIRST_PAGE
    while True:
        rows = database.execute(
            "SELECT seq FROM sighting WHERE stream_id = ? AND seq > ? ORDER BY seq LIMIT ?",
            (stream, seq, page),
        )
        for (seq,) in rows:
            yield seq
        if len(rows) < page:
            return
        page = min(page * 8, _LARGEST_PAGE)

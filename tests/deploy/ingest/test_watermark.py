from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.ingest.watermark import advance


@pytest.mark.parametrize(
    ("watermark", "stored", "gaps", "expected"),
    [
        (0, [], [], 0),
        (0, [1, 2, 3], [], 3),
        (0, [2, 3], [], 0),
        (0, [1, 2, 4, 5], [], 2),
        (4, [5, 7], [], 5),
        (2, [1, 2, 3], [], 3),
        (0, [4], [(1, 3)], 4),
        (0, [1, 4], [(2, 3)], 4),
        (0, [], [(1, 3), (2, 6)], 6),
        (0, [1, 7], [(2, 3), (4, 6)], 7),
        (0, [1, 7], [(3, 6)], 1),
        (5, [6], [(1, 3)], 6),
        (1, [3, 4], [(2, 4)], 4),
    ],
)
def test_the_watermark_stands_before_the_first_hole(watermark, stored, gaps, expected):
    assert advance(watermark, stored, gaps) == expected


def test_a_query_is_read_no_further_than_to_the_hole():
    read: list[int] = []

    def rows() -> Iterator[int]:
        for seq in (1, 2, 9, 10, 11):
            read.append(seq)
            yield seq

    assert advance(0, rows(), []) == 2
    assert read == [1, 2, 9]


SEQS = st.sets(st.integers(1, 40))
GAPS = st.lists(
    st.tuples(st.integers(1, 40), st.integers(0, 8)).map(lambda pair: (pair[0], sum(pair))),
    max_size=4,
)


def naive(stored: set[int], gaps: list[tuple[int, int]]) -> int:
    known = set(stored).union(*(range(first, last + 1) for first, last in gaps))
    watermark = 0
    while watermark + 1 in known:
        watermark += 1
    return watermark


@settings(deadline=None)
@given(stored=SEQS, gaps=GAPS)
def test_it_is_the_highest_seq_below_which_everything_is_known(stored, gaps):
    assert advance(0, sorted(stored), gaps) == naive(stored, gaps)


@settings(deadline=None)
@given(order=st.permutations(range(1, 13)), lost=st.sets(st.integers(1, 12)), data=st.data())
def test_in_whatever_order_and_batches_events_come_it_never_passes_a_hole(order, lost, data):
    """Two ingests of one group commit in any order; the device says late what it has dropped."""
    arriving = [seq for seq in order if seq not in lost]
    words: list[int | tuple[int, int]] = [*arriving]
    for seq in sorted(lost):
        words.insert(data.draw(st.integers(0, len(words))), (seq, seq))
    stored: set[int] = set()
    gaps: list[tuple[int, int]] = []
    watermark = 0
    while words:
        for _ in range(data.draw(st.integers(1, 5))):
            if words:
                word = words.pop(0)
                (gaps.append if isinstance(word, tuple) else stored.add)(word)  # type: ignore
        above = sorted(seq for seq in stored if seq > watermark)
        following = advance(watermark, above, gaps)
        assert following >= watermark
        watermark = following
        dropped = {first for first, _ in gaps}
        assert all(seq in stored or seq in dropped for seq in range(1, watermark + 1))
    assert watermark == 12


@settings(deadline=None)
@given(sent=st.integers(1, 30), data=st.data())
def test_it_never_passes_what_a_device_still_holds(sent, data):
    """A device deletes up to the watermark, and drops its oldest when full; messages get lost."""
    held = set(range(1, sent + 1))
    stored: set[int] = set()
    gaps: list[tuple[int, int]] = []
    watermark = 0
    for _ in range(data.draw(st.integers(1, 12))):
        stored |= data.draw(st.sets(st.sampled_from(sorted(held)))) if held else set()
        if held and data.draw(st.booleans()):
            first, last = min(held), data.draw(st.sampled_from(sorted(held)))
            held -= set(range(first, last + 1))
            gaps.append((first, last))
        following = advance(watermark, sorted(stored), gaps)
        assert not any(watermark < seq <= following for seq in held - stored)
        watermark = following
        held = {seq for seq in held if seq > watermark}


def test_the_order_of_the_table_is_no_matter():
    gaps = [(8, 9), (2, 3), (4, 6), (1, 1)]
    assert all(advance(0, [7], list(order)) == 9 for order in permutations(gaps))

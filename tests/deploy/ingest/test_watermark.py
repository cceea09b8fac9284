from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.ingest.watermark import Lost, advance, settled


def between(stored: set[int]):
    return lambda first, last: sum(first <= seq <= last for seq in stored)


@pytest.mark.parametrize(
    ("watermark", "stored", "gaps", "expected"),
    [
        (0, [], [], 0),
        (0, [1, 2, 3], [], 3),
        (0, [2, 3], [], 0),
        (0, [1, 2, 4, 5], [], 2),
        (4, [5, 7], [], 5),
        (2, [1, 2, 3], [], 3),
        (0, [4], [Lost(1, 3, 3)], 4),
        (0, [1, 4], [Lost(2, 3, 2)], 4),
        (0, [], [Lost(1, 3, 3), Lost(2, 6, 5)], 6),
        (0, [1, 7], [Lost(2, 3, 2), Lost(4, 6, 3)], 7),
        (0, [1, 7], [Lost(3, 6, 4)], 1),
        (5, [6], [Lost(1, 3, 3)], 6),
        (1, [3, 4], [Lost(2, 4, 1)], 4),
    ],
)
def test_the_watermark_stands_before_the_first_hole(watermark, stored, gaps, expected):
    assert advance(watermark, stored, gaps) == expected


@pytest.mark.parametrize(
    ("stored", "gap", "expected"),
    [
        (set(), Lost(5, 9, 5), True),
        ({7}, Lost(5, 9, 4), True),
        # One of the five that are missing is still on its way.
        (set(), Lost(5, 9, 4), False),
        ({4, 10}, Lost(5, 9, 4), False),
        # It was counted as lost, and came after all.
        ({7}, Lost(5, 9, 5), True),
    ],
)
def test_a_gap_is_settled_when_all_that_is_not_lost_has_come(stored, gap, expected):
    assert bool(settled([gap], between(stored))) is expected


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
    st.tuples(st.integers(1, 40), st.integers(0, 8)).map(
        lambda pair: Lost(pair[0], pair[0] + pair[1], pair[1] + 1)
    ),
    max_size=4,
)


def naive(stored: set[int], gaps: list[Lost]) -> int:
    known = set(stored).union(*(range(gap.first, gap.last + 1) for gap in gaps))
    watermark = 0
    while watermark + 1 in known:
        watermark += 1
    return watermark


@given(stored=SEQS, gaps=GAPS)
def test_it_is_the_highest_seq_below_which_everything_is_known(stored, gaps):
    assert advance(0, sorted(stored), gaps) == naive(stored, gaps)


@given(order=st.permutations(range(1, 13)), lost=st.sets(st.integers(1, 12)), data=st.data())
def test_in_whatever_order_and_batches_events_come_it_never_passes_a_hole(order, lost, data):
    """Two ingests of one group commit in any order; the device says late what it has dropped."""
    arriving = [seq for seq in order if seq not in lost]
    words: list[int | Lost] = [*arriving]
    for seq in sorted(lost):
        words.insert(data.draw(st.integers(0, len(words))), Lost(seq, seq, 1))
    stored: set[int] = set()
    gaps: list[Lost] = []
    watermark = 0
    while words:
        for _ in range(data.draw(st.integers(1, 5))):
            if words:
                word = words.pop(0)
                (gaps.append if isinstance(word, Lost) else stored.add)(word)  # type: ignore
        above = sorted(seq for seq in stored if seq > watermark)
        following = advance(watermark, above, settled(gaps, between(stored)))
        assert following >= watermark
        watermark = following
        dropped = {gap.first for gap in gaps}
        assert all(seq in stored or seq in dropped for seq in range(1, watermark + 1))
    assert watermark == 12


@given(stored=SEQS, held=SEQS, last=st.integers(1, 40), data=st.data())
def test_a_gap_with_events_on_their_way_does_not_let_it_pass_what_the_device_holds(
    stored, held, last, data
):
    held -= stored
    first = data.draw(st.integers(1, last))
    gone = [seq for seq in range(first, last + 1) if seq not in stored | held]
    if not gone:
        return
    gaps = settled([Lost(first, last, len(gone))], between(stored))
    watermark = advance(0, sorted(stored), gaps)
    assert not any(seq <= watermark for seq in held)

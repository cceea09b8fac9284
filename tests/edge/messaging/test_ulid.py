from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.messaging.ulid import UlidMaker


def test_the_example_of_the_specification():
    # github.com/ulid/spec: 1469918176385 ms is 01ARYZ6S41 in Crockford's base 32.
    make = UlidMaker(clock=lambda: 1469918176.385, entropy=lambda n: bytes(n))
    assert make() == "01ARYZ6S41" + "0" * 16
    assert make() == "01ARYZ6S41" + "0" * 15 + "1"


def test_the_random_part_fills_the_lower_sixteen_characters():
    make = UlidMaker(clock=lambda: 0.0, entropy=lambda n: b"\xff" * n)
    assert make() == "0" * 10 + "Z" * 16


@given(st.lists(st.floats(0, 4e9), min_size=2, max_size=20))
def test_ids_rise_whatever_the_clock_does(times: list[float]):
    clock = iter(times)
    make = UlidMaker(clock=lambda: next(clock))
    ids = [make() for _ in times]
    assert ids == sorted(set(ids))
    assert all(len(one) == 26 for one in ids)

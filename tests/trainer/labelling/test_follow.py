from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import pytest

from edge.vision.types import Frame
from trainer.labelling.follow import Follower, Seen

Box = tuple[float, float, float, float]
Script = Mapping[int, Sequence[Box]]


@pytest.fixture
def follow(
    scripted: Callable[[Script], object], frame: Callable[[int], Frame]
) -> Callable[[Script, int], tuple[dict[int, list[tuple[int, Seen]]], dict[int, int]]]:
    """Call with a script and a number of frames: what was seen of each part, and when it ended."""

    def run(
        script: Script, frames: int
    ) -> tuple[dict[int, list[tuple[int, Seen]]], dict[int, int]]:
        follower = Follower(scripted(script))  # type: ignore[arg-type]
        parts: dict[int, list[tuple[int, Seen]]] = defaultdict(list)
        ended: dict[int, int] = {}
        for index in range(frames):
            followed = follower.follow(frame(index))
            for seen in followed.seen:
                parts[seen.part].append((index, seen))
            for part in followed.ended:
                assert part not in ended
                ended[part] = index
        for part in follower.finish():
            assert part not in ended
            ended[part] = frames
        return dict(parts), ended

    return run


def box(x: float, y: float, width: float = 60, height: float = 40) -> Box:
    return (x, y, x + width, y + height)


def test_animals_apart_are_one_part_each(follow: Callable) -> None:
    script = {index: [box(20 + index, 20), box(20 + 2 * index, 160)] for index in range(30)}
    parts, ended = follow(script, 30)
    assert [len(part) for part in parts.values()] == [30, 30]
    assert set(ended.values()) == {30}
    for part in parts.values():
        assert len({seen.box[1] for _, seen in part}) == 1


def test_where_two_animals_pass_each_other_both_are_cut_apart(follow: Callable) -> None:
    """They meet at x = 130 after some 18 frames; y tells them apart for the test alone."""
    script = {index: [box(20 + 6 * index, 100), box(240 - 6 * index, 110)] for index in range(36)}
    parts, ended = follow(script, 36)
    assert len(parts) == 4
    for part in parts.values():
        assert len({float(seen.box[1]) for _, seen in part}) == 1
        assert all(seen.covered <= 0.3 for _, seen in part)
    # Before the meeting and after it: never across.
    spans = sorted((part[0][0], part[-1][0]) for part in parts.values())
    assert all(last < 18 or first > 18 for first, last in spans)
    assert sum(end == 36 for end in ended.values()) == 2


def test_a_gap_ends_a_part(follow: Callable) -> None:
    script = {index: [box(100, 100)] for index in range(30) if not 10 <= index < 14}
    parts, ended = follow(script, 30)
    assert [(part[0][0], part[-1][0]) for part in parts.values()] == [(0, 9), (14, 29)]
    # Told as soon as it is certain: after the fourth frame without the animal.
    assert ended == {1: 13, 2: 30}


def test_a_short_gap_does_not(follow: Callable) -> None:
    script = {index: [box(100, 100)] for index in range(30) if not 10 <= index < 12}
    parts, _ = follow(script, 30)
    assert [len(part) for part in parts.values()] == [28]


def test_a_jump_in_size_ends_a_part(follow: Callable) -> None:
    """As when a box begins to hold a second animal: 1.5 times as wide, e to the power of 0.41."""
    script = {index: [box(100, 100, 60 if index < 15 else 90)] for index in range(30)}
    parts, _ = follow(script, 30)
    assert [(part[0][0], part[-1][0]) for part in parts.values()] == [(0, 14), (15, 29)]
    assert len({seen.track for part in parts.values() for _, seen in part}) == 1


def test_slow_growth_does_not(follow: Callable) -> None:
    script = {index: [box(100, 100, 60 + index)] for index in range(30)}
    parts, _ = follow(script, 30)
    assert [len(part) for part in parts.values()] == [30]


def test_animals_on_each_other_are_no_part_of_anything(follow: Callable) -> None:
    """Each covers 40 % of the other, all the time."""
    script = {index: [box(100, 100), box(136, 100)] for index in range(20)}
    parts, ended = follow(script, 20)
    assert parts == {}
    assert ended == {}

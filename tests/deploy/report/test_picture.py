from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from deploy.report import picture as module
from deploy.report.picture import draw_timeline
from deploy.report.presence import Stay

BEGIN = datetime(2026, 11, 24, 5, 0, tzinfo=UTC)
BLUE, ORANGE = (0, 114, 178), (230, 159, 0)


def hour(hours: float) -> datetime:
    return BEGIN + timedelta(hours=hours)


def stay(animal: str, begin: float, end: float, camera="pen-3", **changes) -> Stay:
    fields = {"state": "gone", "confidence": 0.9, "approximate": False, **changes}
    return Stay(animal, "barn-7", camera, hour(begin), hour(end), **fields)


def draw(found, hours: float = 24.0, **options):
    return draw_timeline(found, BEGIN, hour(hours), UTC, title="title", **options)


def columns(image, colour, rows) -> list[int]:
    """The x of the pixels of a colour within some rows."""
    return sorted(set(np.nonzero((image[rows] == colour).all(-1))[1].tolist()))


def rows_of(number: int) -> slice:
    top = module._TITLE + module._AXIS + number * module._ROW
    return slice(top, top + module._ROW)


def test_a_bar_lies_in_its_animals_row_between_its_times_in_its_cameras_colour():
    image = draw([stay("cow1", 6, 12), stay("cow2", 0, 24, "pen-4")])
    frame = columns(image, ORANGE, rows_of(1))
    left, right = frame[0], frame[-1]
    bar = columns(image, BLUE, rows_of(0))
    assert bar == list(range(bar[0], bar[-1] + 1))
    assert (bar[0] - left) / (right - left) == pytest.approx(6 / 24, abs=0.002)
    assert (bar[-1] - left) / (right - left) == pytest.approx(12 / 24, abs=0.002)
    assert columns(image, ORANGE, rows_of(0)) == []


def test_two_cameras_at_once_share_the_height():
    alone = draw([stay("cow1", 1, 5)])
    both = draw([stay("cow1", 1, 5), stay("cow1", 2, 4, "pen-4")])
    x = columns(both, ORANGE, rows_of(0))[5]

    def height(image, colour) -> int:
        return int((image[rows_of(0), x] == colour).all(-1).sum())

    assert height(alone, BLUE) == 20
    assert (height(both, BLUE), height(both, ORANGE)) == (10, 10)


def test_a_short_visit_can_still_be_seen():
    image = draw([stay("cow1", 1, 1.0001)])
    assert len(columns(image, BLUE, rows_of(0))) >= 3


def test_who_is_still_there_has_an_arrow_beyond_the_end():
    def last(state: str) -> int:
        return columns(draw([stay("cow1", 1, 5, state=state)]), BLUE, rows_of(0))[-1]

    assert 6 < last("here") - last("gone") < 14


def test_a_guessed_time_is_hatched():
    sure = draw([stay("cow1", 1, 20)])
    guessed = draw([stay("cow1", 1, 20, approximate=True)])

    def area(image) -> int:
        return int((image[rows_of(0)] == BLUE).all(-1).sum())

    assert 0.5 < area(guessed) / area(sure) < 0.8


def test_nobody_and_animals_that_were_not_seen_are_drawn():
    assert draw([]).shape[1] == 1600
    with_row = draw([stay("cow1", 1, 2)], animals=["cow2", "cow3"])
    assert with_row.shape[0] - draw([stay("cow1", 1, 2)]).shape[0] == 2 * module._ROW


def test_everything_fits_in_with_long_names_and_many_cameras():
    found = [stay("c" * 48, n / 2, n / 2 + 1, f"camera-{n:02d}-{'x' * 30}") for n in range(20)]
    image = draw(found)
    for edge in (image[:, :4], image[:, -4:], image[-4:]):
        assert (edge == 255).all()


@pytest.mark.parametrize(
    ("hours", "labels"),
    [
        (2, ["06:00", "06:10", "07:50"]),
        (24, ["06:00", "08:00", "10:00"]),
        (24 * 6, ["12:00", "25 Nov", "12:00"]),
        (24 * 60, ["08 Dec", "22 Dec", "05 Jan"]),
    ],
)
def test_the_axis_has_round_local_times(hours, labels):
    zone = ZoneInfo("Europe/Berlin")
    ticks = module._ticks(BEGIN, hour(hours), zone, 15)
    assert len(ticks) <= 16
    rest = iter([label for _, label in ticks])
    # In this order, whatever lies between.
    assert all(label in rest for label in labels)


def test_the_axis_keeps_to_the_clock_when_summer_time_ends():
    zone = ZoneInfo("Europe/Berlin")
    begin = datetime(2026, 10, 24, 22, 0, tzinfo=UTC)
    ticks = module._ticks(begin, begin + timedelta(hours=25), zone, 30)
    at = {label: moment for moment, label in ticks}
    assert at["12:00"] - at["25 Oct"] == timedelta(hours=13)

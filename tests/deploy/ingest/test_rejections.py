from __future__ import annotations

import pytest

from deploy.ingest.records import Refused, refuse
from deploy.ingest.rejections import Rejections

HOUR_S = 3600.0


@pytest.fixture
def words() -> list[str]:
    return []


@pytest.fixture
def rejections(words) -> Rejections:
    return Rejections(words.append, 0.0)


def one(why: str = "malformed", device: str = "barn-7") -> Refused:
    return refuse(f"earmark/v1/{device}/up/sighting", b"", why)


def test_the_first_of_a_device_for_a_reason_is_told_at_once(rejections, words):
    rejections.note([one(), one(), one("newer"), one(device="barn-8")])
    assert [word.partition(" (")[0].partition(":")[0] for word in words] == [
        *("barn-7", "barn-7", "barn-8")
    ]
    assert ["malformed" in word for word in words] == [True, False, True]


def test_more_of_it_is_told_by_the_hour_until_it_is_over_and_then_anew(rejections, words):
    rejections.note([one(), one(), one()])
    rejections.look(HOUR_S - 1)
    assert len(words) == 1
    rejections.look(HOUR_S)
    assert words[1:] == ["barn-7: 2 more rejected in the last hour (malformed)"]
    rejections.note([one()])
    rejections.look(2 * HOUR_S)
    assert words[2:] == ["barn-7: 1 more rejected in the last hour (malformed)"]
    rejections.look(3 * HOUR_S)
    assert len(words) == 3
    rejections.note([one()])
    assert "a message was rejected" in words[3]


def test_whoever_invents_reasons_and_names_does_not_fill_the_log(rejections, words):
    rejections.note([one(f"reason {number}") for number in range(1000)])
    assert len(words) == 6
    assert "other reasons" in words[-1]
    rejections.look(HOUR_S)
    assert words[6:] == ["barn-7: 994 more rejected in the last hour (other reasons)"]
    rejections.note([one(device=f"d-{number}") for number in range(10_000)])
    assert len(words) < 600


@pytest.mark.parametrize("topic", ["", "other", "earmark/v1/", "earmark/v1"])
def test_a_topic_without_a_device_is_somebodys(rejections, words, topic):
    rejections.note([refuse(topic, b"", "no good")])
    assert words[0].startswith("somebody: ")

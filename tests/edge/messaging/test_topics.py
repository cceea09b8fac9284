from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import UsageError
from edge.messaging.topics import (
    Address,
    Topics,
    check_animals,
    check_id,
    is_doctors,
    parse_topic,
)

IDS = st.from_regex(r"[a-z0-9][a-z0-9-]{1,47}", fullmatch=True)


def test_topics_put_the_device_behind_the_version():
    topics = Topics("barn-7")
    assert topics.availability == "earmark/v1/barn-7/up/availability"
    assert topics.sighting == "earmark/v1/barn-7/up/sighting"
    assert topics.animal("cow004") == "earmark/v1/barn-7/up/animal/cow004"
    assert topics.everything_said == "earmark/v1/barn-7/up/#"


@pytest.mark.parametrize(
    "bad", ["", "a", "-ab", "Barn", "a/b", "a+", "a#", "ab\n", "ab ", "kuh-ä", "x" * 49]
)
def test_an_id_that_would_break_a_topic_is_refused_in_one_line(bad: str):
    with pytest.raises(UsageError, match=re.escape(repr(bad))) as caught:
        check_id("device", bad)
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError):
        Topics("barn-7").animal(bad)


def test_an_animal_may_not_be_called_what_nobody_is_called():
    check_animals(["cow004", "pig01"])
    with pytest.raises(UsageError, match="unknown"):
        check_animals(["cow004", "unknown"])


@given(IDS, IDS)
def test_every_topic_that_is_made_can_be_read(device: str, animal: str):
    topics = Topics(device)
    assert parse_topic(topics.animal(animal)) == Address(device, "animal", animal)
    assert parse_topic(topics.state) == Address(device, "state")
    assert parse_topic(topics.alarm) == Address(device, "alarm")
    assert parse_topic(topics.reply) == Address(device, "reply")


@given(st.text())
def test_any_text_is_a_topic_or_is_not(text: str):
    address = parse_topic(text)
    assert address is None or text.startswith(f"earmark/v1/{address.device}/up/{address.kind}")


@pytest.mark.parametrize(
    "topic",
    [
        "earmark/v1/barn-7/down/command",
        "earmark/v2/barn-7/up/state",
        "x/earmark/v1/barn-7/up/state",
        "earmark/v1/barn-7/up",
        "earmark/v1/barn-7/up/state/more",
        "earmark/v1/barn-7/up/animal",
        "earmark/v1/barn-7/up/animal/Cow",
        "earmark/v1/Barn/up/state",
    ],
)
def test_other_topics_are_not_ours(topic: str):
    assert parse_topic(topic) is None


def test_what_a_doctor_tries_is_known_by_its_topic():
    assert is_doctors(Topics("barn-7").doctor)
    for topic in (
        Topics("barn-7").alarm,
        "earmark/v1/barn-7/down/doctor",
        "earmark/v1/barn-7/up/doctor/x",
        "barn-7/up/doctor",
        "earmark/v1/Barn/up/doctor",
        "",
    ):
        assert not is_doctors(topic)

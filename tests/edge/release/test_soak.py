"""The agent's work by a release on trial, judged by what it says of itself."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from edge.release.heartbeat import Heartbeat
from edge.release.soak import Baseline, Soak, SoakTerms, Verdict, baseline, is_fresh
from edge.release.state import Boot

OLD, NEW = "aaaaaaaaaaaa-1", "bbbbbbbbbbbb-2"
TERMS = SoakTerms(30.0, 50)
BEFORE = Baseline(fps=5.0, degraded=False)


def beat(now_s: float, release: str = NEW, **changes: Any) -> Heartbeat:
    fields: dict[str, Any] = {
        "pid": 1,
        "boot": "b1",
        "release": release,
        "trial": release == NEW,
        "since_s": 0.0,
        "frames": 0,
        "named": 0,
        "unknown": 0,
        "backend": "edgetpu",
        "degraded": False,
        "error": None,
        "at_monotonic_s": now_s,
    }
    return Heartbeat(**{**fields, **changes})


def soak(before: Baseline | None = BEFORE, terms: SoakTerms = TERMS) -> Soak:
    return Soak(NEW, terms, before, 1000.0)


def tried(tries: int = 1) -> Boot:
    return Boot(trial=NEW, tries=tries)


def test_seconds_and_frames_are_both_wanted() -> None:
    one = soak()
    for since_s, frames in ((29.0, 500), (300.0, 49)):
        now_s = 1000 + since_s
        assert one.judge(beat(now_s, since_s=since_s, frames=frames), tried(), now_s) is None
    assert one.judge(beat(1301, since_s=30.0, frames=100), tried(), 1301) == Verdict("passed")


@pytest.mark.parametrize(
    ("before", "frames", "outcome"),
    [
        (5.0, 149, "passed"),  # of 150
        (5.0, 76, "passed"),
        (5.0, 74, "failed"),
        (None, 74, "passed"),
        (0.0, 74, "passed"),
    ],
)
def test_half_the_frame_rate_is_the_least(before: float | None, frames: int, outcome: str) -> None:
    known = Baseline(fps=before, degraded=False)
    found = soak(known).judge(beat(1030, since_s=30.0, frames=frames), tried(), 1030)
    assert found is not None
    assert found.outcome == outcome


def test_class_means_need_frames_and_no_rate() -> None:
    terms = SoakTerms(0.0, 5, least_rate=0.0)
    assert soak(terms=terms).judge(beat(1001, since_s=9.0, frames=4), tried(), 1001) is None
    found = soak(terms=terms).judge(beat(1001, since_s=9.0, frames=5), tried(), 1001)
    assert found == Verdict("passed")


def test_an_error_counts_for_the_release_that_it_names() -> None:
    one = soak()
    error = f"{OLD}: no such file"
    assert one.judge(beat(1001, OLD, error=error), tried(0), 1001) is None
    found = one.judge(beat(1002, OLD, error=f"{NEW}: no such accelerator"), tried(), 1002)
    assert found == Verdict("failed", "not-loaded", "no such accelerator")


def test_the_word_from_before_the_last_start_is_not_taken_for_a_death() -> None:
    one = soak()
    assert one.judge(beat(999, OLD), tried(1), 1001) is None
    # The second start is counted; what lies there is of the agent before it.
    assert one.judge(beat(1000, OLD), tried(2), 1002) is None
    assert one.judge(beat(1002, OLD), tried(2), 1005) is None
    found = one.judge(beat(1006, OLD), tried(2), 1006)
    assert found is not None
    assert (found.outcome, found.code) == ("failed", "dies")


def test_silence_is_waited_for_and_then_counts_if_somebody_had_started_it() -> None:
    for tries, outcome in ((0, "deferred"), (1, "failed")):
        one = soak()
        assert one.judge(beat(1001), tried(tries), 1001) is None
        assert one.judge(beat(1001), tried(tries), 1290) is None
        found = one.judge(beat(1001), tried(tries), 1302)
        assert found is not None
        assert found.outcome == outcome


def test_frames_that_do_not_come() -> None:
    for before, outcome in ((BEFORE, "failed"), (Baseline(fps=None, degraded=False), "deferred")):
        one = soak(before)
        assert one.judge(beat(1010, frames=9), tried(), 1010) is None
        assert one.judge(beat(1060, frames=9), tried(), 1060) is None
        found = one.judge(beat(1071, frames=9), tried(), 1071)
        assert found is not None
        assert (found.outcome, found.code) == (outcome, "no-frames")


@pytest.mark.parametrize(
    ("before", "fails"),
    [(BEFORE, True), (Baseline(fps=5.0, degraded=True), False), (None, False)],
)
def test_an_accelerator_that_is_lost_by_it(before: Baseline | None, fails: bool) -> None:
    found = soak(before).judge(beat(1001, degraded=True), tried(), 1001)
    assert (found is not None and found.code == "degraded") == fails


def test_the_rate_before_is_of_the_last_while() -> None:
    last = beat(1100, OLD, since_s=1000.0, frames=1000)
    assert baseline(None, last) == Baseline(fps=1.0, degraded=False)
    first = beat(1090, OLD, since_s=990.0, frames=950)
    assert baseline(first, last).fps == 5.0
    # Too short a while, or another start of the agent: since its release began.
    assert baseline(msgspec.structs.replace(first, at_monotonic_s=1098.0), last).fps == 1.0
    assert baseline(msgspec.structs.replace(first, boot="b0"), last).fps == 1.0
    assert baseline(None, beat(1100, OLD, since_s=3.0, frames=9)).fps is None


def test_a_word_from_before_the_machine_was_started_is_old() -> None:
    assert is_fresh(beat(1000), 1010)
    assert not is_fresh(beat(1000), 1016)
    assert not is_fresh(beat(1000), 20)
    assert not is_fresh(None, 20)

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.identity.evidence import (
    UNKNOWN,
    UNSURE,
    Evidence,
    EvidenceOptions,
    Vote,
    place_means,
    vote_labels,
)
from edge.identity.matching import NOBODY, Matcher
from edge.identity.means import ClassMeans, MeansHeader

OPTIONS = EvidenceOptions(
    window=10, min_votes=3, min_share=0.6, change_after=3, unknown_after_s=5.0
)
A, B = 0, 1


def at(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def vote(label: int, degrees: float = 0.0, weight: float = 1.0) -> Vote:
    return Vote(at(degrees)[0], weight, label)


def evidence(*labels: int) -> Evidence:
    track = Evidence(OPTIONS)
    for label in labels:
        track.add(vote(label))
    return track


def matcher() -> Matcher:
    return Matcher(
        ClassMeans(
            ("a", "b"),
            at(0, 90),
            np.array([0, 1], np.int32),
            np.zeros((2, 2)),
            np.zeros(2, np.int64),
            np.full(2, 0.4, np.float32),
            0.1,
            MeansHeader(),
        )
    )


def test_two_good_crops_are_too_few_and_three_are_enough() -> None:
    assert evidence(A, A).label == NOBODY
    assert evidence(A, A, A).label == A


def test_refusals_count_as_votes_for_nobody() -> None:
    # 3 of 5 is 60 %; 3 of 6 is not.
    assert evidence(UNKNOWN, UNSURE, A, A, A).label == A
    assert evidence(UNKNOWN, UNSURE, UNKNOWN, A, A, A).label == NOBODY
    assert evidence(UNKNOWN, UNKNOWN, UNKNOWN).label == NOBODY


def test_a_change_needs_three_in_a_row() -> None:
    # After the sixth and seventh crop nobody has 60 %, after the eighth B has 5 of 8.
    track = evidence(A, A, A, B, B, B, B)
    assert track.label == A
    track.add(vote(B))
    assert track.label == B
    # Nor does it take longer to nobody, when that is what the votes say.
    long = evidence(*[A] * 3, *[UNKNOWN] * 2)
    assert [long.label, long.share(A)] == [A, 0.6]
    for label, expected in ((B, A), (B, A), (B, NOBODY)):
        long.add(vote(label))
        assert long.label == expected


def test_one_answer_in_between_starts_the_row_anew() -> None:
    track = evidence(A, A, A, UNKNOWN, UNKNOWN)
    # A's share falls to 3/6, 4/7, rises to 5/8, falls to 5/9 and 5/10: two in a row, twice.
    for label in (UNKNOWN, A, A, UNKNOWN, UNKNOWN):
        track.add(vote(label))
        assert track.label == A
    track.add(vote(UNKNOWN))
    assert track.label == NOBODY


def test_a_name_is_also_lost_only_after_three_in_a_row() -> None:
    track = evidence(A, A, A, UNKNOWN, UNKNOWN, UNKNOWN)
    assert track.label == A
    track.add(vote(UNKNOWN))
    assert track.label == A
    track.add(vote(UNKNOWN))
    assert track.label == NOBODY


def test_old_votes_are_forgotten_so_that_a_switched_track_is_corrected() -> None:
    track = evidence(*[A] * 100)
    assert len(track.votes) == 10
    answers = []
    for _ in range(10):
        track.add(vote(B))
        answers.append(track.label)
    # From 5 B of 10 on A has no majority; the third such crop changes the identity.
    assert answers == [A] * 6 + [B] * 4


def test_going_through_nobody_counts_as_disagreement_too() -> None:
    track = evidence(A, A, B, B, B)
    assert track.label == B
    # Nobody (3 of 6), nobody (4 of 7), A (5 of 8).
    for label, expected in ((A, B), (A, B), (A, A)):
        track.add(vote(label))
        assert track.label == expected


@given(st.lists(st.sampled_from([A, B, UNKNOWN, UNSURE]), max_size=60))
def test_counts_shares_and_identity_agree(labels: list[int]) -> None:
    track = evidence(*labels)
    last = labels[-OPTIONS.window :]
    counts = track.counts()
    assert sum(counts.values()) == len(last)
    assert counts.get(A, 0) == last.count(A)
    assert counts.get(NOBODY, 0) == last.count(UNKNOWN) + last.count(UNSURE)
    if last:
        assert track.share(A) == last.count(A) / len(last)
    # Who has a name had it by the rule at one of the last three votes.
    if track.label != NOBODY:
        recent = [labels[max(0, n - 10) : n] for n in range(len(labels), len(labels) - 3, -1)]
        named = [r.count(track.label) for r in recent]
        assert any(
            count >= 3 and count >= 0.6 * len(r) for count, r in zip(named, recent, strict=True)
        )


def test_the_mean_is_weighted_and_of_unit_length() -> None:
    track = Evidence(OPTIONS)
    assert track.mean is None
    track.add(vote(A, 0, weight=3))
    track.add(vote(A, 90, weight=1))
    assert track.mean is not None
    np.testing.assert_allclose(track.mean, np.array([3, 1]) / np.sqrt(10), rtol=1e-6)


def test_weight_is_score_times_sharpness_up_to_full() -> None:
    track = Evidence(EvidenceOptions(full_sharpness=100))
    assert track.weight(0.8, 50) == pytest.approx(0.4)
    assert track.weight(0.8, 1000) == pytest.approx(0.8)
    assert track.weight(0.0, 0.0) > 0


def test_votes_of_an_embedding_by_the_matcher() -> None:
    # 60 degrees from a is cosine distance 0.5, beyond 0.4; 45 is as near to a as to b.
    assert vote_labels(at(0, 90, -60, 45), matcher()).tolist() == [A, B, UNKNOWN, UNSURE]


def test_standing_is_the_means_distance_and_lead() -> None:
    track = evidence(A, A, A)
    assert track.standing(A) == (None, None)
    place_means([track, Evidence(OPTIONS)], matcher())
    assert track.standing(A) == pytest.approx((0, 1), abs=1e-6)
    assert track.standing(B) == pytest.approx((1, -1), abs=1e-6)
    assert track.standing(NOBODY) == track.standing(A)


def test_claims_grow_with_the_share_and_for_the_holder_and_shrink_out_of_sight() -> None:
    assert evidence(A, A).claims(seen=True) == {}
    whole, part = evidence(A, A, A), evidence(A, A, A, UNKNOWN)
    assert whole.claims(seen=True)[A] > part.claims(seen=True)[A] > 0
    assert 0 < whole.claims(seen=False)[A] < whole.claims(seen=True)[A]
    part.name = A
    without = evidence(A, A, A, UNKNOWN).claims(seen=True)[A]
    assert part.claims(seen=True)[A] == pytest.approx(without + OPTIONS.holder_bonus)


def test_of_equal_shares_the_nearer_mean_claims_more() -> None:
    near, far = Evidence(OPTIONS), Evidence(OPTIONS)
    for _ in range(3):
        near.add(vote(A, 1))
        far.add(vote(A, 30))
    place_means([near, far], matcher())
    assert near.claims(seen=True)[A] > far.claims(seen=True)[A]


def test_reasons() -> None:
    assert Evidence(OPTIONS).reason() == "unknown"
    assert evidence(UNKNOWN, UNKNOWN, A).reason() == "unknown"
    assert evidence(A, A, B, B).reason() == "unsure"
    crowded = evidence(A)
    crowded.refuse("crowded")
    assert crowded.reason() == "crowded"
    crowded.refuse("poor")
    assert crowded.reason() == "unsure"
    known = evidence(A, A, A)
    known.refuse("crowded")
    assert known.reason() == "unsure"


def test_settles_with_a_name_or_after_a_while_and_stays_settled() -> None:
    track = Evidence(OPTIONS)
    track.settle(4.9)
    assert not track.settled
    track.settle(5.0)
    assert track.settled
    named = evidence(A, A, A)
    named.settle(0.1)
    assert not named.settled  # the votes are for A, but nobody has given it the name yet
    named.name = A
    named.settle(0.1)
    named.name = NOBODY
    named.settle(0.2)
    assert named.settled


def test_more_crops_are_wanted_until_settled_and_after_one_that_disagrees() -> None:
    track = evidence(A, A, A)
    assert track.open
    track.name = A
    track.settle(0.0)
    assert not track.open
    for label, wanted in ((B, True), (A, False), (UNSURE, True), (B, True)):
        track.add(vote(label))
        assert track.open == wanted
    stranger = evidence(UNKNOWN, UNKNOWN)
    stranger.settle(9.0)
    assert not stranger.open
    stranger.add(vote(UNSURE))
    assert not stranger.open
    stranger.add(vote(A))
    assert stranger.open


def test_other_means_let_the_same_crops_vote_again() -> None:
    track = evidence(A, A, A, A)
    track.name = A
    track.relabel(np.array([B, B, B, UNKNOWN]))
    assert (track.label, track.name) == (B, NOBODY)
    assert track.counts() == {B: 3, NOBODY: 1}
    assert track.mean is not None


def test_a_younger_tracks_evidence_is_continued() -> None:
    old, young = evidence(A, A, A), Evidence(OPTIONS)
    for _ in range(9):
        young.add(vote(A, 20))
    old.absorb(young)
    assert len(old.votes) == 10
    assert old.votes[0].embedding[1] == 0
    assert old.votes[-1].embedding[1] > 0
    assert old.label == A


def test_few_votes_claim_less_than_many() -> None:
    few, many = evidence(A, A, A), evidence(*[A] * 10)
    # 3 of 3 and two doubted, 10 of 10 and two doubted.
    assert few.claims(seen=True)[A] == pytest.approx(3 / 5)
    assert many.claims(seen=True)[A] == pytest.approx(10 / 12)


def test_a_first_name_needs_a_clear_lead_and_a_held_one_only_a_lead() -> None:
    track = evidence(A, A, A)
    track.place(np.array([0.20, 0.25], np.float32))
    assert track.claims(seen=True) == {}
    track.name = A
    assert track.claims(seen=True)[A] > 0
    track.place(np.array([0.25, 0.20], np.float32))
    assert track.claims(seen=True) == {}
    track.name = NOBODY
    track.place(np.array([0.20, 0.31], np.float32))
    assert track.claims(seen=True)[A] > 0


def test_votes_for_an_animal_that_is_elsewhere_are_struck() -> None:
    # 5 of 9 are for A; without those 3 of 4 are for B.
    track = evidence(A, B, A, B, A, UNKNOWN, A, B, A)
    track.place(np.array([0.1, 0.2], np.float32))
    assert track.claims(seen=True, elsewhere=frozenset({A})).keys() == {B}
    # A is the nearest, but not in question, so B has no next one.
    assert track.standing(B, frozenset({A})) == (pytest.approx(0.2), np.inf)
    assert track.standing(B) == (pytest.approx(0.2), pytest.approx(-0.1))
    # With both elsewhere there is nobody left, and refusals go on counting.
    assert track.claims(seen=True, elsewhere=frozenset({A, B})) == {}
    doubtful = evidence(B, B, B, UNKNOWN, UNKNOWN, UNKNOWN, A, A)
    assert doubtful.claims(seen=True, elsewhere=frozenset({A})) == {}


def test_the_second_choice_must_resemble_the_animal() -> None:
    held = frozenset({A})
    thresholds = np.array([0.3, 0.3], np.float32)
    # 3 of 13 votes are too few for a name, however alone they stand without A's.
    few = Evidence(EvidenceOptions(window=16))
    for label in (*[A] * 10, B, B, B):
        few.add(vote(label))
    few.place(np.array([0.1, 0.2], np.float32), thresholds)
    assert few.claims(seen=True, elsewhere=held) == {}
    # 4 of 10 are enough where the mean is near, and not where it is beyond the threshold.
    more = evidence(*[A] * 6, *[B] * 4)
    more.place(np.array([0.1, 0.2], np.float32), thresholds)
    assert more.claims(seen=True, elsewhere=held).keys() == {B}
    more.place(np.array([0.1, 0.31], np.float32), thresholds)
    assert more.claims(seen=True, elsewhere=held) == {}
    assert more.reason() == "unsure"
    # The first choice is the votes' own.
    assert more.claims(seen=True).keys() == {A}


def test_more_crops_are_wanted_while_another_claims_the_same_animal() -> None:
    track = evidence(A, A, A)
    track.settled = True
    assert not track.open
    track.rivalled = True
    assert track.open

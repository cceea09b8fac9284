"""What a track's good crops say about who it is: votes, a mean embedding, an identity.

Only the last crops count, so that an early mistake, or a track that jumped to another animal,
mends itself.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge.identity.matching import NOBODY, Matcher
from edge.vision.types import Floats

Reason = Literal["unknown", "unsure", "crowded"]
UNKNOWN, UNSURE = -1, -2
_NEARNESS = 0.1
_LEAST_WORTH = 1e-3
_NO_ANIMALS: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class EvidenceOptions:
    """When a track has an identity.

    window: good crops that count, the last ones. min_votes, min_share: an animal needs that many
    votes, and that share of all votes, those for nobody included. change_after: so many crops in
    a row must leave the votes for somebody else, or nobody, before the identity changes.
    unknown_after_s: a track without identity is settled after so many seconds. full_sharpness:
    beyond this Laplacian variance a crop weighs no more; what then differs is the coat's
    contrast, not the focus.
    holder_bonus: lead, as a share of the votes, of the track that has a name over another that
    claims it. doubted_votes: how many votes short of all agreeing a claim counts as being, so that
    few votes weigh less than many. least_margin: by how much the mean embedding must be nearer to
    an animal than to any other before a track gets its name; it keeps one while the mean is
    nearest at all.
    """

    window: int = 16
    min_votes: int = 3
    min_share: float = 0.5
    change_after: int = 3
    unknown_after_s: float = 10.0
    full_sharpness: float = 150.0
    holder_bonus: float = 0.15
    doubted_votes: float = 2.0
    least_margin: float = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Vote:
    """One good crop: its unit embedding (D,), its weight (more than 0), and whom it names.

    label: an animal's index, UNKNOWN or UNSURE.
    """

    embedding: Floats
    weight: float
    label: int


class Evidence:
    """The evidence of one track.

    mean: unit mean embedding (D,) of the window by weight; None before the first good crop.
    label: the identity by the track's own votes, after hysteresis; NOBODY for none.
    name: the identity after the assignment over all tracks, which sets it.
    settled: decided, or without an answer for long enough; a track never unsettles.
    rivalled: another track in view claims the same animal.
    """

    def __init__(self, options: EvidenceOptions) -> None:
        self._options = options
        self._votes: deque[Vote] = deque(maxlen=options.window)
        self._counts: Counter[int] = Counter()
        self._asked = 0  # crops in a row after which the votes were for somebody else, or nobody
        self._crowded = False
        self._distances: Floats | None = None
        self._thresholds: Floats | None = None
        self._standing: dict[int, tuple[float, float]] = {}
        self.mean: Floats | None = None
        self.label = NOBODY
        self.name = NOBODY
        self.settled = False
        self.rivalled = False

    @property
    def votes(self) -> tuple[Vote, ...]:
        """The votes that count, oldest first."""
        return tuple(self._votes)

    @property
    def open(self) -> bool:
        """Say whether more crops are wanted soon: not settled, disputed, or the last disagreed."""
        if not self.settled or self.rivalled or self._asked > 0:
            return True
        return bool(self._votes) and max(self._votes[-1].label, NOBODY) != self.label

    def weight(self, score: float, sharpness: float) -> float:
        """Return what a crop weighs in the mean: detector score * sharpness, the latter 0..1."""
        return max(1e-6, score * min(1.0, sharpness / self._options.full_sharpness))

    def add(self, vote: Vote) -> None:
        """Count one more good crop; the oldest beyond the window is forgotten."""
        self._votes.append(vote)
        self._crowded = False
        self._recount()
        verdict = self._verdict()
        if verdict == self.label:
            self._asked = 0
            return
        self._asked += 1
        if self.label == NOBODY or self._asked >= self._options.change_after:
            self.label, self._asked = verdict, 0

    def refuse(self, refusal: str) -> None:
        """Note that the latest crop was no evidence: `crowded` or `poor`."""
        self._crowded = refusal == "crowded"

    def replace_options(self, options: EvidenceOptions) -> None:
        """Judge by other options from the next crop on; what is settled stays settled."""
        self._options = options
        self._votes = deque(self._votes, maxlen=options.window)
        self._recount()

    def relabel(self, labels: NDArray[np.int64]) -> None:
        """Let the votes (V,) name others, by other class means; nothing of the past is kept."""
        renamed = [
            Vote(vote.embedding, vote.weight, int(label))
            for vote, label in zip(self._votes, labels, strict=True)
        ]
        self._votes = deque(renamed, maxlen=self._options.window)
        self._recount()
        self.label, self.name, self._asked = self._verdict(), NOBODY, 0
        self._distances, self._standing = None, {}

    def absorb(self, younger: Evidence) -> None:
        """Go on with the evidence of a younger track of the same animal."""
        self._votes.extend(younger._votes)
        self._recount()
        self._asked, self._crowded = 0, younger._crowded
        self._distances, self._standing = younger._distances, {}
        self._thresholds = younger._thresholds

    def place(self, distances: Floats, thresholds: Floats | None = None) -> None:
        """Take the cosine distances (A,) of the mean embedding to every animal.

        thresholds: (A,), beyond which it is not this animal; None where nobody is too far.
        """
        self._distances, self._standing = distances.copy(), {}
        self._thresholds = thresholds

    def counts(self) -> dict[int, int]:
        """Return votes by label; NOBODY stands for unknown and unsure together."""
        table = {label: count for label, count in self._counts.items() if label >= 0}
        nobody = self._counts[UNKNOWN] + self._counts[UNSURE]
        return {**table, NOBODY: nobody} if nobody else table

    def share(self, label: int) -> float:
        """Return an animal's share of all votes, 0..1."""
        return self._counts[label] / len(self._votes) if self._votes and label >= 0 else 0.0

    def standing(
        self, label: int, elsewhere: frozenset[int] = _NO_ANIMALS
    ) -> tuple[float | None, float | None]:
        """Return the mean's cosine distance to an animal, and how much farther the next one is.

        For NOBODY: of the nearest animal. elsewhere: animals that are not counted as next. None,
        None without good crops or without a herd. The second is infinite in a herd of one, and
        negative when another animal is nearer.
        """
        if self._distances is None or not len(self._distances):
            return None, None
        known = self._standing.get(label) if not elsewhere else None
        if known is None:
            own = int(np.argmin(self._distances)) if label == NOBODY else label
            others = self._distances.copy()
            others[[own, *elsewhere]] = np.inf
            distance = float(self._distances[own])
            known = (distance, float(others.min()) - distance)
            if not elsewhere:
                self._standing[label] = known
        return known

    def claims(self, seen: bool, elsewhere: frozenset[int] = _NO_ANIMALS) -> dict[int, float]:
        """Return the label this track claims and what the claim is worth, more than 0.

        seen: the animal is in view; a track that is missing its own claims only half as much.
        elsewhere: animals that other tracks are named: this is none of them, whatever its votes
        for them, so those are struck. What is left must still resemble the animal: a fair share of
        all votes, and a mean embedding within its threshold. Else it would get the name of whoever
        a few crops were taken for.
        """
        label = self._verdict(elsewhere) if elsewhere else self.label
        if label == NOBODY or label in elsewhere or (elsewhere and not self._resembles(label)):
            return {}
        distance, margin = self.standing(label, elsewhere)
        holds = self.name == label
        if margin is not None and margin < (0.0 if holds else self._options.least_margin):
            return {}
        # Between equal shares of the votes the nearer mean decides.
        near = 0.0 if distance is None else _NEARNESS * max(0.0, 1 - distance)
        held = self._options.holder_bonus if holds else 0.0
        share = self._counts[label] / (len(self._votes) + self._options.doubted_votes)
        worth = max(_LEAST_WORTH, share + near + held)
        return {label: worth if seen else worth / 2}

    def _resembles(self, label: int) -> bool:
        fair_share = 2 * self.share(label) >= self._options.min_share
        if self._distances is None or self._thresholds is None:
            return fair_share
        return fair_share and bool(self._distances[label] <= self._thresholds[label])

    def reason(self) -> Reason:
        """Return why the track has no name."""
        if len(self._votes) < self._options.min_votes and self._crowded:
            return "crowded"
        return "unknown" if 2 * self._counts[UNKNOWN] >= len(self._votes) else "unsure"

    def settle(self, age_s: float) -> None:
        """Decide whether the track is settled, `age_s` seconds after it was first seen."""
        if self.name != NOBODY or age_s >= self._options.unknown_after_s:
            self.settled = True

    def _recount(self) -> None:
        self._counts = Counter(vote.label for vote in self._votes)
        if self._votes:
            stack = np.stack([vote.embedding for vote in self._votes])
            total = np.array([vote.weight for vote in self._votes], np.float32) @ stack
            norm = float(np.linalg.norm(total))
            if norm > 0:
                self.mean = np.asarray(total / norm, np.float32)

    def _verdict(self, elsewhere: frozenset[int] = _NO_ANIMALS) -> int:
        counts = {label: n for label, n in self._counts.items() if label not in elsewhere}
        named = [(count, -label) for label, count in counts.items() if label >= 0]
        if not named:
            return NOBODY
        count, negative = max(named)
        enough = count >= self._options.min_votes
        share = count / sum(counts.values())
        return -negative if enough and share >= self._options.min_share else NOBODY


def vote_labels(embeddings: Floats, matcher: Matcher) -> NDArray[np.int64]:
    """Return whom each embedding (N, D) votes for (N,): an animal's index, UNKNOWN or UNSURE."""
    answers = matcher.label(embeddings)
    nobody = np.where(answers.unknown, UNKNOWN, UNSURE)
    return np.where(answers.labels == NOBODY, nobody, answers.labels)


def place_means(evidences: list[Evidence], matcher: Matcher) -> None:
    """Tell each track that has a mean embedding how far it lies from every animal."""
    held = [(evidence, evidence.mean) for evidence in evidences if evidence.mean is not None]
    if held:
        distances = matcher.distances(np.stack([mean for _, mean in held]))
        for (evidence, _), row in zip(held, distances, strict=True):
            evidence.place(row, matcher.means.threshold)

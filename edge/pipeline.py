"""Frame in, tracked and named animals out. Pure: no clock, disk, network or randomness.

The order of one frame, so that few crops are embedded and none of them twice:

1. detect, weak boxes included; strong ones whose crop may be good (edge, size, cover) are noted;
2. predict the tracks; embed the crops of strong boxes that two tracks contest, most doubtful first;
3. associate by place, and by appearance where 2 gave one; then weak boxes by IoU;
4. embed boxes nobody took while a track's animal is missing, and recover that track by appearance;
5. embed the crops of tracks that need evidence: not settled, moved, or not looked at for long;
6. votes and mean embeddings; young tracks go into lost ones of the same animal;
7. one assignment over tracks and animals names them all.

Steps 2, 4 and 5 share one budget of crops a frame; most overdue tracks come first.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge.errors import BundleError
from edge.identity.assignment import assign_claims
from edge.identity.evidence import EvidenceOptions, Vote, place_means, vote_labels
from edge.identity.matching import NOBODY, Matcher
from edge.identity.means import ClassMeans
from edge.identity.tracking import Tracker, TrackerOptions, TrackState
from edge.identity.types import Track
from edge.vision.doubles import without_doubles
from edge.vision.look import CropEmbedder, Look
from edge.vision.quality import CropGates
from edge.vision.types import Detections, Frame, FrameDetector

_STRONGER = 1.2


@dataclass(frozen=True, slots=True)
class EmbeddingOptions:
    """How often an animal is looked at (its crop cut and embedded).

    max_crops: a frame, all animals together; contested_crops: how many of them may settle who a
    contested detection belongs to. open_every_s: between looks at a track that is not settled, or
    whose identity is questioned; moved_every_s: at one that moved or has no name; rest_every_s:
    at any other. moved: distance of the centre or change of size, in lengths (sqrt of the box's
    area), from which a track has moved.
    """

    max_crops: int = 8
    contested_crops: int = 4
    open_every_s: float = 0.15
    moved_every_s: float = 0.5
    rest_every_s: float = 10.0
    moved: float = 0.25


@dataclass(frozen=True, slots=True)
class PipelineOptions:
    """All options of the pipeline.

    strong_score: from which a detection may start a track and give evidence; None: a fifth more
    than the detector's own threshold, which counts boxes of one frame, whereas a track that starts
    wrongly stays (ByteTrack asks more of a new track too). weak_share: share of it from which a
    detection may keep a track alive. double_iou, double_covered: a box with a better one beyond
    either is a double (see `without_doubles`). absent_s: an animal that was not found for longer
    has half a claim on its name, so that a new track of it can take the name over.
    """

    strong_score: float | None = None
    weak_share: float = 0.7
    double_iou: float = 0.4
    double_covered: float = 0.75
    absent_s: float = 1.0
    gates: CropGates = field(default_factory=CropGates)
    tracker: TrackerOptions = field(default_factory=TrackerOptions)
    evidence: EvidenceOptions = field(default_factory=EvidenceOptions)
    embedding: EmbeddingOptions = field(default_factory=EmbeddingOptions)

    def scores(self, score_threshold: float) -> tuple[float, float]:
        """Return from which score a detection is weak and from which strong.

        score_threshold: the detector's own.
        """
        strong = self.strong_score
        if strong is None:
            strong = min(0.95, _STRONGER * score_threshold)
        return self.weak_share * strong, strong


def sift(
    found: Detections, strong_score: float, options: PipelineOptions
) -> tuple[Detections, NDArray[np.bool_]]:
    """Return weak and strong detections without doubles, and which (N,) are strong.

    found: best first, weak ones included.
    """
    left = without_doubles(found, options.double_iou, options.double_covered)
    return left, left.scores >= strong_score


@dataclass(frozen=True, slots=True)
class FrameResult:
    """What one frame gave.

    index: the frame's. tracks: alive and confirmed, by id; an animal that is missing for the
    moment has `seen` false and a predicted box. ended: closed with this frame, each once; one that
    is not settled may have turned out to be an older track's animal. detections: all of this
    frame's, weak ones (`weak_share`) included, doubles left out.
    """

    index: int
    tracks: tuple[Track, ...]
    ended: tuple[Track, ...]
    detections: Detections


class FrameTracker(Protocol):
    """One camera's way from frames to named tracks, whichever tracker it is."""

    def process(self, frame: Frame) -> FrameResult:
        """Work through the next frame of the camera."""

    def finish(self) -> tuple[Track, ...]:
        """End the stream: return the tracks that were still alive, as they stand."""

    def replace_means(self, means: ClassMeans) -> None:
        """Take other class means of the same embedder, between two frames."""

    def replace_options(self, options: PipelineOptions) -> None:
        """Name and embed by other options, between two frames."""


class Pipeline:
    """One camera's way from frames to named tracks; models may be shared, one thread at a time."""

    def __init__(
        self,
        detector: FrameDetector,
        embedder: CropEmbedder,
        means: ClassMeans,
        options: PipelineOptions | None = None,
    ) -> None:
        self._options = options or PipelineOptions()
        self._detector = detector
        self._embedder = embedder
        self._tracker = Tracker(self._options.tracker, self._options.evidence)
        self._matcher = self._checked(means)
        self._now_s = 0.0

    def process(self, frame: Frame) -> FrameResult:
        """Work through the next frame of the camera."""
        options = self._options
        weak_score, strong_score = options.scores(self._detector.score_threshold)
        found, strong = sift(self._detector.detect(frame.image, weak_score), strong_score, options)
        look = Look(
            frame.image, found, strong, self._embedder, options.gates, options.embedding.max_crops
        )
        tracker, now_s = self._tracker, frame.monotonic_s
        self._now_s = now_s

        tracker.begin(now_s)
        look.embed(tracker.contested(found, strong), options.embedding.contested_crops)
        tracker.associate(found, strong, look.embeddings, look.embedded)
        look.embed(tracker.missing(strong))
        tracker.recover(found, strong, look.embeddings, look.embedded)
        ended = tracker.finish(found, strong)
        look.embed(self._due(look, now_s))
        self._vote(look, now_s)
        absorbed = tracker.reunite()
        self._name()
        for track in tracker.tracks:
            if track.confirmed:
                track.evidence.settle(now_s - track.first_seen_s)
        closed = tuple(self._report(track) for track in ended + absorbed)
        return FrameResult(frame.index, self._alive(), closed, found)

    def finish(self) -> tuple[Track, ...]:
        """End the stream: return the tracks that were still alive, as they stand."""
        alive = self._alive()
        self._tracker.clear()
        return alive

    def replace_means(self, means: ClassMeans) -> None:
        """Take other class means of the same embedder, between two frames.

        Tracks go on. Their good crops vote again by the new means, so that an animal that is
        enrolled while it is in view is named at once, and one that left the herd loses its name.
        Raises BundleError for means of another dimension; the old ones then stay.
        """
        self._matcher = self._checked(means)
        held = [track.evidence for track in self._tracker.tracks if track.evidence.votes]
        for evidence in held:
            embeddings = np.stack([vote.embedding for vote in evidence.votes])
            evidence.relabel(vote_labels(embeddings, self._matcher))
        place_means(held, self._matcher)
        self._name()

    def replace_options(self, options: PipelineOptions) -> None:
        """Name and embed by other options, between two frames; tracks go on.

        Tracks are followed by the options that they began with: `tracker` is not looked at.
        """
        self._options = options
        self._tracker.replace_evidence_options(options.evidence)

    def _checked(self, means: ClassMeans) -> Matcher:
        if means.dimension != self._embedder.dimension:
            raise BundleError(
                f"class means of dimension {means.dimension} do not fit this embedder "
                f"({self._embedder.dimension}); build them again with the bundle in use"
            )
        return Matcher(means)

    def _due(self, look: Look, now_s: float) -> NDArray[np.int64]:
        """Return the detections whose tracks need a look, most overdue first.

        A crop that cannot be good is noted as such here and costs nothing.
        """
        options = self._options.embedding
        due: list[tuple[float, int, int]] = []
        for track in self._tracker.tracks:
            if track.detection < 0 or not track.confirmed:
                continue
            if (refusal := look.refusals[track.detection]) is not None:
                track.evidence.refuse(refusal)
                continue
            if track.evidence.open:
                every_s = options.open_every_s
            elif track.evidence.name == NOBODY or _moved(track, options.moved):
                every_s = options.moved_every_s
            else:
                every_s = options.rest_every_s
            overdue = (now_s - track.tried_s) / max(every_s, 1e-6)
            if overdue >= 1:
                due.append((-overdue, track.id, track.detection))
        return np.array([detection for _, _, detection in sorted(due)], np.int64)

    def _vote(self, look: Look, now_s: float) -> None:
        """Turn the good crops of this frame into evidence; bad ones are noted."""
        voters: list[TrackState] = []
        for track in self._tracker.tracks:
            if track.detection < 0 or not look.cut[track.detection]:
                continue
            track.tried_s, track.tried_box = now_s, track.box
            refusal = look.refusals[track.detection]
            if refusal is not None:
                track.evidence.refuse(refusal)
            # Crops of the same moment say the same: they must not outvote the others.
            elif now_s - track.voted_s >= self._options.embedding.open_every_s:
                track.voted_s = now_s
                voters.append(track)
        if not voters:
            return
        rows = np.array([track.detection for track in voters])
        labels = vote_labels(look.embeddings[rows], self._matcher)
        for track, row, label in zip(voters, rows, labels, strict=True):
            weight = track.evidence.weight(track.score, look.sharpness[row])
            track.evidence.add(Vote(look.embeddings[row].copy(), weight, int(label)))
        place_means([track.evidence for track in voters], self._matcher)

    def _name(self) -> None:
        """Name all tracks at once: two tracks of a camera are never the same animal.

        Who is left without a name is asked again, now that others have theirs: of two animals
        that look alike, the one that is sure of itself makes the other sure as well.
        """
        tracks = self._tracker.tracks
        seen = [self._now_s - track.last_seen_s <= self._options.absent_s for track in tracks]
        claims = [t.evidence.claims(s) for t, s in zip(tracks, seen, strict=True)]
        labels = assign_claims(claims)
        claimed = Counter(label for c, s in zip(claims, seen, strict=True) if s for label in c)
        taken = frozenset(labels) - {NOBODY}
        left = [row for row, label in enumerate(labels) if label == NOBODY] if taken else []
        more = assign_claims([tracks[row].evidence.claims(seen[row], taken) for row in left])
        for row, label in zip(left, more, strict=True):
            labels[row] = label
        for track, label, claim in zip(tracks, labels, claims, strict=True):
            track.evidence.name = label
            track.evidence.rivalled = any(claimed[wanted] > 1 for wanted in claim)

    def _alive(self) -> tuple[Track, ...]:
        tracks = [self._report(track) for track in self._tracker.tracks if track.confirmed]
        return tuple(sorted(tracks, key=lambda track: track.id))

    def _report(self, track: TrackState) -> Track:
        evidence, animals = track.evidence, self._matcher.animals
        named = evidence.name != NOBODY
        distance, margin = evidence.standing(evidence.name)
        votes = {
            "unknown" if label == NOBODY else animals[label]: count
            for label, count in sorted(evidence.counts().items(), key=lambda item: -item[1])
        }
        return Track(
            id=track.id,
            box=track.box,
            score=track.score,
            age_frames=track.age_frames,
            first_seen_s=track.first_seen_s,
            last_seen_s=track.last_seen_s,
            animal=animals[evidence.name] if named else None,
            reason=None if named else evidence.reason(),
            confidence=evidence.share(evidence.name),
            distance=distance,
            margin=margin,
            votes=votes,
            settled=evidence.settled,
            seen=track.detection >= 0,
        )


def _moved(track: TrackState, limit: float) -> bool:
    """Say whether a track moved or changed its size by `limit` lengths since it was looked at."""
    if track.tried_box is None:
        return True
    box, before = track.box, track.tried_box
    sides, old_sides = box[2:] - box[:2], before[2:] - before[:2]
    length = max(1.0, float(np.sqrt(old_sides[0] * old_sides[1])))
    shift = (box[:2] + box[2:] - before[:2] - before[2:]) / 2
    change = np.abs(sides - old_sides)
    return max(float(np.hypot(*shift)), float(change.max())) >= limit * length

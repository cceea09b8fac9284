"""Following animals over frames: Kalman filters, two-stage association, lost and found.

One frame is worked through in steps, so that the caller can look at (embed) just the detections
whose appearance matters before the next step needs it:

    begin      end tracks that were lost for too long, predict the others to the frame's time
    contested  -> detections that place alone cannot give to one track
    associate  strong detections by place and known appearance, then weak ones by IoU alone
               (two stages after ByteTrack, Zhang et al. 2022)
    missing    -> strong detections nobody took, while a track's animal is missing
    recover    missing tracks by appearance, or where they were last seen
    finish     births and confirmations
    reunite    a young track with the lost one whose animal it turns out to follow
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from statistics import median

import numpy as np
from numpy.typing import NDArray

from edge.identity.association import (
    appearance_distances,
    assign,
    contested_columns,
    mixed_costs,
    position_costs,
)
from edge.identity.evidence import Evidence, EvidenceOptions
from edge.identity.kalman import BoxFilters, MotionOptions
from edge.identity.matching import NOBODY
from edge.vision.geometry import iou_matrix
from edge.vision.types import Detections, Floats

_Rows = NDArray[np.int64]
_INTERVALS = 5


@dataclass(frozen=True, slots=True)
class TrackerOptions:
    """How detections become tracks. Costs are 0..1, appearance is a cosine distance.

    confirm_hits: detections after which a track is reported. tentative_misses: frames without a
    detection that a younger one survives. coast_s, coast_misses: beyond both a track is lost: its
    place is no longer trusted. gap_s: beyond it a track is lost, however few frames there were.
    lost_s: a track ends so long after its last detection. Both are never less than `gap_frames` and
    `lost_frames` of the usual time between frames: a camera or board that is slow is no reason to
    forget everybody.
    gate, least_iou: a detection beyond this squared Mahalanobis distance (4 degrees of freedom)
    that overlaps less than this is another animal's; a weak one must overlap in any case.
    limit: cost at which a detection rather starts a track of its own.
    appearance_weight: share of appearance in the cost, where known. doubt: lead in cost below
    which two tracks contest a detection.
    recover_distance: a missing track's mean and a detection nearer than this are one animal.
    recover_iou: overlap with its place that does without appearance, unless the appearance is
    farther than `stranger_distance`. reach: lengths (sqrt of the box's area) an animal can have
    gone while it was missing, at once and more every second.
    birth_iou: overlap with a detection already followed beyond which a detection is its double.
    """

    motion: MotionOptions = field(default_factory=MotionOptions)
    confirm_hits: int = 4
    tentative_misses: int = 1
    coast_s: float = 1.0
    coast_misses: int = 2
    gap_s: float = 2.0
    lost_s: float = 3.0
    gap_frames: float = 3.0
    lost_frames: float = 4.5
    gate: float = 16.0
    limit: float = 0.85
    least_iou: float = 0.3
    appearance_weight: float = 0.35
    doubt: float = 0.2
    recover_distance: float = 0.3
    recover_iou: float = 0.5
    stranger_distance: float = 0.6
    reach: tuple[float, float] = (1.5, 2.0)
    birth_iou: float = 0.3


@dataclass(slots=True, eq=False)
class TrackState:
    """What the tracker knows of one track; the filters hold where it is.

    box: float32 (4,), corrected where a detection was found, else predicted.
    misses: frames since the last detection. detection: index into this frame's, or -1.
    tried_s, tried_box: when and where a crop was last cut. voted_s: when one last was evidence.
    """

    id: int
    evidence: Evidence
    first_seen_s: float
    last_seen_s: float
    score: float
    box: Floats
    hits: int = 0
    misses: int = 0
    age_frames: int = 0
    confirmed: bool = False
    detection: int = -1
    tried_s: float = -np.inf
    voted_s: float = -np.inf
    tried_box: Floats | None = None

    def absorb(self, young: TrackState) -> None:
        """Go on as a younger track of the same animal."""
        self.evidence.absorb(young.evidence)
        self.last_seen_s, self.score, self.box = young.last_seen_s, young.score, young.box
        self.hits, self.misses = self.hits + young.hits, 0
        self.detection, self.voted_s = young.detection, young.voted_s
        self.tried_s, self.tried_box = young.tried_s, young.tried_box


class Tracker:
    """The tracks of one camera. Deterministic, and without a clock: time comes with the frames."""

    def __init__(self, options: TrackerOptions, evidence: EvidenceOptions) -> None:
        self._options = options
        self._evidence = evidence
        self._filters = BoxFilters(options.motion)
        self._now_s: float | None = None
        # The median of a few, so that one that was long says nothing of those to come.
        self._intervals: deque[float] = deque(maxlen=_INTERVALS)
        self._usual_s = 0.0
        self._next_id = 1
        self._owner: _Rows = np.zeros(0, np.int64)  # row of the track each detection belongs to
        self._lost = np.zeros(0, bool)
        self._ended: list[TrackState] = []
        self.tracks: list[TrackState] = []

    def replace_evidence_options(self, options: EvidenceOptions) -> None:
        """Name tracks by other options, those that are followed already included."""
        self._evidence = options
        for track in self.tracks:
            track.evidence.replace_options(options)

    def begin(self, now_s: float) -> None:
        """Predict all tracks to `now_s` seconds; time that runs backwards counts as standing."""
        before = now_s if self._now_s is None else self._now_s
        self._now_s = max(now_s, before)
        self._intervals.append(self._now_s - before)
        if len(self._intervals) == _INTERVALS:
            self._usual_s = median(self._intervals)
        lost_s = max(self._options.lost_s, self._options.lost_frames * self._usual_s)
        over = [self._now_s - track.last_seen_s > lost_s for track in self.tracks]
        self._ended = [t for t, gone in zip(self.tracks, over, strict=True) if gone and t.confirmed]
        self._keep(~np.array(over, bool))
        unseen = np.array([track.misses > 0 for track in self.tracks], bool)
        self._filters.predict(self._now_s - before, unseen)
        for track in self.tracks:
            track.detection = -1
            track.age_frames += 1
        self._lost = np.array([self._is_lost(track) for track in self.tracks], bool)
        self._owner = np.zeros(0, np.int64)

    def contested(self, detections: Detections, strong: NDArray[np.bool_]) -> _Rows:
        """Return the strong detections that two tracks may claim, greatest doubt first.

        strong (N,): which detections have a high score.
        """
        rows, columns = np.flatnonzero(~self._lost), np.flatnonzero(strong)
        costs, allowed = self._position(rows, detections.boxes[columns])
        return columns[contested_columns(costs, allowed, self._options.doubt)]

    def associate(
        self,
        detections: Detections,
        strong: NDArray[np.bool_],
        embeddings: Floats,
        embedded: NDArray[np.bool_],
    ) -> None:
        """Give detections to the tracks that are not lost.

        embeddings (N, D): unit rows where `embedded` (N,) is true; anything elsewhere.
        """
        self._owner = np.full(len(detections), -1, np.int64)
        rows, columns = np.flatnonzero(~self._lost), np.flatnonzero(strong)
        position, allowed = self._position(rows, detections.boxes[columns])
        appearance, known = self._appearance(rows, columns, embeddings, embedded)
        costs = mixed_costs(position, appearance, known, self._options.appearance_weight)
        first, second = assign(costs, allowed, self._options.limit)
        self._take(rows[first], columns[second], detections)
        rows = np.array([row for row in rows if self.tracks[row].detection < 0], np.int64)
        columns = np.flatnonzero(~strong)
        overlap = iou_matrix(self._filters.boxes[rows], detections.boxes[columns])
        first, second = assign(1 - overlap, overlap >= self._options.least_iou, 1.0)
        self._take(rows[first], columns[second], detections)

    def missing(self, strong: NDArray[np.bool_]) -> _Rows:
        """Return the strong detections nobody took; none when no confirmed track is missing."""
        if not len(self._missing_rows()):
            return np.zeros(0, np.int64)
        return np.flatnonzero(strong & (self._owner < 0))

    def recover(
        self,
        detections: Detections,
        strong: NDArray[np.bool_],
        embeddings: Floats,
        embedded: NDArray[np.bool_],
    ) -> None:
        """Give detections nobody took to confirmed tracks that miss theirs, lost or not yet."""
        options = self._options
        rows, columns = self._missing_rows(), self.missing(strong)
        if not len(rows) or not len(columns):
            return
        boxes = detections.boxes[columns]
        looks, known = self._appearance(rows, columns, embeddings, embedded)
        overlap = iou_matrix(self._filters.boxes[rows], boxes)
        alike = known & (looks <= options.recover_distance) & self._reachable(rows, boxes)
        there = (overlap >= options.recover_iou) & ~(known & (looks > options.stranger_distance))
        # Both ways cost 0..1; of two that are alike the one that is where it was is taken.
        by_looks = np.where(alike, 0.8 * looks / options.recover_distance, np.inf)
        costs = np.minimum(by_looks, np.where(there, 1 - overlap, np.inf))
        first, second = assign(costs, alike | there, 1.0)
        self._filters.restart(rows[first], boxes[second])
        self._take(rows[first], columns[second], detections)

    def finish(self, detections: Detections, strong: NDArray[np.bool_]) -> list[TrackState]:
        """Start and confirm tracks; return the confirmed ones that ended with this frame."""
        now_s = self._now()
        for track in self.tracks:
            if track.detection >= 0:
                track.hits, track.misses, track.last_seen_s = track.hits + 1, 0, now_s
                track.score = float(detections.scores[track.detection])
                track.confirmed |= track.hits >= self._options.confirm_hits
            else:
                track.misses += 1
        limit = self._options.tentative_misses
        alive = [track.confirmed or track.misses <= limit for track in self.tracks]
        self._keep(np.array(alive, bool))
        self._start(detections, strong)
        for track, box in zip(self.tracks, self._filters.boxes, strict=True):
            track.box = box
        return self._ended

    def reunite(self) -> list[TrackState]:
        """Let lost tracks go on with young tracks of the same animal; return the young ones.

        A track is young until it is settled: nobody has been told of it. The two must never have
        been seen together. They are one when the votes give both the same animal or, where
        neither has a name, when their mean embeddings are near.
        """
        absorbed = []
        seen = [row for row, track in enumerate(self.tracks) if track.detection >= 0]
        for young_row in seen:
            young = self.tracks[young_row]
            if young.evidence.settled or not young.confirmed:
                continue
            for row, old in enumerate(self.tracks):
                if old.confirmed and old.detection < 0 and self._same_animal(old, young):
                    self._filters.copy_row(young_row, row)
                    old.absorb(young)
                    absorbed.append(young)
                    break
        gone = {track.id for track in absorbed}
        self._keep(np.array([track.id not in gone for track in self.tracks], bool))
        return absorbed

    def clear(self) -> list[TrackState]:
        """End everything and return the confirmed tracks; ids go on counting."""
        ended = [track for track in self.tracks if track.confirmed]
        self._keep(np.zeros(len(self.tracks), bool))
        self._now_s, self._usual_s = None, 0.0
        self._intervals.clear()
        return ended

    def _position(self, rows: _Rows, boxes: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        squared = self._filters.squared_distances(boxes)[rows]
        return position_costs(
            self._filters.boxes[rows], boxes, squared, self._options.gate, self._options.least_iou
        )

    def _appearance(
        self, rows: _Rows, columns: _Rows, embeddings: Floats, embedded: NDArray[np.bool_]
    ) -> tuple[Floats, NDArray[np.bool_]]:
        means = np.zeros((len(rows), embeddings.shape[1]), np.float32)
        has_mean = np.zeros(len(rows), bool)
        for index, row in enumerate(rows):
            mean = self.tracks[row].evidence.mean
            if mean is not None:
                means[index], has_mean[index] = mean, True
        return appearance_distances(means, has_mean, embeddings[columns], embedded[columns])

    def _reachable(self, rows: _Rows, boxes: Floats) -> NDArray[np.bool_]:
        """Return which boxes (N, 4) an animal may have walked to, (T, N)."""
        at_once, more = self._options.reach
        places = self._filters.boxes[rows]
        gap = boxes[None, :, :2] + boxes[None, :, 2:] - places[:, None, :2] - places[:, None, 2:]
        gone_s = np.array([self._now() - self.tracks[row].last_seen_s for row in rows])
        size = np.sqrt(np.prod(places[:, 2:] - places[:, :2], axis=1))
        limit = size * (at_once + more * gone_s)
        return np.asarray(np.hypot(gap[..., 0], gap[..., 1]) / 2 <= limit[:, None], np.bool_)

    def _missing_rows(self) -> _Rows:
        return np.array(
            [
                row
                for row, track in enumerate(self.tracks)
                if track.confirmed and track.detection < 0
            ],
            np.int64,
        )

    def _take(self, rows: _Rows, columns: _Rows, detections: Detections) -> None:
        self._filters.update(rows, detections.boxes[columns])
        self._owner[columns] = rows
        for row, column in zip(rows, columns, strict=True):
            self.tracks[row].detection = int(column)

    def _start(self, detections: Detections, strong: NDArray[np.bool_]) -> None:
        free = np.flatnonzero(strong & (self._owner < 0))
        taken = detections.boxes[self._owner >= 0]
        if len(taken) and len(free):
            doubles = iou_matrix(detections.boxes[free], taken).max(axis=1)
            free = free[doubles < self._options.birth_iou]
        self._filters.add(detections.boxes[free])
        for column in free:
            score = float(detections.scores[column])
            evidence = Evidence(self._evidence)
            box = detections.boxes[column]
            track = TrackState(self._next_id, evidence, self._now(), self._now(), score, box)
            track.hits, track.age_frames, track.detection = 1, 1, int(column)
            track.confirmed = self._options.confirm_hits <= 1
            self.tracks.append(track)
            self._next_id += 1

    def _is_lost(self, track: TrackState) -> bool:
        gone_s = self._now() - track.last_seen_s
        coasted = track.misses >= self._options.coast_misses and gone_s > self._options.coast_s
        return coasted or gone_s > max(
            self._options.gap_s, self._options.gap_frames * self._usual_s
        )

    def _same_animal(self, old: TrackState, young: TrackState) -> bool:
        if young.first_seen_s <= old.last_seen_s:
            return False
        mine, other = old.evidence, young.evidence
        if mine.label != NOBODY or other.label != NOBODY:
            return mine.label == other.label
        if mine.mean is None or other.mean is None:
            return False
        enough = len(other.votes) >= self._evidence.min_votes
        return enough and float(1 - mine.mean @ other.mean) <= self._options.recover_distance

    def _keep(self, mask: NDArray[np.bool_]) -> None:
        self._filters.keep(mask)
        self.tracks = [track for track, kept in zip(self.tracks, mask, strict=True) if kept]

    def _now(self) -> float:
        assert self._now_s is not None, "begin comes first"
        return self._now_s

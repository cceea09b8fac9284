"""The pipeline with a fake eye: animals are coloured squares, embeddings are made from colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from edge.errors import BundleError
from edge.identity.evidence import EvidenceOptions
from edge.identity.means import OUTLIERS, ClassMeans, MeansHeader
from edge.identity.tracking import TrackerOptions
from edge.identity.types import Track
from edge.pipeline import EmbeddingOptions, FrameResult, Pipeline, PipelineOptions
from edge.vision.quality import CropGates
from edge.vision.types import Detections, Frame
from edge.vision.view import View, ViewedDetector

SIZE = (240, 400)
FPS = 12.0
COLOURS = {"a": (200, 0, 0), "b": (0, 200, 0), "c": (0, 0, 200), "z": (150, 150, 150)}
COLOURS["d"] = (0, 180, 105)  # much like b

Animal = tuple[str, float, float]  # colour, centre x, centre y
Scene = Sequence[Animal]


class Eye:
    """Finds what was drawn: fake detector and embedder in one, as a scene list sets it up."""

    score_threshold = 0.5
    size = 16
    dimension = 3
    letterbox_colour = (114, 114, 114)

    def __init__(self) -> None:
        self.scene: Scene = ()
        self.scores: dict[str, float] = {}
        self.side = 40.0
        self.embedded: list[int] = []

    def detect(self, image: np.ndarray, score_threshold: float | None = None) -> Detections:
        rows = sorted(self.scene, key=lambda animal: -self.scores.get(animal[0], 0.9))
        rows = [r for r in rows if self.scores.get(r[0], 0.9) >= (score_threshold or 0.0)]
        half = self.side / 2
        boxes = [[x - half, y - half, x + half, y + half] for _, x, y in rows]
        height, width = image.shape[:2]
        return Detections(
            np.clip(np.array(boxes, np.float32).reshape(-1, 4), 0, [width, height] * 2).astype(
                np.float32
            ),
            np.array([self.scores.get(r[0], 0.9) for r in rows], np.float32),
            np.zeros(len(rows), np.int32),
        )

    def embed(self, crops: np.ndarray) -> np.ndarray:
        self.embedded.append(len(crops))
        centres = crops[:, 4:12, 4:12].reshape(len(crops), -1, 3).astype(np.float32)
        colours = centres.mean(axis=1) + 1e-3
        return (colours / np.linalg.norm(colours, axis=1, keepdims=True)).astype(np.float32)


def means_of(animals: str = "abc", outliers: Sequence[str] = ()) -> ClassMeans:
    names = [*animals, *outliers]
    prototypes = np.array([COLOURS[name] for name in names], np.float32).reshape(-1, 3)
    prototypes /= np.linalg.norm(prototypes, axis=1, keepdims=True)
    count = len(animals)
    return ClassMeans(
        tuple(animals),
        prototypes,
        np.array([*range(count), *[OUTLIERS] * len(outliers)], np.int32),
        np.zeros((count, 3)),
        np.zeros(count, np.int64),
        np.full(count, 0.2, np.float32),
        0.05,
        MeansHeader(),
    )


def draw(scene: Scene, side: float, plain: bool = False) -> np.ndarray:
    """Return a frame of chequered squares, which are sharp; plain ones are not."""
    image = np.full((*SIZE, 3), 90, np.uint8)
    rows, columns = np.indices((round(side), round(side))) // 8
    chequer = ((rows + columns) % 2)[..., None]
    for name, x, y in scene:
        patch = np.array(COLOURS[name]) * (1 if plain else np.where(chequer, 1.0, 0.6))
        left, top = round(x - side / 2), round(y - side / 2)
        part = image[max(0, top) : top + round(side), max(0, left) : left + round(side)]
        part[:] = np.broadcast_to(patch, (*chequer.shape[:2], 3))[: part.shape[0], : part.shape[1]]
    return image


# Spelled out, so that these tests ask about the mechanism and not about the tuned defaults.
TRACKER = TrackerOptions(confirm_hits=3, lost_s=8.0, birth_iou=0.7)
EVIDENCE = EvidenceOptions(min_share=0.6, unknown_after_s=5.0)
OPTIONS = PipelineOptions(
    strong_score=0.5,
    weak_share=0.2,
    double_iou=0.9,
    double_covered=0.95,
    tracker=TRACKER,
    evidence=EVIDENCE,
)


class Run:
    """A pipeline that is shown scenes, one a frame."""

    def __init__(self, means: ClassMeans | None = None, options: PipelineOptions | None = None):
        self.eye = Eye()
        self.pipeline = Pipeline(self.eye, self.eye, means or means_of(), options or OPTIONS)
        self.results: list[FrameResult] = []
        self.now_s = 0.0

    def show(
        self, scene: Scene, frames: int = 1, dt: float = 1 / FPS, plain: bool = False
    ) -> FrameResult:
        for _ in range(frames):
            self.eye.scene = scene
            image = draw(scene, self.eye.side, plain)
            frame = Frame(image, "pen", len(self.results), self.now_s)
            self.results.append(self.pipeline.process(frame))
            self.now_s += dt
        return self.results[-1]

    def ended(self) -> list[Track]:
        return [track for result in self.results for track in result.ended]


def names(result: FrameResult) -> dict[int, str | None]:
    return {track.id: track.animal for track in result.tracks}


PAIR: Scene = (("a", 80, 80), ("b", 250, 80))


def test_animals_are_found_followed_and_named() -> None:
    run = Run()
    result = run.show(PAIR, 12)
    assert names(result) == {1: "a", 2: "b"}
    first, _ = result.tracks
    np.testing.assert_allclose(first.box, [60, 60, 100, 100], atol=0.5)
    assert first.settled
    assert first.seen
    assert first.reason is None
    assert first.confidence == 1
    assert set(first.votes) == {"a"}
    assert first.votes["a"] >= 3
    assert first.distance == pytest.approx(0, abs=1e-4)
    assert first.margin == pytest.approx(1, abs=1e-4)
    assert first.age_frames == 12
    assert (first.first_seen_s, first.last_seen_s) == (0.0, pytest.approx(11 / FPS))
    assert len(result.detections) == 2
    assert result.index == 11


def test_nothing_is_reported_before_a_track_is_confirmed_nor_named_before_three_crops() -> None:
    run = Run()
    run.show(PAIR, 12)
    assert [len(result.tracks) for result in run.results[:3]] == [0, 0, 2]
    named = next(n for n, result in enumerate(run.results) if names(result).get(1))
    at_naming = run.results[named].tracks[0]
    assert at_naming.votes == {"a": 3}
    assert not run.results[named - 1].tracks[0].settled


def test_a_stranger_is_unknown_and_settled_after_five_seconds() -> None:
    run = Run()
    run.show((("z", 80, 80),), 96)
    settled = [result.tracks[0].settled for result in run.results if result.tracks]
    assert settled.index(True) / FPS == pytest.approx(5.0 - 2 / FPS, abs=0.1)
    track = run.results[-1].tracks[0]
    assert (track.animal, track.reason, track.confidence) == (None, "unknown", 0.0)
    assert set(track.votes) == {"unknown"}
    assert track.distance is not None
    assert track.distance > 0.2


def test_between_two_animals_is_unsure() -> None:
    means = means_of()
    object.__setattr__(means, "margin", 5.0)
    run = Run(means)
    track = run.show(PAIR, 12).tracks[0]
    assert (track.animal, track.reason) == (None, "unsure")


def test_what_an_outliers_prototype_claims_is_unknown() -> None:
    loose = means_of(outliers="z")
    loose.threshold[:] = 1.0
    track = Run(loose).show((("z", 80, 80),), 12).tracks[0]
    assert (track.animal, track.reason) == (None, "unknown")


def test_two_tracks_are_never_the_same_animal() -> None:
    run = Run()
    result = run.show((("a", 80, 80), ("a", 250, 80), ("b", 250, 180)), 30)
    given = [track.animal for track in result.tracks]
    assert sorted(map(str, given)) == ["None", "a", "b"]
    loser = next(track for track in result.tracks if track.animal is None)
    assert loser.reason == "unsure"
    # The name does not flicker between the two.
    holders = {n for r in run.results for n, name in names(r).items() if name == "a"}
    assert len(holders) == 1


def test_who_is_sure_of_its_name_makes_the_one_that_looks_alike_sure() -> None:
    # The second looks like b in two crops of three and in the third like d, which is much like b;
    # b is elsewhere.
    alone, beside = Run(means_of("bd")), Run(means_of("bd"))
    for frame in range(60):
        looks = "d" if frame // 6 % 3 == 2 else "b"
        alone.show(((looks, 250, 80),))
        beside.show(((looks, 250, 80), ("b", 80, 180)))
    assert names(alone.results[-1]) == {1: "b"}
    placed = {round(float(t.box[0])): t.animal for t in beside.results[-1].tracks}
    assert placed == {230: "d", 60: "b"}


def test_a_double_does_not_get_the_name_of_whom_a_few_of_its_crops_look_like() -> None:
    run = Run()
    for frame in range(180):
        looks = "b" if frame // 2 % 5 == 4 else "a"
        run.show(((looks, 250, 80), ("a", 80, 180)))
    named = [
        track.animal for result in run.results for track in result.tracks if track.box[0] > 150
    ]
    assert "b" not in named


def test_an_animal_cut_off_by_the_edge_of_the_view_is_no_evidence() -> None:
    run = Run()
    view = ViewedDetector(run.eye, View(region=(0.5, 0, 1, 1)))
    # The eye finds in the part what was drawn: in its coordinates the region begins at 0.
    run.pipeline = Pipeline(view, run.eye, means_of(), OPTIONS)
    for _ in range(12):
        run.eye.scene = (("a", 19, 80), ("b", 100, 80))
        frame = Frame(draw((("a", 219, 80), ("b", 300, 80)), 40), "pen", 0, run.now_s)
        result = run.pipeline.process(frame)
        run.now_s += 1 / FPS
    votes = {track.animal: set(track.votes) for track in result.tracks}
    assert votes == {None: set(), "b": {"b"}}


@pytest.mark.parametrize("dt", [2.9, 10.0])
def test_a_slow_camera_is_followed_as_well(dt: float) -> None:
    run = Run()
    result = run.show(PAIR, 40, dt=dt)
    assert set(names(result).values()) == {"a", "b"}
    assert not run.ended()
    # Gone for five frames: ended.
    run.show((PAIR[1],), 6, dt=dt)
    assert [track.animal for track in run.ended()] == ["a"]


def test_rivals_for_a_name_are_looked_at_until_it_is_decided() -> None:
    run = Run()
    run.show((("a", 80, 80), ("a", 250, 80)), 36)
    before = sum(run.eye.embedded)
    run.show((("a", 80, 80), ("a", 250, 80)), 36)
    # Both rest, and one has the name; yet both are looked at every other frame, for 36 frames.
    assert sum(run.eye.embedded) - before == 2 * 36 // 2


def test_a_name_is_not_lost_to_a_rival_in_the_blink_of_an_eye() -> None:
    run = Run()
    run.show((("a", 80, 80), ("a", 250, 80)), 30)
    held = {n: name for n, name in names(run.results[-1]).items() if name == "a"}
    assert len(held) == 1
    first, second = (("a", 80, 80),), (("a", 250, 80),)
    missing = second if 1 in held else first
    result = run.show(missing, round(0.8 * FPS))
    assert {n: name for n, name in names(result).items() if name == "a"} == held
    # Who is away for longer has only half a claim.
    result = run.show(missing, round(1.0 * FPS))
    assert {n for n, name in names(result).items() if name == "a"} == {1, 2} - held.keys()


def test_a_crop_with_two_animals_in_it_is_no_evidence_but_moves_its_track() -> None:
    run = Run()
    for step in range(24):
        run.show((("a", 80 + step, 80), ("b", 92 + step, 92)))
    assert sum(run.eye.embedded) == 0
    for track in run.results[-1].tracks:
        assert (track.animal, track.reason, track.votes) == (None, "crowded", {})
    lefts = [track.box[0] for track in run.results[-1].tracks]
    assert sorted(lefts) == pytest.approx([80 + 23 - 20, 92 + 23 - 20], abs=3)


@pytest.mark.parametrize(
    ("scene", "side", "plain"),
    [
        ((("a", 20, 80),), 40.0, False),  # clipped by the frame's edge
        ((("a", 80, 80),), 12.0, False),  # too small
        ((("a", 80, 80),), 40.0, True),  # no edges at all: blurred
    ],
)
def test_poor_crops_are_no_evidence(scene: Scene, side: float, plain: bool) -> None:
    run = Run()
    run.eye.side = side
    track = run.show(scene, 24, plain=plain).tracks[0]
    assert (track.animal, track.reason, track.votes) == (None, "unknown", {})
    assert sum(run.eye.embedded) == 0


def test_weak_boxes_keep_the_track_and_give_no_evidence() -> None:
    run = Run()
    run.show(PAIR, 12)
    before = run.results[-1].tracks[0].votes
    run.eye.scores = {"a": 0.2}
    result = run.show(PAIR, 24)
    assert names(result) == {1: "a", 2: "b"}
    assert result.tracks[0].seen
    assert result.tracks[0].score == pytest.approx(0.2)
    assert result.tracks[0].votes == before


def test_a_missing_animal_coasts_then_ends() -> None:
    run = Run()
    run.show(PAIR, 12)
    result = run.show(PAIR[1:], 6)
    assert [track.seen for track in result.tracks] == [False, True]
    assert names(result) == {1: "a", 2: "b"}
    run.show(PAIR[1:], 100)
    (ended,) = run.ended()
    assert (ended.id, ended.animal, ended.seen, ended.settled) == (1, "a", False, True)
    assert ended.last_seen_s == pytest.approx(11 / FPS)
    assert names(run.results[-1]) == {2: "b"}


def test_a_lost_animal_is_recovered_by_appearance_even_before_it_has_a_name() -> None:
    run = Run(means_of("bc"))
    run.show((("a", 80, 80),), 24)
    run.show((), 20)
    result = run.show((("a", 140, 110),), 6)
    assert [track.id for track in result.tracks] == [1]
    assert result.tracks[0].seen


def test_a_lost_animal_that_reappears_beyond_reach_keeps_its_track_by_identity() -> None:
    run = Run()
    run.show((("a", 40, 80),), 24)
    run.show((), 12)
    run.show((("a", 360, 200),), 24)
    assert names(run.results[-1]) == {1: "a"}
    assert run.results[-1].tracks[0].seen
    # The young track was never announced: what ended was not settled.
    assert [track.settled for track in run.ended()] == [False]


def test_who_is_seen_is_believed_before_a_track_that_is_missing() -> None:
    options = replace(OPTIONS, tracker=replace(TRACKER, lost_s=60))
    run = Run(means_of("ab"), options)
    run.show((("a", 80, 80), ("z", 250, 80)), 80)
    assert names(run.results[-1]) == {1: "a", 2: None}
    assert run.results[-1].tracks[1].settled
    # The stranger, settled long ago, turns out to look like a, who is out of sight.
    run.show((("a", 250, 80),), 60)
    assert names(run.results[-1]) == {1: None, 2: "a"}


def test_an_identity_switch_is_corrected() -> None:
    run = Run(options=replace(OPTIONS, evidence=replace(EVIDENCE, window=12)))
    run.show(PAIR, 24)
    run.show((("b", 80, 80), ("a", 250, 80)), 12 * 14)
    assert names(run.results[-1]) == {1: "b", 2: "a"}
    # They rest, so it may take 10 s until anybody looks; then it is settled within 3 s.
    wrong = [n for n, result in enumerate(run.results[24:]) if names(result)[1] == "a"]
    assert wrong[-1] / FPS < 13


def test_resting_animals_are_seldom_looked_at_and_moving_ones_more_often() -> None:
    rest, move = Run(), Run()
    rest.show(PAIR, 24)
    move.show(PAIR, 24)
    settled = sum(rest.eye.embedded)
    rest.show(PAIR, 120)  # 10 s
    for step in range(120):
        x = 80 + 60 * np.sin(step / 10)
        move.show((("a", x, 80), ("b", 250, 80)))
    resting, moving = sum(rest.eye.embedded) - settled, sum(move.eye.embedded) - settled
    assert 1 <= resting <= 4
    assert resting + 10 <= moving <= resting + 25


def test_crops_a_frame_are_bounded_and_everybody_gets_a_turn() -> None:
    places = [(60 + 60 * column, 50 + 60 * row) for row in range(3) for column in range(5)]
    herd = [("z", x, y) for x, y in places]
    options = replace(OPTIONS, embedding=EmbeddingOptions(max_crops=2))
    run = Run(options=options)
    result = run.show(herd, 48)
    assert max(run.eye.embedded) <= 2
    votes = [sum(track.votes.values()) for track in result.tracks]
    assert len(votes) == 15
    # 46 frames with two crops each for 15 tracks: six each.
    assert min(votes) >= 5
    assert max(votes) <= 8


def test_contested_animals_are_looked_at_in_every_frame_but_do_not_vote_more_often() -> None:
    # A gate and a doubt this wide make everybody contest everything.
    tracker = replace(TRACKER, gate=1e9, doubt=2.0)
    run = Run(options=replace(OPTIONS, tracker=tracker, embedding=EmbeddingOptions(open_every_s=1)))
    result = run.show(PAIR, 48)
    assert run.eye.embedded[-24:] == [2] * 24
    # Four seconds, once a second.
    assert [sum(track.votes.values()) for track in result.tracks] == [4, 4]


def test_no_crops_at_all_still_tracks() -> None:
    run = Run(options=replace(OPTIONS, embedding=EmbeddingOptions(max_crops=0)))
    assert names(run.show(PAIR, 12)) == {1: None, 2: None}


def test_frames_without_animals_and_finishing_without_frames() -> None:
    run = Run()
    assert run.pipeline.finish() == ()
    result = run.show((), 3)
    assert (result.tracks, result.ended, len(result.detections)) == ((), (), 0)


def test_finish_returns_each_open_track_once() -> None:
    run = Run()
    run.show(PAIR, 12)
    ended = run.pipeline.finish()
    assert {track.id: track.animal for track in ended} == {1: "a", 2: "b"}
    assert run.pipeline.finish() == ()


def test_new_means_name_a_track_in_view_without_losing_it() -> None:
    run = Run(means_of("bc"))
    run.show(PAIR, 24)
    assert names(run.results[-1]) == {1: None, 2: "b"}
    run.pipeline.replace_means(means_of("cab"))
    result = run.show(PAIR, 1)
    assert names(result) == {1: "a", 2: "b"}
    assert set(result.tracks[0].votes) == {"a"}
    assert set(result.tracks[1].votes) == {"b"}
    run.pipeline.replace_means(means_of("b"))
    assert {t.id: t.animal for t in run.pipeline.finish()} == {1: None, 2: "b"}


def test_other_naming_options_hold_for_tracks_in_view_and_new_ones() -> None:
    run = Run()
    assert names(run.show(PAIR, 12)) == {1: "a", 2: "b"}
    strict = replace(OPTIONS, evidence=replace(OPTIONS.evidence, min_votes=1000))
    run.pipeline.replace_options(strict)
    # Their next crops leave them without a name, and they are followed all the same.
    assert names(run.show(PAIR, 300)) == {1: None, 2: None}
    run.pipeline.replace_options(OPTIONS)
    assert names(run.show(PAIR, 300)) == {1: "a", 2: "b"}
    run.pipeline.replace_options(strict)
    run.pipeline.finish()
    assert set(names(run.show(PAIR, 24)).values()) == {None}


def test_means_of_another_dimension_are_refused_and_the_old_ones_stay() -> None:
    run = Run()
    flat = replace(
        means_of(), prototypes=np.eye(3, 4, dtype=np.float32), sums=np.zeros((3, 4), np.float64)
    )
    with pytest.raises(BundleError, match="dimension 4 do not fit this embedder"):
        run.pipeline.replace_means(flat)
    with pytest.raises(BundleError, match="build them again"):
        Pipeline(run.eye, run.eye, flat)
    assert names(run.show(PAIR, 12)) == {1: "a", 2: "b"}


def test_the_detectors_own_threshold_is_used_unless_told() -> None:
    told = Run(options=replace(OPTIONS, strong_score=0.95))
    assert told.show(PAIR, 12).tracks == ()
    own = Run(options=replace(OPTIONS, strong_score=None))
    own.eye.score_threshold = 0.95
    assert own.show(PAIR, 12).tracks == ()
    gates = Run(options=replace(OPTIONS, gates=CropGates(min_side_px=50)))
    assert names(gates.show(PAIR, 12)) == {1: None, 2: None}


def wander(seed: int) -> list[Scene]:
    """Return scenes of four animals that wander, meet, and are missed now and then."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(60, 180, (4, 2))
    scenes: list[Scene] = []
    for _ in range(90):
        places = np.clip(places + rng.normal(0, 4, places.shape), 25, [375, 215])
        scenes.append(
            [(n, *map(float, p)) for n, p in zip("abcz", places, strict=True) if rng.random() < 0.9]
        )
    return scenes


@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_frames_give_the_same_answer(seed: int) -> None:
    def everything() -> list[object]:
        run = Run()
        for scene in wander(seed):
            run.show(scene)
        tracks = [t for r in run.results for t in (*r.tracks, *r.ended)]
        tracks += run.pipeline.finish()
        return [
            (t.id, t.box.tobytes(), t.animal, t.reason, t.confidence, t.distance, t.votes, t.seen)
            for t in tracks
        ]

    first = everything()
    assert first == everything()
    assert len(first) > 100


@pytest.mark.parametrize("seed", range(4))
def test_no_frame_ever_holds_an_animal_twice_and_ends_are_told_once(seed: int) -> None:
    run = Run()
    for scene in wander(seed):
        run.show(scene)
    gone: set[int] = set()
    for result in run.results:
        given = [track.animal for track in result.tracks if track.animal is not None]
        assert len(given) == len(set(given))
        alive, ended = {t.id for t in result.tracks}, {t.id for t in result.ended}
        assert not (alive | ended) & gone
        assert not alive & ended
        gone |= ended

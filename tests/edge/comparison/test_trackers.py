"""The article's trackers on detections whose answer can be told beforehand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from edge.comparison import (
    TRACKERS,
    KalmanAppearance,
    NearestBox,
    WindowMean,
    make_tracker,
)
from edge.comparison.kalman_appearance import LOST_FRAMES
from edge.comparison.window_mean import WINDOW
from edge.errors import BundleError
from edge.identity.means import OUTLIERS, ClassMeans, MeansHeader
from edge.pipeline import FrameResult, FrameTracker, Pipeline
from edge.vision.types import Detections, Frame

RED, GREEN, BLUE = (220, 0, 0), (0, 220, 0), (0, 0, 220)
SIZE = (200, 400)
SIDE = 40

# A colour, and the centre of its square.
Scene = Sequence[tuple[tuple[int, int, int], float, float]]
Make = Callable[..., FrameTracker]


class Eye:
    """Finds the squares of the scene it is set to, and sees the colour of a crop's upper left."""

    score_threshold = 0.5
    size = 8
    dimension = 3
    letterbox_colour = (0, 0, 0)

    def __init__(self) -> None:
        self.scene: Scene = ()

    def detect(self, image: np.ndarray, score_threshold: float | None = None) -> Detections:
        half = SIDE / 2
        boxes = [[x - half, y - half, x + half, y + half] for _, x, y in self.scene]
        count = len(boxes)
        return Detections(
            np.array(boxes, np.float32).reshape(-1, 4),
            np.linspace(0.9, 0.6, count).astype(np.float32),
            np.zeros(count, np.int32),
        )

    def embed(self, crops: np.ndarray) -> np.ndarray:
        colours = crops[:, 1:3, 1:3].reshape(len(crops), -1, 3).mean(axis=1) + 1e-3
        return np.asarray(colours / np.linalg.norm(colours, axis=1, keepdims=True), np.float32)


class Run:
    """One tracker that is shown scenes."""

    def __init__(self, make: Make, means: ClassMeans | None = None) -> None:
        self.eye = Eye()
        self.tracker = make(self.eye, self.eye, means or herd())
        self.index = 0

    def show(self, scene: Scene, frames: int = 1) -> FrameResult:
        for _ in range(frames):
            self.eye.scene = scene
            image = np.full((*SIZE, 3), 60, np.uint8)
            for colour, x, y in scene:
                left, top = int(x - SIDE / 2), int(y - SIDE / 2)
                part = image[max(0, top) : top + SIDE, max(0, left) : left + SIDE]
                # Chequered, so that it is sharp enough for ours.
                part[:] = colour
                part[np.indices(part.shape[:2]).sum(axis=0) // 8 % 2 == 1] //= 2
            result = self.tracker.process(Frame(image, "pen", self.index, self.index / 12))
            self.index += 1
        return result


def herd(animals: Sequence[str] = ("red", "green")) -> ClassMeans:
    colours = {"red": RED, "green": GREEN, "blue": BLUE}
    prototypes = np.array([colours[name] for name in animals], np.float32).reshape(-1, 3) / 220
    count = len(animals)
    return ClassMeans(
        tuple(animals),
        prototypes,
        np.arange(count, dtype=np.int32),
        np.zeros((count, 3)),
        np.zeros(count, np.int64),
        np.full(count, 0.1, np.float32),
        0.05,
        MeansHeader(),
    )


def names(result: FrameResult) -> dict[int, str | None]:
    return {track.id: track.animal for track in result.tracks if track.seen}


@pytest.mark.parametrize("name", TRACKERS)
def test_every_tracker_is_one_by_its_name(name: str) -> None:
    run = Run(lambda *models: make_tracker(name, *models))  # type: ignore[arg-type]
    for shift in range(30):
        result = run.show([(RED, 60 + shift, 50), (GREEN, 300 - shift, 150)])
    tracks = {track.animal: track for track in result.tracks}
    assert tracks.keys() == {"red", "green"}
    assert tracks["red"].box == pytest.approx([69, 30, 109, 70], abs=3)
    assert all(track.seen and track.settled for track in result.tracks)
    assert result.ended == ()
    assert {track.animal for track in run.tracker.finish()} == {"red", "green"}
    assert run.show([]).tracks == ()


def test_ours_is_the_pipeline() -> None:
    assert isinstance(make_tracker("earmark", Eye(), Eye(), herd()), Pipeline)


@pytest.mark.parametrize("make", [NearestBox, KalmanAppearance, WindowMean])
def test_everybody_is_taken_for_the_nearest_animal(make: Make) -> None:
    # Blue is in no class means, and nobody is ever unknown; a tie goes to the first.
    result = Run(make).show([(BLUE, 60, 50), (BLUE, 300, 50)], frames=WINDOW)
    assert set(names(result).values()) == {"red"}
    assert result.tracks[0].distance == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("make", [NearestBox, KalmanAppearance, WindowMean])
def test_outliers_name_nobody_and_a_herd_may_be_empty(make: Make) -> None:
    base = herd(("red", "blue"))
    strange = ClassMeans(
        ("red",),
        base.prototypes,
        np.array([0, OUTLIERS], np.int32),
        base.sums[:1],
        base.counts[:1],
        base.threshold[:1],
        base.margin,
        base.header,
    )
    assert names(Run(make, strange).show([(BLUE, 60, 50)], frames=WINDOW)) == {1: "red"}
    empty = Run(make, herd(())).show([(RED, 60, 50)], frames=WINDOW)
    assert [(t.animal, t.reason, t.distance) for t in empty.tracks] == [(None, "unknown", None)]


@pytest.mark.parametrize("make", [NearestBox, KalmanAppearance, WindowMean])
def test_means_can_be_replaced_but_not_by_others_dimensions(make: Make) -> None:
    run = Run(make)
    scene = [(BLUE, 60, 50)]
    run.show(scene, frames=WINDOW)
    run.tracker.replace_means(herd(("green", "blue")))
    assert names(run.show(scene)) == {1: "blue"}
    other = herd()
    flat = ClassMeans(
        other.animals,
        np.eye(2, dtype=np.float32),
        other.owner,
        np.zeros((2, 2)),
        other.counts,
        other.threshold,
        other.margin,
        other.header,
    )
    with pytest.raises(BundleError, match="dimension 2 do not fit this embedder"):
        run.tracker.replace_means(flat)
    assert names(run.show(scene)) == {1: "blue"}


def test_nearest_box_goes_by_place_alone_and_names_every_crop() -> None:
    run = Run(NearestBox)
    assert names(run.show([(RED, 60, 50), (GREEN, 300, 50)])) == {1: "red", 2: "green"}
    # The animals change places in one step: the tracks stay, each crop is named by itself.
    assert names(run.show([(RED, 300, 50), (GREEN, 60, 50)])) == {2: "red", 1: "green"}


def test_nearest_pairs_are_made_first() -> None:
    run = Run(NearestBox)
    run.show([(RED, 100, 100), (GREEN, 200, 100)])
    # 210 is 10 from track 2 and 110 from track 1; 160 is nearer to track 2 as well, but that is
    # taken, so it goes to track 1.
    result = run.show([(RED, 160, 100), (GREEN, 210, 100)])
    places = {track.id: float(track.box[0]) + SIDE / 2 for track in result.tracks}
    assert places == {1: 160, 2: 210}


def test_a_nearest_box_track_waits_where_it_was_for_ever() -> None:
    run = Run(NearestBox)
    run.show([(RED, 60, 50), (GREEN, 300, 50)])
    result = run.show([(GREEN, 300, 50)], frames=200)
    waiting = result.tracks[0]
    assert (waiting.id, waiting.seen) == (1, False)
    assert waiting.box == pytest.approx([40, 30, 80, 70])
    # Wherever something appears, it is the one that waits; a third track is not begun.
    assert names(run.show([(GREEN, 300, 50), (RED, 380, 180)])) == {1: "red", 2: "green"}


def test_window_mean_names_a_track_at_the_end_of_each_window() -> None:
    run = Run(WindowMean)
    assert names(run.show([(RED, 60, 50)], frames=WINDOW - 1)) == {1: None}
    assert names(run.show([(RED, 60, 50)])) == {1: "red"}
    # A minority of another colour does not change the mean's name, a majority does, at the end.
    run.show([(GREEN, 60, 50)], frames=4)
    assert names(run.show([(RED, 60, 50)], frames=WINDOW - 4)) == {1: "red"}
    run.show([(GREEN, 60, 50)], frames=6)
    assert names(run.show([(RED, 60, 50)], frames=WINDOW - 7)) == {1: "red"}
    assert names(run.show([(RED, 60, 50)])) == {1: "green"}


def test_kalman_appearance_keeps_animals_apart_that_change_places() -> None:
    run = Run(KalmanAppearance)
    run.show([(RED, 100, 100), (GREEN, 118, 100)], frames=3)
    # Both lie within both gates, and by place alone the tracks would swap.
    result = run.show([(RED, 110, 91), (GREEN, 108, 109)])
    assert {track.id: float(track.box[1]) for track in result.tracks} == {1: 71, 2: 89}
    assert names(result) == {1: "red", 2: "green"}


def test_kalman_appearance_follows_a_walk_and_not_a_jump() -> None:
    run = Run(KalmanAppearance)
    for step in range(12):
        result = run.show([(RED, 40 + 6 * step, 50)])
    assert [track.id for track in result.tracks] == [1]
    # As far away as no animal walks: a new track, though it looks the same.
    assert names(run.show([(RED, 380, 180)])) == {2: "red"}


def test_a_kalman_track_ends_when_it_was_not_seen_for_long() -> None:
    run = Run(KalmanAppearance)
    run.show([(RED, 60, 50), (GREEN, 300, 50)])
    result = run.show([(GREEN, 300, 50)], frames=LOST_FRAMES)
    assert [track.id for track in result.tracks] == [1, 2]
    result = run.show([(GREEN, 300, 50)])
    assert [track.id for track in result.ended] == [1]
    assert [track.id for track in result.tracks] == [2]
    # The filters are still those of the tracks that are left.
    assert names(run.show([(GREEN, 302, 50)])) == {2: "green"}


@pytest.mark.parametrize("make", [NearestBox, KalmanAppearance, WindowMean])
def test_an_empty_frame_ends_nothing(make: Make) -> None:
    run = Run(make)
    assert run.show([]).tracks == ()
    run.show([(RED, 60, 50)], frames=WINDOW)
    result = run.show([])
    assert [(track.id, track.seen, track.animal) for track in result.tracks] == [(1, False, "red")]

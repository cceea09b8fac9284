"""The golden self-test: what counts as the same answer, and files that are no self-test."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge.errors import BundleError
from edge.release.manifest import DetectorSpec
from edge.release.selftest import (
    GoldenFrames,
    SelfTest,
    check_detector,
    golden_frames,
    load_self_test,
    save_self_test,
)
from edge.vision.detector import Detector
from edge.vision.types import Detections, Floats, Image

PATH = Path("selftest.npz")
IMAGES = np.zeros((2, 96, 160, 3), np.uint8)
# Twenty pixels a side, no two of them touching.
PLACES = np.array([[x, 10, x + 20, 30] for x in (0, 30, 60, 90, 120)], np.float32)


class Scripted:
    """Finds the same boxes in every frame."""

    score_threshold = 0.5

    def __init__(self, boxes: Floats, scores: float | list[float] = 0.9) -> None:
        self.boxes = boxes
        self.scores = np.broadcast_to(np.array(scores, np.float32), len(boxes))

    def detect(self, image: Image, score_threshold: float | None = None) -> Detections:
        kept = self.scores >= (0.5 if score_threshold is None else score_threshold)
        count = int(kept.sum())
        return Detections(self.boxes[kept], self.scores[kept], np.zeros(count, np.int32))


def self_test(detector: Scripted) -> SelfTest:
    crops = np.zeros((1, 8, 8, 3), np.uint8)
    frames = golden_frames(detector, IMAGES)
    assert frames is not None
    return SelfTest(crops, np.array([[0.6, 0.8]], np.float32), frames)


def share(golden: Scripted, device: Scripted) -> float | None:
    return check_detector(self_test(golden), device, PATH)


def test_the_same_answers_agree_wholly() -> None:
    assert share(Scripted(PLACES), Scripted(PLACES)) == 1


def test_the_order_does_not_matter() -> None:
    assert share(Scripted(PLACES), Scripted(PLACES[::-1])) == 1


def test_one_of_five_may_be_missing() -> None:
    # In each frame 5 golden finds and 4 of the device, of which 4 and 4 have a twin.
    assert share(Scripted(PLACES), Scripted(PLACES[1:])) == pytest.approx(8 / 9)


def test_one_too_many_counts_as_one_too_few() -> None:
    assert share(Scripted(PLACES[1:]), Scripted(PLACES)) == pytest.approx(8 / 9)


def test_two_of_five_may_not() -> None:
    with pytest.raises(BundleError, match=r"selftest\.npz.* finds 75% .* answers wrongly"):
        share(Scripted(PLACES), Scripted(PLACES[2:]))


def test_a_find_is_nobody_s_twin_twice() -> None:
    twice = np.concatenate([PLACES, PLACES[:2]])
    assert share(Scripted(twice), Scripted(PLACES)) == pytest.approx(10 / 12)


@pytest.mark.parametrize(("shift", "same"), [(3, True), (4, False)])
def test_boxes_may_move_a_little(shift: int, same: bool) -> None:
    # IoU of 20 pixels moved by 3: 17/23 = 0.74; by 4: 16/24 = 0.67.
    moved = Scripted(PLACES + np.array([shift, 0, shift, 0], np.float32))
    if same:
        assert share(Scripted(PLACES), moved) == 1
    else:
        with pytest.raises(BundleError, match="finds 0%"):
            share(Scripted(PLACES), moved)


@pytest.mark.parametrize("score", [0.7, 0.99])
def test_scores_may_not_be_another_network_s(score: float) -> None:
    with pytest.raises(BundleError, match="answers wrongly"):
        share(Scripted(PLACES, 0.88 if score < 0.8 else 0.8), Scripted(PLACES, score))


@pytest.mark.parametrize(("golden", "device"), [(0.52, 0.45), (0.45, 0.52)])
def test_a_twin_may_lie_on_the_other_side_of_the_threshold(golden: float, device: float) -> None:
    others = [0.9, 0.9, 0.9, 0.9]
    assert share(Scripted(PLACES, [golden, *others]), Scripted(PLACES, [device, *others])) == 1


def test_a_blind_detector_is_refused() -> None:
    with pytest.raises(BundleError, match="finds 0%"):
        share(Scripted(PLACES), Scripted(PLACES[:0]))


def test_animals_everywhere_are_refused() -> None:
    x, y = np.meshgrid(np.arange(0, 140, 14), np.arange(30, 80, 10))
    ghosts = np.stack([x, y, x + 14, y + 10], axis=-1).reshape(-1, 4).astype(np.float32)
    everywhere = Scripted(np.concatenate([PLACES, ghosts]))
    with pytest.raises(BundleError, match="answers wrongly"):
        share(Scripted(PLACES), everywhere)


def test_frames_without_animals_prove_nothing() -> None:
    assert golden_frames(Scripted(PLACES, 0.4), IMAGES) is None
    assert golden_frames(Scripted(PLACES), IMAGES[:0]) is None


def test_no_golden_frames_no_verdict() -> None:
    assert (
        check_detector(replace(self_test(Scripted(PLACES)), frames=None), Scripted(PLACES), PATH)
        is None
    )


@pytest.mark.parametrize("count", [np.nan, np.inf])
@pytest.mark.parametrize("rest", [np.nan, np.inf])
def test_a_model_that_answers_no_numbers_is_refused(count: float, rest: float) -> None:
    roles = ("boxes", "scores", "classes", "count")
    shapes = ((1, 5, 4), (1, 5), (1, 5), (1,))
    # Constant answers of a runtime, as the model would hand them over.
    answers = {n: np.full(s, rest, np.float32) for n, s in zip(roles, shapes, strict=True)}
    answers["count"][:] = count
    tensor = SimpleNamespace(shape=(1, 96, 160, 3), dtype=np.dtype(np.uint8), scale=1, zero_point=0)
    outputs = [SimpleNamespace(name=role) for role in roles]
    model: Any = SimpleNamespace(path=PATH, input=tensor, outputs=outputs, invoke=lambda _: answers)
    spec = DetectorSpec(
        input_shape=(1, 96, 160, 3),
        dtype="uint8",
        scale=1.0,
        zero_point=0,
        pixel_scale=1.0,
        pixel_offset=0.0,
        letterbox_colour=(0, 0, 0),
        outputs={role: role for role in roles},
        class_names=["animal"],
        score_threshold=0.5,
        top_k=5,
        nms_iou=0.5,
    )
    with pytest.raises(BundleError, match="answers wrongly"):
        check_detector(self_test(Scripted(PLACES)), Detector(model, spec), PATH)


def test_a_file_brings_back_what_was_saved(tmp_path: Path) -> None:
    test = self_test(Scripted(PLACES, [0.9, 0.8, 0.7, 0.6, 0.4]))
    save_self_test(test, tmp_path / "selftest.npz")
    again = load_self_test(tmp_path / "selftest.npz")
    assert test.frames is not None
    assert again.frames is not None
    np.testing.assert_array_equal(again.embeddings, test.embeddings)
    np.testing.assert_array_equal(again.frames.images, IMAGES)
    for index in range(2):
        boxes, scores = again.frames.of_frame(index)
        np.testing.assert_array_equal(boxes, PLACES)
        np.testing.assert_array_equal(scores, np.array([0.9, 0.8, 0.7, 0.6, 0.4], np.float32))


def broken(frames: GoldenFrames, **changes: Any) -> GoldenFrames:
    return replace(
        frames, **{name: change(getattr(frames, name)) for name, change in changes.items()}
    )


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"images": lambda v: v.astype(np.float32)}, "frames are float32"),
        ({"images": lambda v: v[..., 0]}, "expected uint8"),
        ({"boxes": lambda v: v[:-1]}, "owner, boxes and scores"),
        ({"scores": lambda v: v[:, None]}, "owner, boxes and scores"),
        ({"owner": lambda v: v + 1}, "frame 2 of 2"),
        ({"owner": lambda v: v - 1}, "frame -1 of 2"),
        ({"owner": lambda v: v.astype(np.float32)}, "owner, boxes and scores"),
        ({"boxes": lambda v: np.full_like(v, np.nan)}, "not all numbers"),
    ],
)
def test_frames_that_do_not_belong_together(
    tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    test = self_test(Scripted(PLACES))
    assert test.frames is not None
    path = tmp_path / "selftest.npz"
    save_self_test(replace(test, frames=broken(test.frames, **changes)), path)
    with pytest.raises(BundleError, match=complaint) as caught:
        load_self_test(path)
    assert str(path) in str(caught.value)


def test_golden_frames_that_show_nobody_are_no_pass() -> None:
    test = self_test(Scripted(PLACES))
    assert test.frames is not None
    faint = replace(test.frames, scores=np.full_like(test.frames.scores, 0.4))
    with pytest.raises(BundleError, match="show no animal"):
        check_detector(replace(test, frames=faint), Scripted(PLACES[:0]), PATH)


@pytest.mark.parametrize("missing", ["crops", "embeddings", "boxes", "scores", "owner"])
def test_an_array_is_missing(tmp_path: Path, missing: str) -> None:
    path = tmp_path / "selftest.npz"
    save_self_test(self_test(Scripted(PLACES)), path)
    with np.load(path) as archive:
        rest = {name: archive[name] for name in archive if name != missing}
    np.savez(path, **rest)
    with pytest.raises(BundleError, match="not a self-test file"):
        load_self_test(path)

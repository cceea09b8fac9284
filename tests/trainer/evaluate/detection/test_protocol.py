from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge.errors import DataError, UsageError
from edge.release.bundle import read_manifest
from edge.release.manifest import DetectorSpec
from edge.vision.detector import Detector
from edge.vision.runtime import open_model
from edge.vision.types import Detections
from trainer.data.frames import FrameSet
from trainer.evaluate.detection.protocol import (
    check_score,
    doubts,
    evaluate,
    fitting,
    of_one_class,
    open_detector,
)

DEMO = Path(__file__).parents[4] / "models" / "demo" / "bundle"
HERE = Path("pen.json")
Frames = Callable[..., FrameSet]
BOX = (0, 0, 10, 10)


@pytest.fixture
def spec() -> DetectorSpec:
    found = read_manifest(DEMO).detector
    assert found is not None
    return found


def test_which_output_is_which_is_read_from_the_file(spec: DetectorSpec) -> None:
    path = DEMO / "detector.tflite"
    image = np.random.default_rng(1).integers(0, 256, (192, 320, 3)).astype(np.uint8)
    expected = Detector(open_model(path), spec).detect(image, 0.01)
    # Scores and classes have one shape: a manifest of another file may well confuse them.
    mixed = msgspec.structs.replace(
        spec,
        outputs=spec.outputs
        | {"scores": spec.outputs["classes"], "classes": spec.outputs["scores"]},
    )
    found = open_detector(path, mixed).detect(image, 0.01)
    assert len(found) == len(expected) > 0
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_a_detector_of_other_classes_is_refused(spec: DetectorSpec, tmp_path: Path) -> None:
    two = msgspec.structs.replace(spec, class_names=["cow", "pig"])
    with pytest.raises(UsageError, match=r"knows 1 classes, the manifest names 2 \(cow, pig\)"):
        open_detector(DEMO / "detector.tflite", two)
    with pytest.raises(UsageError, match=r"none\.tflite: no such file"):
        open_detector(tmp_path / "none.tflite", spec)


def test_classes_are_fitted_by_name(grey_frames: Frames) -> None:
    frames = grey_frames([[BOX, BOX]], classes=[[1, 0]], class_names=("cow", "pig"))
    fitted = fitting(frames, ["dog", "cow", "pig"], HERE)
    assert fitted.classes[0].tolist() == [2, 1]
    assert fitted.class_names == ("dog", "cow", "pig")


def test_strange_classes_are_refused_or_all_taken_for_one(grey_frames: Frames) -> None:
    frames = grey_frames([[BOX], [BOX]], classes=[[0], [1]], class_names=("cow", "wolf"))
    with pytest.raises(DataError, match=r"pen\.json: has boxes of class 'wolf', .* finds 'cow'"):
        fitting(frames, ["cow"], HERE)
    fitted = fitting(frames, ["cow"], HERE, one_class=True)
    assert [rows.tolist() for rows in fitted.classes] == [[0], [0]]
    assert fitted.class_names == ("animal",)


def test_a_strange_class_without_boxes_does_not_matter(grey_frames: Frames) -> None:
    frames = grey_frames([[BOX]], class_names=("cow", "wolf"))
    assert fitting(frames, ["cow"], HERE).class_names == ("cow",)


def test_frames_without_a_box_cannot_be_asked(grey_frames: Frames) -> None:
    with pytest.raises(DataError, match=r"pen\.json: not one of its 2 frames has a box"):
        fitting(grey_frames([[], []]), ["animal"], HERE)


def test_a_detector_of_one_class_keeps_boxes_and_scores(
    detections: Callable[..., Detections],
) -> None:
    asked: list[float | None] = []

    def detect(image: np.ndarray, score_threshold: float | None = None) -> Detections:
        asked.append(score_threshold)
        return detections([(*BOX, 0.9), (*BOX, 0.5)], [3, 1])

    found = of_one_class(detect)(np.zeros((9, 9, 3), np.uint8), 0.25)
    assert found.classes.tolist() == [0, 0]
    assert found.scores.tolist() == pytest.approx([0.9, 0.5])
    assert asked == [0.25]


@pytest.mark.parametrize("score", [0.0, 0.009, 1.01, -1.0, float("nan"), float("inf")])
def test_a_threshold_that_cannot_be_is_refused(score: float) -> None:
    with pytest.raises(UsageError, match=r"must be from 0\.01 to 1"):
        check_score(score)


@pytest.mark.parametrize("score", [None, 0.01, 1.0])
def test_a_threshold_that_can_be_passes(score: float | None) -> None:
    check_score(score)


def test_doubts_name_what_makes_figures_less_than_they_seem(grey_frames: Frames) -> None:
    boxes = [[BOX, BOX], *[[BOX]] * 9]
    five = [name for name in "abcde" for _ in range(2)]
    assert doubts(grey_frames(boxes, five), 2) == []
    (one,) = doubts(grey_frames(boxes, ["a"] * 10))
    assert "of one session" in one
    (few,) = doubts(grey_frames(boxes, [*five[:6], *"cccd"]))
    assert "of 4 sessions: intervals over so few are rough" in few
    (each,) = doubts(grey_frames(boxes, list("abcdefghij")))
    assert "every frame is a session of its own" in each
    (many,) = doubts(grey_frames(boxes, five), 1)
    assert "a frame has 2 animals, the detector gives at most 1" in many


def test_progress_goes_over_both_models(
    toy: tuple[list[Detections], list[np.ndarray], list[np.ndarray]], toy_frames: FrameSet
) -> None:
    answers = iter([*toy[0], *toy[0]])
    seen: list[tuple[int, int]] = []
    evaluation = evaluate(
        lambda image, score_threshold=None: next(answers),
        toy_frames,
        0.6,
        twin=lambda image, score_threshold=None: next(answers),
        draws=5,
        report=lambda done, total, note="": seen.append((done, total)),
    )
    assert seen[-1] == (4, 4)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert evaluation.metrics["int8_ap_drop"] == 0
    assert evaluation.twin is not None

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import DataError, UsageError
from trainer.data.frames import FrameSet
from trainer.detection.augment import FrameAugmentation
from trainer.detection.train import DetectorOptions, train_detector
from trainer.progress import silent

SIDE = 64
TINY = DetectorOptions(
    input_size=(SIDE, SIDE),
    alpha=0.35,
    strides=(8,),
    anchors_per_cell=3,
    steps=120,
    batch_size=8,
    learning_rate=5e-3,
    evaluate_every=40,
    top_k=10,
    augmentation=FrameAugmentation(scale=1.1, rotation_deg=0, greyscale=0, blur=0, noise=0),
)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> FrameSet:
    """Light ellipses on dark floor, one or two a frame and never one on another."""
    root = tmp_path_factory.mktemp("frames")
    rng = np.random.default_rng(0)
    paths, boxes = [], []
    for number in range(40):
        image = rng.integers(20, 60, (SIDE, SIDE, 3)).astype(np.uint8)
        rows = []
        for half in range(rng.integers(1, 3)):
            rx, ry = (int(radius) for radius in rng.integers(7, 14, 2))
            cx = int(rng.integers(rx + 1, SIDE - rx - 1))
            cy = 16 + 32 * half
            cv2.ellipse(image, (cx, cy), (rx, ry), 0, 0, 360, (200, 190, 210), cv2.FILLED)
            rows.append([cx - rx, cy - ry, cx + rx + 1, cy + ry + 1])
        paths.append(root / f"s{number % 4}_{number}.png")
        cv2.imwrite(str(paths[-1]), image)
        boxes.append(np.array(rows, np.float32))
    return FrameSet(
        tuple(paths),
        tuple(boxes),
        tuple(np.zeros(len(rows), np.int32) for rows in boxes),
        tuple(f"s{number % 4}" for number in range(40)),
        ("animal",),
    )


def without_boxes(frames: FrameSet) -> FrameSet:
    return replace(
        frames,
        boxes=tuple(np.zeros((0, 4), np.float32) for _ in frames.paths),
        classes=tuple(np.zeros(0, np.int32) for _ in frames.paths),
    )


def test_frames_that_cannot_be_trained_on_are_refused(frames: FrameSet) -> None:
    with pytest.raises(DataError, match="none of the 40 training frames has a box"):
        train_detector(without_boxes(frames), frames, TINY, silent)
    others = replace(frames, class_names=("pig",))
    with pytest.raises(DataError, match=r"have classes \['animal'\], .* \['pig'\]") as caught:
        train_detector(frames, others, TINY, silent)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be 1 or more, not 0"),
        ({"batch_size": -1}, "batch_size must be 1 or more, not -1"),
        ({"evaluate_every": 0}, "evaluate_every must be 1 or more"),
        ({"top_k": 0}, "top_k must be 1 or more"),
        ({"anchors_per_cell": 0}, "anchors_per_cell must be 1 or more"),
        ({"box_loss": "l2"}, "no box loss 'l2'; choose smooth_l1 or giou"),
        ({"strides": (4,)}, "strides must be some of"),
        ({"input_size": (64, 70)}, r"input_size must be multiples of 32 .* not \(64, 70\)"),
        ({"weights": Path("none.h5")}, "none.h5: no such weights file"),
    ],
)
def test_options_that_cannot_be_had_are_refused(
    frames: FrameSet, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        train_detector(frames, frames, replace(TINY, **options), silent)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_ellipses_are_learned(frames: FrameSet) -> None:
    train, validation = frames.select(np.arange(32)), frames.select(np.arange(32, 40))
    calls: list[tuple[int, int]] = []
    trained = train_detector(
        train, validation, TINY, lambda done, total, note="": calls.append((done, total))
    )
    assert calls[-1] == (120, 120)
    assert [row.step for row in trained.history] == [40, 80, 120]
    assert trained.history[-1].loss < 0.5 * trained.history[0].loss
    assert trained.ap50 == max(row.ap50 for row in trained.history)
    assert trained.ap50 > 0.7
    assert trained.anchors.shape == (8 * 8 * 3, 4)
    assert trained.shapes.strides == (8,)
    assert 0.01 < trained.score_threshold < 1
    assert trained.class_names == ("animal",)
    assert trained.images_per_s > 0
    assert "scratch" in trained.weights


@pytest.mark.slow
def test_without_validation_boxes_the_last_step_is_kept(frames: FrameSet) -> None:
    options = replace(TINY, steps=3, evaluate_every=2, box_loss="giou", score_threshold=0.25)
    trained = train_detector(frames, without_boxes(frames.select([0])), options, silent)
    assert trained.best_step == 3
    assert trained.ap50 is None
    assert [row.step for row in trained.history] == [2, 3]
    assert all(np.isfinite(row.loss) for row in trained.history)
    assert trained.score_threshold == 0.25

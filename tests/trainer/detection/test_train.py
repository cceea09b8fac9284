from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest

from edge.errors import DataError, UsageError
from trainer.data.frames import FrameSet
from trainer.detection.augment import FrameAugmentation
from trainer.detection.model import build_detector
from trainer.detection.options import DetectorOptions
from trainer.detection.train import refit, train_detector
from trainer.detection.weights import save_weights
from trainer.progress import Report, silent

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
        animals=(),
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
        ({"box_loss": "l2"}, "no box loss 'l2'; choose one of smooth_l1, giou"),
        ({"class_loss": "l2"}, "no class loss 'l2'; choose one of focal, quality, hard_negatives"),
        ({"backbone": "vgg"}, "no detector backbone 'vgg'; choose one of mobilenet_v2, resnet50"),
        ({"average": 1.0}, "average must be from 0 to below 1, not 1.0"),
        ({"nms_iou": 0.0}, "nms_iou must lie between 0 and 1, not 0.0"),
        ({"learning_rate": 0.0}, "learning_rate must be more than 0"),
        ({"tower": -1}, "tower must not be negative"),
        ({"tower": 2}, "a tower is shared by the levels of a pyramid"),
        ({"score_threshold": 2.0}, "score_threshold must be from 0 to 1"),
        ({"augmentation": FrameAugmentation(flip=2)}, "flip must be from 0 to 1"),
        ({"start": Path("none.npz")}, "none.npz: no such weights file"),
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


def test_pretrained_weights_are_taught_gently() -> None:
    options = DetectorOptions()
    assert options.peak_rate == 3e-3
    assert not options.batchnorm_frozen
    for change in ({"weights": "imagenet"}, {"start": Path("first.npz")}):
        pretrained = replace(options, **change)
        assert pretrained.peak_rate == 4e-4
        assert pretrained.batchnorm_frozen
        assert replace(pretrained, learning_rate=0.1).peak_rate == 0.1


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


class KilledError(Exception):
    pass


def kill_at(step: int) -> Report:
    def report(done: int, total: int, note: str = "") -> None:
        if done >= step:
            raise KilledError

    return report


@pytest.mark.slow
def test_a_killed_training_goes_on_as_if_nothing_had_been(frames: FrameSet, tmp_path: Path) -> None:
    train, validation = frames.select(np.arange(32)), frames.select(np.arange(32, 40))
    options = replace(TINY, steps=12, evaluate_every=4, workers=2)
    whole = train_detector(train, validation, options, silent)
    with pytest.raises(KilledError):
        train_detector(train, validation, options, kill_at(10), state=tmp_path, key="k")
    resumed = train_detector(
        train, validation, replace(options, workers=1), silent, state=tmp_path, key="k"
    )
    assert (whole.resumed_at, resumed.resumed_at) == (0, 8)
    assert [row.step for row in resumed.history] == [4, 8, 12]
    assert resumed.history == whole.history
    assert resumed.best_step == whole.best_step
    assert resumed.score_threshold == whole.score_threshold
    for one, other in zip(resumed.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    # Another training begins anew.
    other = train_detector(train, validation, options, silent, state=tmp_path, key="other")
    assert other.resumed_at == 0


@pytest.mark.slow
def test_training_starts_from_another_detector(frames: FrameSet, tmp_path: Path) -> None:
    train, validation = frames.select(np.arange(32)), frames.select(np.arange(32, 40))
    options = replace(TINY, steps=1, evaluate_every=1)
    first = train_detector(train, validation, replace(options, steps=60), silent)
    save_weights(first.model, tmp_path / "first.npz")
    # Hardly moved by one step at a learning rate of next to nothing.
    start = replace(options, start=tmp_path / "first.npz", learning_rate=1e-9, average=0.0)
    on = train_detector(train, validation, start, silent)
    assert (
        on.history[0].loss
        < 0.5 * train_detector(train, validation, options, silent).history[0].loss
    )
    assert on.weights == "detector first.npz"


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"class_loss": "hard_negatives", "weight_decay": 1e-4},
        {"pyramid": 16, "tower": 2, "strides": (8, 16)},
        {"backbone": "resnet50", "alpha": 1.0, "pyramid": 16, "tower": 1, "strides": (16, 64)},
    ],
)
def test_every_kind_of_detector_learns_a_step(frames: FrameSet, change: dict[str, object]) -> None:
    options = replace(TINY, steps=3, evaluate_every=3, learning_rate=1e-3, **change)
    trained = train_detector(frames, frames.select([0]), options, silent)
    assert np.isfinite(trained.history[-1].loss)
    assert trained.ap50 is not None


def test_a_backbone_may_learn_at_a_rate_of_its_own(frames: FrameSet) -> None:
    few = replace(
        TINY, steps=2, evaluate_every=2, freeze_through="block_2_project_BN", average=0.0, detail=2
    )
    slow, even = (
        train_detector(frames, frames, replace(few, backbone_rate=rate), silent)
        for rate in (1e-9, 1.0)
    )
    keras.utils.set_random_seed(few.seed)
    start = build_detector(slow.shapes, 1, input_size=few.input_size, alpha=few.alpha)

    def moves(model: keras.Model, name: str) -> bool:
        now, before = (one.get_layer(name).get_weights()[0] for one in (model, start))
        return float(np.abs(now - before).max()) > 1e-5

    for name, slowly, evenly in (
        ("block_1_depthwise", False, False),
        ("block_4_depthwise", False, True),
        ("head_boxes_8", True, True),
    ):
        assert moves(slow.model, name) is slowly, name
        assert moves(even.model, name) is evenly, name


def test_a_refit_goes_on_from_the_best_step_with_its_anchors_and_threshold(
    frames: FrameSet, tmp_path: Path
) -> None:
    options = replace(TINY, steps=20, evaluate_every=10, refit_steps=10)
    trained = train_detector(
        frames.select(range(20)), frames.select(range(20, 40)), options, silent
    )
    before = [array.copy() for array in trained.model.get_weights()]
    final = refit(trained, frames, silent, state=tmp_path, key="k")
    assert final.shapes is trained.shapes
    assert final.score_threshold == trained.score_threshold
    assert final.options == trained.options
    assert (final.history, final.best_step) == (trained.history, trained.best_step)
    distances = [
        float(np.abs(one - other).max())
        for one, other in zip(final.model.get_weights(), before, strict=True)
    ]
    assert 0 < max(distances) < 1
    assert (tmp_path / "refit-0.checkpoint").is_file()

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.errors import BundleError
from edge.release.manifest import DetectorSpec
from edge.vision.detector import Detector
from edge.vision.runtime import TensorSpec

NAMES = {"boxes": "out:1", "scores": "out:0", "classes": "out:3", "count": "out:2"}


@dataclass
class FakeModel:
    """Answers with the given arrays and remembers what it was asked."""

    answers: dict[str, np.ndarray]
    path: Path = Path("detector.tflite")
    shape: tuple[int, ...] = (1, 100, 200, 3)
    asked: list[np.ndarray] = field(default_factory=list)

    @property
    def input(self) -> TensorSpec:
        return TensorSpec("image", 0, self.shape, np.dtype(np.int8), 1.0, -128)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(name, index, array.shape, array.dtype, 0.0, 0)
            for index, (name, array) in enumerate(self.answers.items())
        )

    def invoke(self, tensor: np.ndarray) -> dict[str, np.ndarray]:
        self.asked.append(tensor)
        return self.answers


def spec(**changes: Any) -> DetectorSpec:
    fields: dict[str, Any] = {
        "input_shape": (1, 100, 200, 3),
        "dtype": "int8",
        "scale": 1.0,
        "zero_point": -128,
        "pixel_scale": 1.0,
        "pixel_offset": 0.0,
        "letterbox_colour": (114, 114, 114),
        "outputs": NAMES,
        "class_names": ["animal"],
        "score_threshold": 0.5,
        "top_k": 4,
        "nms_iou": 0.6,
    }
    return DetectorSpec(**{**fields, **changes})


def answers(
    boxes: list[list[float]], scores: list[float], count: int | None = None
) -> dict[str, np.ndarray]:
    """Return the post-process's outputs; boxes y1 x1 y2 x2 as fractions of the input."""
    return {
        "out:0": np.array([scores], np.float32),
        "out:1": np.array([boxes], np.float32).reshape(1, -1, 4),
        "out:2": np.array([len(scores) if count is None else count], np.float32),
        "out:3": np.arange(len(scores), dtype=np.float32)[None],
    }


def image(height: int = 100, width: int = 200) -> np.ndarray:
    return np.zeros((height, width, 3), np.uint8)


def detector(boxes: list[list[float]], scores: list[float], **changes: Any) -> Detector:
    return Detector(FakeModel(answers(boxes, scores)), spec(**changes))  # type: ignore[arg-type]


def test_boxes_become_x1_y1_x2_y2_in_pixels_of_the_frame() -> None:
    found = detector([[0.1, 0.2, 0.5, 0.6]], [0.9]).detect(image())
    np.testing.assert_allclose(found.boxes, [[40, 10, 120, 50]], atol=1e-3)
    assert found.scores.tolist() == pytest.approx([0.9])
    # A square frame of twice the height: scaled by 1/2, 50 px to each side of it.
    found = detector([[0.1, 0.5, 0.5, 0.75]], [0.9]).detect(image(200, 200))
    np.testing.assert_allclose(found.boxes, [[100, 20, 200, 100]], atol=1e-3)


def test_best_first_and_only_above_the_threshold() -> None:
    boxes = [[0, 0, 0.1 * n, 0.1 * n] for n in range(1, 5)]
    eye = detector(boxes, [0.5, 0.2, 0.9, 0.49])
    assert eye.score_threshold == 0.5
    found = eye.detect(image())
    assert found.scores.tolist() == pytest.approx([0.9, 0.5])
    assert found.classes.tolist() == [2, 0]
    assert found.boxes[:, 3].tolist() == pytest.approx([30, 10])
    weaker = eye.detect(image(), score_threshold=0.2)
    assert weaker.scores.tolist() == pytest.approx([0.9, 0.5, 0.49, 0.2])
    assert len(eye.detect(image(), score_threshold=0.95)) == 0


def test_rows_beyond_the_count_are_not_read() -> None:
    model = FakeModel(answers([[0, 0, 0.5, 0.5]] * 3, [0.9, 0.8, 0.7], count=1))
    assert len(Detector(model, spec()).detect(image())) == 1  # type: ignore[arg-type]


def test_boxes_are_cut_to_the_frame_and_slivers_dropped() -> None:
    found = detector(
        [[-0.1, -0.2, 0.5, 0.5], [0.2, 0.999, 0.4, 1.5], [0.5, 0.5, 0.2, 0.7]], [0.9, 0.8, 0.7]
    ).detect(image())
    np.testing.assert_allclose(found.boxes, [[0, 0, 100, 50]], atol=1e-3)
    assert found.classes.tolist() == [0]


def test_nothing_found_is_empty() -> None:
    found = detector([], []).detect(image())
    assert found.boxes.shape == (0, 4)
    assert found.classes.dtype == np.int32


def test_the_model_is_fed_quantised_pixels_in_the_letterbox() -> None:
    model = FakeModel(answers([], []))
    Detector(model, spec()).detect(np.full((200, 200, 3), 255, np.uint8))  # type: ignore[arg-type]
    (tensor,) = model.asked
    assert tensor.shape == (1, 100, 200, 3)
    assert tensor.dtype == np.int8
    assert (tensor[0, :, 50:150] == 127).all()
    assert (tensor[0, :, :50] == 114 - 128).all()


def test_a_manifest_that_does_not_fit_the_model_is_refused() -> None:
    model = FakeModel(answers([], []))
    with pytest.raises(BundleError, match="manifest's boxes output 'gone' is not in the model"):
        Detector(model, spec(outputs={**NAMES, "boxes": "gone"}))  # type: ignore[arg-type]
    with pytest.raises(BundleError, match="the manifest says"):
        Detector(model, spec(input_shape=(1, 100, 100, 3)))  # type: ignore[arg-type]


def test_soft_suppression_counts_one_animal_once_and_two_that_touch_twice() -> None:
    # In pixels: 40..80; 48..88, IoU 2/3 with it; 88..128, which touches the second one.
    boxes = [[0.1, 0.2, 0.5, 0.4], [0.1, 0.24, 0.5, 0.44], [0.1, 0.44, 0.5, 0.64]]
    plain, soft = (
        detector(boxes, [0.9, 0.8, 0.7], soft_nms=sigma).detect(image()) for sigma in (None, 0.5)
    )
    assert len(plain) == 3
    assert soft.classes.tolist() == [0, 2]
    assert soft.scores.tolist() == pytest.approx([0.9, 0.7])
    # What fell is still there for those who ask for weak boxes.
    weak = detector(boxes, [0.9, 0.8, 0.7], soft_nms=0.5).detect(image(), score_threshold=0.1)
    assert weak.classes.tolist() == [0, 2, 1]

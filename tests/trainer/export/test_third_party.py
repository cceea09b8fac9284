"""Detectors as others make them: two boxes that are known beforehand (see `make_detector`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.errors import BundleError, UsageError
from edge.release.manifest import DetectorSpec
from edge.vision.detector import Detector
from edge.vision.runtime import TensorSpec, open_model
from trainer.export.third_party import (
    NORMALISATIONS,
    Pixels,
    check_pixels,
    pixels_of,
    third_party_spec,
    try_detector,
)

DEMO = Path(__file__).parents[3] / "models" / "demo" / "bundle"
NAMES = ["calf", "cow"]
Make = Callable[..., bytes]


def tensor(dtype: str, scale: float, zero_point: int) -> TensorSpec:
    return TensorSpec("image", 0, (1, 8, 8, 3), np.dtype(dtype), scale, zero_point)


@pytest.mark.parametrize(
    ("dtype", "scale", "zero_point", "named"),
    [
        # uint8 0..255 becomes (0 - 127) / 127.5 = -0.996 to (255 - 127) / 127.5 = 1.004.
        ("uint8", 1 / 127.5, 127, "-1..1"),
        ("uint8", 1 / 127.5, 128, "-1..1"),
        # Of Google's quantised SSDs.
        ("uint8", 0.0078125, 128, "-1..1"),
        ("int8", 1 / 127.5, -1, "-1..1"),
        # Calibrated on real images: -0.977 to 1.000.
        ("uint8", 0.007750865072011948, 126, "-1..1"),
        ("uint8", 1 / 255, 0, "0..1"),
        ("int8", 1 / 255, -128, "0..1"),
        ("uint8", 1.0, 0, "0..255"),
        ("int8", 1.0, -128, "0..255"),
    ],
)
def test_the_input_tells_what_pixels_are(
    dtype: str, scale: float, zero_point: int, named: str
) -> None:
    assert pixels_of(tensor(dtype, scale, zero_point), "f") == NORMALISATIONS[named]


@pytest.mark.parametrize(
    ("dtype", "scale", "zero_point", "complaint"),
    [
        ("float32", 0.0, 0, "its input is not quantised; .*--normalisation"),
        ("uint8", 0.017, 114, "its input holds -1.938 to 2.397"),
        ("uint8", 1 / 127.5, 0, "holds 0 to 2,"),
        ("int8", 1.0, 0, "holds -128 to 127,"),
    ],
)
def test_an_input_that_does_not_tell(
    dtype: str, scale: float, zero_point: int, complaint: str
) -> None:
    with pytest.raises(UsageError, match=complaint):
        pixels_of(tensor(dtype, scale, zero_point), "f")


@pytest.mark.parametrize(
    ("pixels", "fits"),
    [
        (NORMALISATIONS["-1..1"], True),
        (NORMALISATIONS["0..1"], True),
        (NORMALISATIONS["0..255"], False),
        (Pixels(1 / 127.5, 0.0), False),
        (Pixels(-1 / 127.5, 1.0), True),
        (Pixels(0.0, 0.0), False),
        (Pixels(float("nan"), 0.0), False),
        (Pixels(float("inf"), 0.0), False),
    ],
)
def test_pixels_must_fit_into_the_input(pixels: Pixels, fits: bool) -> None:
    given = tensor("uint8", 1 / 127.5, 128)
    if fits:
        check_pixels(pixels, given, "f")
    else:
        with pytest.raises(UsageError, match="f: "):
            check_pixels(pixels, given, "f")


def read(path: Path, **more: Any) -> DetectorSpec:
    told: dict[str, Any] = {
        "names": NAMES, "pixels": None, "score_threshold": 0.7, "letterbox_colour": (1, 2, 3),
    } | more  # fmt: skip
    return third_party_spec(path, **told)


@pytest.fixture
def place(tmp_path: Path, make_detector: Make) -> Callable[..., Path]:
    def write(*arguments: Any, **more: Any) -> Path:
        path = tmp_path / "theirs.tflite"
        path.write_bytes(make_detector(*arguments, **more))
        return path

    return write


def test_everything_is_read_off_the_file(place: Callable[..., Path]) -> None:
    spec = read(place())
    assert spec.input_shape == (1, 40, 80, 3)
    assert (spec.dtype, spec.zero_point) == ("uint8", 128)
    assert spec.scale == pytest.approx(1 / 127.5)
    assert (spec.pixel_scale, spec.pixel_offset) == (1 / 127.5, -1.0)
    # By the operator's order, not the model's.
    assert spec.outputs == {"boxes": "PP", "classes": "PP:1", "scores": "PP:2", "count": "PP:3"}
    assert spec.class_names == NAMES
    assert (spec.top_k, spec.nms_iou, spec.score_threshold) == (4, 0.5, 0.7)
    assert spec.letterbox_colour == (1, 2, 3)


@pytest.mark.parametrize(
    ("arguments", "pixels"),
    [
        (("uint8",), None),
        (("int8", 1 / 255, -128), None),
        (("float32", 0.0, 0), Pixels(1 / 255, 0.0)),
    ],
)
def test_the_device_finds_what_it_found_at_home(
    place: Callable[..., Path], arguments: tuple[Any, ...], pixels: Pixels | None
) -> None:
    path = place(*arguments)
    spec = read(path, pixels=pixels)
    detector = Detector(open_model(path, threads=1), spec)
    try_detector(detector, spec, "f")
    # 80 by 40 like the input, at twice the size: no letterbox, pixels are fractions of 160 by 80.
    found = detector.detect(np.zeros((80, 160, 3), np.uint8), score_threshold=0.5)
    np.testing.assert_allclose(found.boxes, [[64, 24, 96, 56], [0, 0, 16, 16]], atol=1e-3)
    np.testing.assert_allclose(found.scores, [0.9, 0.6], atol=1e-6)
    assert found.classes.tolist() == [1, 0]
    assert len(detector.detect(np.zeros((80, 160, 3), np.uint8))) == 1


def test_the_projects_own_detector_is_one_too() -> None:
    path = DEMO / "detector.tflite"
    spec = read(path, names=None)
    assert spec.class_names == ["animal"]
    assert (spec.top_k, spec.nms_iou) == (50, 0.6)
    assert (spec.pixel_scale, spec.pixel_offset) == (1 / 127.5, -1.0)


def test_several_classes_want_names(place: Callable[..., Path]) -> None:
    with pytest.raises(UsageError, match="knows 2 classes; name them with --labels"):
        read(place(), names=None)
    with pytest.raises(UsageError, match="knows 2 classes, --labels names 1"):
        read(place(), names=["cow"])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"shape": (2, 40, 80, 3)}, r"input is \(2, 40, 80, 3\), expected \(1, height"),
        ({"shape": (1, 40, 80, 1)}, "input is"),
        ({"shape": (1, 40, 80)}, "input is"),
        ({"dtype": "int16", "scale": 0.1, "zero_point": 0}, "input is int16, expected"),
        ({"scale": 0.0}, "uint8 input has no quantisation"),
        ({"dtype": "float32", "scale": 0.0}, "not quantised"),
        ({"post_processes": 2}, "has 2 TFLite_Detection_PostProcess operators instead of one"),
        ({"nms_iou_threshold": 1.5}, "nms_iou_threshold 1.5"),
        ({"nms_iou_threshold": "much"}, "no number 'nms_iou_threshold'"),
        ({"num_classes": 0}, "num_classes 0"),
    ],
)
def test_other_models_are_refused_in_one_line(
    place: Callable[..., Path], change: dict[str, Any], complaint: str
) -> None:
    path = place(**change)
    with pytest.raises((UsageError, BundleError), match=complaint) as caught:
        read(path)
    assert "theirs.tflite" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_embedder_and_garbage_are_no_detectors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has 0 TFLite_Detection_PostProcess operators"):
        read(DEMO / "embedder.tflite")
    (tmp_path / "x.tflite").write_bytes(b"garbage")
    with pytest.raises(UsageError, match=r"x\.tflite: not a TFLite model"):
        read(tmp_path / "x.tflite")
    with pytest.raises(UsageError, match=r"no\.tflite: cannot be read"):
        read(tmp_path / "no.tflite")


def test_a_detector_for_a_coral_is_explained(
    tmp_path: Path, compiled_twin: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "theirs_edgetpu.tflite"
    path.write_bytes(compiled_twin((DEMO / "detector.tflite").read_bytes()))
    with pytest.raises(BundleError, match="compiled for a Coral Edge TPU"):
        read(path, names=None)


def test_outputs_that_are_more_than_the_post_processs_are_refused(tflite: Any) -> None:
    from trainer.export.post_process import find_post_process
    from trainer.export.tflite_graph import read_graph

    rows = [tflite.tensor((1, 4), "float32") for _ in range(6)]
    tflite.operator("TFLite_Detection_PostProcess", rows[:1], rows[1:5], custom=True)
    graph = read_graph(tflite.build(rows[:1], rows[1:]), "f")
    with pytest.raises(UsageError, match="outputs are not the four of"):
        find_post_process(graph, "f")


class Answers:
    """A detector that answers what it was told to."""

    def __init__(self, **answer: Any) -> None:
        from edge.vision.types import Detections

        boxes = np.array([[1, 1, 9, 9]], np.float32)
        told = {"boxes": boxes, "scores": np.array([0.5], np.float32),
                "classes": np.array([0], np.int32)} | answer  # fmt: skip
        self._found = Detections(told["boxes"], told["scores"], told["classes"])

    def detect(self, image: np.ndarray, score_threshold: float | None = None) -> Any:
        assert image.shape == (40, 80, 3)
        return self._found


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ({"boxes": np.array([[np.nan, 1, 9, 9]], np.float32)}, "boxes or scores"),
        ({"scores": np.array([7.0], np.float32)}, "boxes or scores"),
        ({"classes": np.array([2], np.int32)}, "answers class 2, it should know 2 only"),
        ({"classes": np.array([-1], np.int32)}, "should know 2 only"),
    ],
)
def test_answers_that_are_no_detections(
    place: Callable[..., Path], answer: dict[str, Any], complaint: str
) -> None:
    spec = read(place())
    fine: Any = Answers()
    try_detector(fine, spec, "f")
    odd: Any = Answers(**answer)
    with pytest.raises(UsageError, match=complaint):
        try_detector(odd, spec, "f")

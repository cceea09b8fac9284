from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pytest

from edge.errors import EarmarkError
from edge.release.manifest import DetectorSpec
from edge.vision.detector import Detector
from edge.vision.geometry import clip_boxes
from edge.vision.runtime import open_model
from edge.vision.types import Detections
from trainer.detection.anchors import AnchorShapes, lay_anchors
from trainer.detection.decode import predict_float, select_detections
from trainer.detection.model import build_detector, feature_cells, set_batchnorm
from trainer.detection.options import DetectorOptions
from trainer.detection.train import TrainedDetector
from trainer.export.detector import export_detector, output_roles
from trainer.export.quantise import convert_int8, operator_names

# Not square, two levels of unlike anchors, two classes: what is mixed up shows.
OPTIONS = DetectorOptions(
    input_size=(64, 96), alpha=0.35, letterbox_colour=(9, 8, 7), nms_iou=0.5, top_k=40
)
SHAPES = AnchorShapes(
    (8, 16),
    (
        np.array([[12, 20], [22, 14]], np.float32),
        np.array([[24, 40], [44, 26], [40, 40]], np.float32),
    ),
)
LIMIT = 0.3


class Exported(NamedTuple):
    path: Path
    spec: DetectorSpec
    detector: Detector


def noise(count: int, seed: int) -> np.ndarray:
    """Coarse coloured noise: unlike cells give unlike scores."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 4, 6, 3)).astype(np.uint8)
    return coarse.repeat(16, axis=1).repeat(16, axis=2)


def detected_in_float(trained: TrainedDetector, image: np.ndarray) -> Detections:
    """Return the detections as the device shows them: cut to the frame, at least a pixel wide."""
    encodings, scores = predict_float(trained.model, trained.backbone, image[None])
    found = select_detections(
        encodings[0],
        scores[0],
        trained.anchors,
        score_threshold=LIMIT,
        nms_iou=OPTIONS.nms_iou,
        soft_nms=OPTIONS.soft_nms,
        top_k=OPTIONS.top_k,
    )
    boxes = clip_boxes(found.boxes, 96, 64)
    solid = (boxes[:, 2:] - boxes[:, :2]).min(axis=1) >= 1
    return Detections(boxes[solid], found.scores[solid], found.classes[solid])


@pytest.fixture(scope="module")
def trained() -> TrainedDetector:
    """A network that has learned nothing, but has an opinion of every anchor."""
    keras.utils.set_random_seed(3)
    size = OPTIONS.input_size
    model = build_detector(SHAPES, 2, input_size=size, alpha=OPTIONS.alpha)
    # Otherwise untrained layers all but extinguish what passes through them.
    set_batchnorm(model, frozen=False, momentum=0.0)
    model(noise(16, 1).astype(np.float32) / 127.5 - 1, training=True)
    rng = np.random.default_rng(4)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D) and layer.name.startswith(
            ("head_boxes", "head_classes")
        ):
            kernel, bias = layer.get_weights()
            spread = 0.1 if "classes" in layer.name else 0.05
            layer.set_weights([rng.normal(0, spread, kernel.shape), np.full_like(bias, -1.0)])
    return TrainedDetector(
        model=model,
        options=OPTIONS,
        shapes=SHAPES,
        anchors=lay_anchors(SHAPES, feature_cells(SHAPES.strides, size), size),
        class_names=("pig", "person"),
        history=(),
        best_step=1,
        score_threshold=0.35,
        images_per_s=1.0,
        weights="none",
    )


@pytest.fixture(scope="module", params=[True, False], ids=["int8", "float"])
def exported(
    request: pytest.FixtureRequest,
    trained: TrainedDetector,
    tmp_path_factory: pytest.TempPathFactory,
) -> Exported:
    path = tmp_path_factory.mktemp("exported") / "detector.tflite"
    spec = export_detector(trained, noise(16, 1), path, quantise=request.param)
    return Exported(path, spec, Detector(open_model(path, threads=1), spec))


@pytest.mark.slow
def test_the_file_ends_in_one_post_process_with_its_four_outputs(exported: Exported) -> None:
    names = operator_names(exported.path.read_bytes())
    assert names.count("TFLite_Detection_PostProcess") == 1
    assert names[-1] == "TFLite_Detection_PostProcess"
    assert "CUSTOM" not in names
    model = open_model(exported.path, threads=1)
    assert set(exported.spec.outputs.values()) == {output.name for output in model.outputs}
    image = noise(1, 2)[0]
    table = image if model.input.dtype == np.uint8 else (image / 127.5 - 1).astype(np.float32)
    outputs = model.invoke(table[None])
    said = {role: outputs[name] for role, name in exported.spec.outputs.items()}
    count = int(said["count"].item())
    assert 2 <= count <= OPTIONS.top_k
    assert said["boxes"].shape == (1, OPTIONS.top_k, 4)
    # Classes are whole numbers below 2; scores are not, and fall.
    assert set(said["classes"][0, :count].tolist()) <= {0.0, 1.0}
    scores = said["scores"][0, :count]
    assert (np.diff(scores) <= 0).all()
    assert ((scores > 0) & (scores < 1)).all()


@pytest.mark.slow
def test_the_manifest_says_how_it_is_fed(exported: Exported) -> None:
    spec = exported.spec
    assert spec.input_shape == (1, 64, 96, 3)
    assert spec.class_names == ["pig", "person"]
    assert spec.letterbox_colour == (9, 8, 7)
    assert (spec.top_k, spec.nms_iou, spec.score_threshold) == (40, 0.5, 0.35)
    assert (spec.pixel_scale, spec.pixel_offset) == (1 / 127.5, -1.0)
    if spec.dtype == "uint8":
        # A step of the input is about one grey level.
        assert spec.scale == pytest.approx(1 / 127.5, rel=0.02)
    else:
        assert (spec.dtype, spec.scale) == ("float32", 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("exported", [False], ids=["float"], indirect=True)
def test_the_device_sees_what_the_trainer_sees(
    exported: Exported, trained: TrainedDetector
) -> None:
    # How little int8 changes is asked of a trained network: detection/test_end_to_end.py. This one
    # has random weights, whose scores lie so close that rounding shuffles them.
    for image in noise(6, 5):
        expected = detected_in_float(trained, image)
        assert len(expected) > 20
        found = exported.detector.detect(image, score_threshold=LIMIT)
        np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.02)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
        np.testing.assert_array_equal(found.classes, expected.classes)


@pytest.mark.slow
def test_outputs_of_another_length_are_refused(exported: Exported) -> None:
    data, model = exported.path.read_bytes(), open_model(exported.path, threads=1)
    assert output_roles(data, model, 40) == exported.spec.outputs
    with pytest.raises(EarmarkError, match="not those of TFLite_Detection_PostProcess"):
        output_roles(data, model, 41)


@pytest.mark.slow
def test_a_model_without_the_post_process_is_refused(tmp_path: Path) -> None:
    inputs = keras.Input((8, 8, 3))
    outputs = keras.layers.Conv2D(2, 3)(inputs)
    path = tmp_path / "plain.tflite"
    path.write_bytes(convert_int8(keras.Model(inputs, outputs), [np.zeros((1, 8, 8, 3), "f4")]))
    with pytest.raises(EarmarkError, match="0 TFLite_Detection_PostProcess operators instead"):
        output_roles(path.read_bytes(), open_model(path, threads=1), 40)


@pytest.mark.slow
def test_without_calibration_frames_nothing_is_written(
    trained: TrainedDetector, tmp_path: Path
) -> None:
    path = tmp_path / "detector.tflite"
    with pytest.raises(EarmarkError, match="at least one representative image"):
        export_detector(trained, noise(0, 1), path)
    assert list(tmp_path.iterdir()) == []

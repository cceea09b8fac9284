"""From annotated frames to boxes on the device: train, export, find."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.vision.detector import Detector
from edge.vision.geometry import iou_matrix
from edge.vision.runtime import open_model
from trainer.data.annotations import read_coco
from trainer.data.frames import FrameSet, load_frames
from trainer.detection.augment import FrameAugmentation
from trainer.detection.options import DetectorOptions
from trainer.detection.train import TrainedDetector, train_detector
from trainer.evaluate.detection import detection_figures, find, findings
from trainer.export.detector import export_detector
from trainer.export.post_process import POST_PROCESS
from trainer.export.quantise import operators
from trainer.progress import silent

TINY = DetectorOptions(
    input_size=(64, 96),
    alpha=0.35,
    anchors_per_cell=3,
    steps=120,
    batch_size=8,
    learning_rate=6e-3,
    evaluate_every=60,
    top_k=20,
    augmentation=FrameAugmentation(scale=1.1, rotation_deg=0.0, blur=0.0),
)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> FrameSet:
    """Bright ellipses on noise, two to four in each of 40 frames of 192x128 pixels."""
    root = tmp_path_factory.mktemp("frames")
    rng = np.random.default_rng(0)
    document: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 1, "name": "animal"}],
    }
    for number in range(40):
        image = rng.integers(40, 90, (128, 192, 3)).astype(np.uint8)
        placed = np.zeros((0, 4), np.float32)
        while len(placed) < 2 + number % 3:
            half = rng.permutation([20, 11])
            x, y = rng.integers(half[0], 192 - half[0]), rng.integers(half[1], 128 - half[1])
            box = np.array([[x - half[0], y - half[1], x + half[0], y + half[1]]], np.float32)
            if iou_matrix(box, placed).max(initial=0) > 0:
                continue
            placed = np.concatenate([placed, box])
            axes = (int(half[0]), int(half[1]))
            cv2.ellipse(image, (int(x), int(y)), axes, 0, 0, 360, (170, 190, 240), -1)
        name = f"s{number // 10}_{number}.png"
        cv2.imwrite(str(root / name), image)
        document["images"].append({"id": number, "file_name": name, "width": 192, "height": 128})
        for x1, y1, x2, y2 in placed.tolist():
            document["annotations"].append(
                {"image_id": number, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}
            )
    (root / "annotations.json").write_text(json.dumps(document))
    return read_coco(root / "annotations.json")


@pytest.fixture(scope="module")
def trained(frames: FrameSet) -> TrainedDetector:
    late = np.array([session == "s3" for session in frames.sessions])
    return train_detector(frames.select(~late), frames.select(late), TINY, silent)


@pytest.mark.slow
def test_ellipses_are_learned(trained: TrainedDetector) -> None:
    assert [row.step for row in trained.history] == [60, 120]
    assert trained.history[-1].loss < trained.history[0].loss
    assert trained.ap50 == max(row.ap50 for row in trained.history)
    assert trained.ap50 > 0.9
    assert 0 < trained.score_threshold < 1
    assert trained.images_per_s > 0
    assert "scratch" in trained.weights
    # Boxes of 20x11 and 11x20 input pixels belong to the finest level.
    assert trained.shapes.strides == (8,)


@pytest.mark.slow
@pytest.mark.parametrize("quantise", [True, False])
def test_the_exported_model_finds_them_on_the_device(
    trained: TrainedDetector, frames: FrameSet, tmp_path: Path, quantise: bool
) -> None:
    path = tmp_path / "detector.tflite"
    calibration = load_frames(frames.select(np.arange(24)), TINY.input_size)
    spec = export_detector(trained, calibration, path, quantise=quantise)
    assert spec.input_shape == (1, 64, 96, 3)
    assert spec.dtype == ("uint8" if quantise else "float32")
    assert (spec.scale > 0) == quantise
    assert spec.class_names == ["animal"]
    assert spec.score_threshold == trained.score_threshold
    late = frames.select(np.arange(30, 40))
    found = find(Detector(open_model(path, threads=1), spec).detect, late)
    figures = detection_figures(findings(found, late, spec.score_threshold), late, draws=2)
    assert figures["ap50"] > 0.9
    assert figures["count_error"] < 0.5
    assert figures["recall_by_overlap"]["none"] > 0.9

    graph = operators(path.read_bytes())
    assert [operator.name for operator in graph].count(POST_PROCESS) == 1
    assert graph[-1].name == POST_PROCESS
    assert "LOGISTIC" in [operator.name for operator in graph]
    # Nothing but what feeds the post-process leaves the integers.
    dequantised = [operator.name for operator in graph].count("DEQUANTIZE")
    assert dequantised == (2 if quantise else 0)

from __future__ import annotations

import keras
import numpy as np
import pytest

from edge.errors import UsageError
from trainer.detection.anchors import AnchorShapes, lay_anchors
from trainer.detection.decode import select_detections
from trainer.detection.model import build_detector, feature_cells, set_batchnorm
from trainer.embedding.backbones import freeze_through


def shapes_for(strides: tuple[int, ...], per_cell: int = 2) -> AnchorShapes:
    level = np.array([[2.0, 3.0]] * per_cell, np.float32)
    return AnchorShapes(strides, tuple(level * stride for stride in strides))


@pytest.mark.parametrize(
    ("strides", "pyramid"), [((8,), 0), ((16, 32, 64), 0), ((8, 16), 16), ((16, 64), 16)]
)
def test_the_network_speaks_of_every_anchor(strides: tuple[int, ...], pyramid: int) -> None:
    size = (96, 160)
    shapes = shapes_for(strides)
    model = build_detector(shapes, 3, input_size=size, alpha=0.35, pyramid=pyramid)
    anchors = lay_anchors(shapes, feature_cells(strides, size), size)
    boxes, logits = model(np.zeros((2, *size, 3), np.float32))
    assert boxes.shape == (2, len(anchors), 4)
    assert logits.shape == (2, len(anchors), 3)
    # Focal loss wants everything to be background, probability 0.99, at the start.
    np.testing.assert_allclose(keras.ops.sigmoid(logits), 0.01, atol=0.004)


def test_outputs_come_in_the_order_of_the_anchors() -> None:
    """A bump in the middle of one cell is told of by that cell's own anchors."""
    size, shapes = (96, 160), shapes_for((8,), per_cell=3)
    keras.utils.set_random_seed(0)
    model = build_detector(shapes, 1, input_size=size, alpha=0.35)
    anchors = lay_anchors(shapes, feature_cells((8,), size), size)
    images = np.zeros((2, *size, 3), np.float32)
    images[1, 64:72, 120:128] = 1
    # With statistics of this very batch, or an untrained network's signals fade to nothing.
    blank, bump = np.asarray(model(images, training=True)[1])[..., 0]
    strongest = anchors[np.abs(bump - blank).argsort()[-3:], :2]
    assert np.abs(strongest - [68, 124]).max() <= 16


@pytest.mark.parametrize("size", [(100, 160), (96, 170), (32, 320)])
def test_sizes_that_do_not_halve_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="multiples of 32"):
        build_detector(shapes_for((8,)), 1, input_size=size, alpha=0.35)


def test_frozen_means_the_backbone_only() -> None:
    model = build_detector(shapes_for((8,)), 1, input_size=(64, 64), alpha=0.35)
    set_batchnorm(model, frozen=True)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    learning = [layer.name for layer in norms if layer.trainable]
    assert len(learning) == 2
    assert all(name.startswith("head_") for name in learning)
    set_batchnorm(model, frozen=False)
    assert all(layer.trainable for layer in norms)


def test_what_comes_before_a_layer_can_be_frozen_whatever_the_heads_look_at() -> None:
    model = build_detector(shapes_for((8, 16)), 1, input_size=(64, 96), alpha=0.35)
    freeze_through(model, "block_12_project_BN")
    learning = {layer.name for layer in model.layers if layer.trainable_weights}
    assert not {"Conv1", "bn_Conv1", "block_6_expand", "block_12_project_BN"} & learning
    assert {"block_13_expand", "head_boxes_8", "head_classes_8", "head_classes_16"} <= learning
    with pytest.raises(UsageError, match="names no layer of the backbone: 'block_99'"):
        freeze_through(model, "block_99")


def test_detections_are_chosen_by_hand() -> None:
    # Two anchors on one animal, one on another, one too weak.
    anchors = np.array([[10, 10, 8, 8], [10, 11, 8, 8], [40, 40, 8, 8], [70, 70, 8, 8]], np.float32)
    scores = np.array([[0.6, 0.1], [0.2, 0.9], [0.7, 0.3], [0.2, 0.1]], np.float32)
    chosen = select_detections(
        np.zeros((4, 4), np.float32), scores, anchors, score_threshold=0.3, nms_iou=0.5, top_k=9
    )
    np.testing.assert_array_equal(chosen.boxes, [[7, 6, 15, 14], [36, 36, 44, 44]])
    np.testing.assert_array_equal(chosen.scores, np.array([0.9, 0.7], np.float32))
    np.testing.assert_array_equal(chosen.classes, [1, 0])
    # The two overlap by 7/9: above that limit both stay, and top_k cuts the weakest.
    loose = select_detections(
        np.zeros((4, 4), np.float32), scores, anchors, score_threshold=0.3, nms_iou=0.8, top_k=2
    )
    np.testing.assert_array_equal(loose.scores, np.array([0.9, 0.7], np.float32))
    assert (
        len(
            select_detections(
                np.zeros((4, 4), np.float32),
                scores,
                anchors,
                score_threshold=0.3,
                nms_iou=0.8,
                top_k=9,
            )
        )
        == 3
    )

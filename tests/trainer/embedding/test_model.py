from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from edge.errors import UsageError
from trainer.embedding.backbones import (
    BACKBONES,
    build_features,
    describe_weights,
    find_backbone,
    freeze_through,
)
from trainer.embedding.model import (
    NECK,
    UnitLength,
    build_embedder,
    set_batchnorm,
)

MOBILENET = find_backbone("mobilenet_v2")


def build(**changes: object) -> keras.Model:
    arguments = {"tap": "block_3_project_BN", "input_size": 32, "dimension": 8, "alpha": 0.35}
    return build_embedder(MOBILENET, **(arguments | changes))


@pytest.mark.parametrize("head", ["pooled", "flat", "classifier"])
def test_embeddings_have_unit_length(head: str) -> None:
    model = build(head=head)
    images = np.random.default_rng(0).uniform(-1, 1, (3, 32, 32, 3)).astype(np.float32)
    embeddings = model(images).numpy()
    assert embeddings.shape == (3, 8)
    assert np.linalg.norm(embeddings, axis=1) == pytest.approx(np.ones(3), abs=1e-5)


def test_unit_length_survives_saving(tmp_path: Path) -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, UnitLength()(inputs))
    model.save(tmp_path / "unit.keras")
    loaded = keras.models.load_model(tmp_path / "unit.keras")
    assert loaded(np.array([[3.0, 0, 4, 0]])).numpy()[0] == pytest.approx([0.6, 0, 0.8, 0])


def test_frozen_batchnorms_are_the_backbones_not_the_heads() -> None:
    model = build()
    set_batchnorm(model, frozen=True)
    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert {x.name for x in norms if x.trainable} == {NECK}
    set_batchnorm(model, frozen=False, momentum=0.8)
    assert all(x.trainable and x.momentum == 0.8 for x in norms)


def test_what_cannot_be_had_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no backbone 'vgg'; choose one of"):
        find_backbone("vgg")
    with pytest.raises(UsageError, match=r"no layer 'block_99'.*block_10_project_BN"):
        build(tap="block_99")
    with pytest.raises(UsageError, match=r"gone\.h5: no such weights file"):
        build(weights=tmp_path / "gone.h5")
    with pytest.raises(UsageError, match="give 'imagenet' or the path"):
        build(weights="cows")
    with pytest.raises(UsageError, match="no head 'deep'"):
        build(head="deep")
    broken = tmp_path / "broken.h5"
    broken.write_bytes(b"not weights")
    with pytest.raises(UsageError, match=r"broken\.h5: cannot be used") as caught:
        build(weights=broken)
    assert "\n" not in str(caught.value)


def test_local_weights_are_really_loaded(tmp_path: Path) -> None:
    donor = keras.applications.MobileNetV2(
        input_shape=(32, 32, 3), include_top=False, weights=None, alpha=0.35
    )
    path = tmp_path / "donor.weights.h5"
    donor.save_weights(path)
    model = build(weights=path)
    wanted = donor.get_layer("block_3_project").get_weights()[0]
    assert (model.get_layer("block_3_project").get_weights()[0] == wanted).all()


def test_each_backbone_knows_its_pixels() -> None:
    assert MOBILENET.pixel_scale * 255 + MOBILENET.pixel_offset == pytest.approx(1)
    assert BACKBONES["efficientnet_b5"].pixel_scale == 1
    assert BACKBONES["efficientnet_b5"].pixel_offset == 0
    with pytest.raises(UsageError, match="one width only"):
        build_embedder(BACKBONES["resnet101_v2"], tap="x", input_size=32, dimension=8, alpha=0.5)


def test_the_start_is_told_in_words() -> None:
    assert "scratch" in describe_weights(None)
    assert describe_weights("imagenet") == "ImageNet"
    assert describe_weights(Path("/some/where/w.h5")) == "file w.h5"


def test_a_file_of_efficientnet_weights_is_rescaled_as_downloaded_ones_are(tmp_path: Path) -> None:
    def normalisation(network: keras.Model) -> keras.layers.Normalization:
        return next(x for x in network.layers if isinstance(x, keras.layers.Normalization))

    # The ImageNet file holds mean and deviation; Keras divides by the deviation, not its root.
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    path = tmp_path / "donor.weights.h5"
    donor = keras.applications.EfficientNetB5(
        input_shape=(32, 32, 3), include_top=False, weights=None
    )
    layer = normalisation(donor)
    layer.set_weights([mean, deviation, *layer.get_weights()[2:]])
    donor.save_weights(path)
    backbone = BACKBONES["efficientnet_b5"]
    features = build_features(backbone, "block1a_project_bn", 32, 1.0, path)
    seen = keras.Model(features.input, normalisation(features).output)
    expected = (200 / 255 - mean) / deviation
    pixel = seen(np.full((1, 32, 32, 3), 200, np.float32)).numpy()[0, 0, 0]
    assert pixel == pytest.approx(expected, rel=1e-4)


def test_resnet50_is_fed_rgb_and_sees_what_its_weights_were_trained_on(tmp_path: Path) -> None:
    keras.utils.set_random_seed(3)
    path = tmp_path / "donor.weights.h5"
    donor = keras.applications.ResNet50(input_shape=(64, 64, 3), include_top=False, weights=None)
    donor.save_weights(path)
    backbone = BACKBONES["resnet50"]
    features = build_features(backbone, "conv2_block1_out", 64, 1.0, path)
    images = np.random.default_rng(0).integers(0, 255, (1, 64, 64, 3)).astype(np.float32)
    expected = keras.Model(donor.input, donor.get_layer("conv2_block1_out").output)(
        keras.applications.resnet.preprocess_input(images.copy())
    )
    found = features(images * backbone.pixel_scale + backbone.pixel_offset)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_layers_are_frozen_up_to_the_one_that_is_named() -> None:
    model = build()
    freeze_through(model, "block_1_project_BN")
    trainable = {layer.name for layer in model.layers if layer.trainable}
    assert "block_1_project" not in trainable
    assert "block_2_expand" in trainable
    assert "projection" in trainable


def test_half_precision_does_not_overflow_in_the_unit_vector() -> None:
    layer = UnitLength()
    rows = np.array([[300.0, 400.0], [3e-4, 4e-4]], np.float16)
    assert layer(rows).numpy() == pytest.approx(np.array([[0.6, 0.8]] * 2), abs=1e-2)

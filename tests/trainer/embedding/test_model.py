from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from edge.errors import UsageError
from trainer.embedding.backbones import BACKBONES, describe_weights, find_backbone
from trainer.embedding.model import NECK, UnitLength, build_embedder, set_batchnorm

MOBILENET = find_backbone("mobilenet_v2")


def build(**changes: object) -> keras.Model:
    arguments = {"tap": "block_3_project_BN", "input_size": 32, "dimension": 8, "alpha": 0.35}
    return build_embedder(MOBILENET, **(arguments | changes))


@pytest.mark.parametrize("head", ["pooled", "flat"])
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

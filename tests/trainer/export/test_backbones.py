"""Every backbone of the article goes the whole way to an int8 file that the device's code runs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.vision.embedder import Embedder
from edge.vision.runtime import open_model
from trainer.data.crops import CropSet, load_images, read_crops
from trainer.embedding.backbones import BACKBONES
from trainer.embedding.options import EmbedderOptions
from trainer.embedding.train import train_embedder
from trainer.export.embedder import embedding_parity, export_embedder
from trainer.progress import silent


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> CropSet:
    root = tmp_path_factory.mktemp("crops")
    rng = np.random.default_rng(0)
    for animal in range(2):
        (root / f"cow{animal}").mkdir()
        for number in range(3):
            image = rng.integers(0, 256, (40, 40, 3)).astype(np.uint8)
            cv2.imwrite(str(root / f"cow{animal}" / f"s{number}_0.png"), image)
    return read_crops(root)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_a_backbone_becomes_an_int8_file(name: str, crops: CropSet, tmp_path: Path) -> None:
    options = EmbedderOptions(
        backbone=name,
        head="flat",
        input_size=48,
        images_per_class=2,
        losses={"semi_hard": 1.0},
        steps=1,
        freeze_through="tap",
    )
    trained = train_embedder(crops, crops.select([]), options, silent)
    images = load_images(crops, 48)
    spec = export_embedder(trained, images, tmp_path / "embedder.tflite")
    assert spec.tap == BACKBONES[name].tap
    assert (spec.pixel_scale, spec.pixel_offset) == (
        BACKBONES[name].pixel_scale,
        BACKBONES[name].pixel_offset,
    )
    embedder = Embedder(open_model(tmp_path / "embedder.tflite"), spec)
    assert np.linalg.norm(embedder.embed(images), axis=1) == pytest.approx(np.ones(6), abs=1e-3)
    # Random weights, so the two only resemble each other; wrong pixels would leave nothing.
    assert embedding_parity(trained, embedder, images)["cosine_mean"] > 0.5

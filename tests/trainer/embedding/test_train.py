from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import DataError, UsageError
from edge.vision.embedder import Embedder
from edge.vision.runtime import open_model
from trainer.data.crops import CropSet, load_images, read_crops
from trainer.data.splits import split_by_session
from trainer.embedding.train import EmbedderOptions, nearest_mean_macro_f1, train_embedder
from trainer.export.embedder import embedding_parity, export_embedder
from trainer.means.build import build_means
from trainer.progress import silent

COLOURS = [(220, 40, 40), (40, 200, 60), (50, 70, 220), (230, 210, 40)]
TINY = EmbedderOptions(
    input_size=32,
    dimension=16,
    tap="block_6_project_BN",
    alpha=0.35,
    classes_per_batch=4,
    images_per_class=4,
    steps=30,
    evaluate_every=10,
    learning_rate=3e-3,
)


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> CropSet:
    """Four animals of stripes in their colour, three sessions each."""
    root = tmp_path_factory.mktemp("crops")
    rng = np.random.default_rng(0)
    for number, colour in enumerate(COLOURS):
        folder = root / f"cow{number}"
        folder.mkdir()
        for session in range(3):
            for frame in range(4):
                image = rng.integers(90, 130, (24, 40, 3)).astype(np.uint8)
                start = rng.integers(0, 6)
                image[:, start :: 4 + 2 * number] = colour[::-1]
                image[6:18, 8:32] = colour[::-1]
                cv2.imwrite(str(folder / f"s{session}_{frame}.png"), image)
    return read_crops(root)


def test_nearest_mean_macro_f1_by_hand() -> None:
    references = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    queries = np.array([[1, 0.1], [0.1, 1], [0.2, 1]], np.float32)
    # Animals 2 and 5; the last query of 2 lies nearer to 5.
    score = nearest_mean_macro_f1(
        references, np.array([2, 2, 5], np.int32), queries, np.array([2, 5, 2], np.int32)
    )
    assert score == pytest.approx(2 / 3)


def test_options_that_do_not_fit_the_crops_are_refused(crops: CropSet) -> None:
    none = crops.select([])
    with pytest.raises(DataError, match="there are 4; set classes_per_batch to 4"):
        train_embedder(crops, none, replace(TINY, classes_per_batch=9), silent)
    lonely = crops.select((crops.labels != 2) | (np.arange(len(crops)) == 24))
    with pytest.raises(DataError, match="'cow2' has 1 image,"):
        train_embedder(lonely, none, TINY, silent)
    three = crops.select(crops.labels != 3)
    with pytest.raises(DataError, match="validation animal 'cow3'"):
        train_embedder(three, crops, replace(TINY, classes_per_batch=3), silent)
    with pytest.raises(UsageError, match="no triplet loss 'hard'"):
        train_embedder(crops, none, replace(TINY, triplet="hard"), silent)


@pytest.mark.slow
def test_stripes_are_learned_exported_and_named(crops: CropSet, tmp_path: Path) -> None:
    train, validation = split_by_session(crops, 0.3, seed=0)
    calls: list[tuple[int, int]] = []
    trained = train_embedder(
        train, validation, TINY, lambda done, total, note="": calls.append((done, total))
    )
    assert calls[-1] == (30, 30)
    assert [row.step for row in trained.history] == [10, 20, 30]
    assert trained.history[-1].loss < 0.7 * trained.history[0].loss
    assert trained.macro_f1 == max(row.macro_f1 for row in trained.history)
    assert trained.macro_f1 > 0.7
    assert trained.images_per_s > 0
    assert "scratch" in trained.weights

    images = load_images(train, 32)
    spec = export_embedder(trained, images, tmp_path / "embedder.tflite")
    assert (spec.dtype, spec.dimension, spec.input_shape) == ("uint8", 16, (1, 32, 32, 3))
    model = open_model(tmp_path / "embedder.tflite", threads=1)
    assert model.outputs[0].scale == pytest.approx(1 / 128)
    embedder = Embedder(model, spec)
    parity = embedding_parity(trained, embedder, load_images(validation, 32))
    assert parity["cosine_mean"] > 0.95
    assert parity["cosine_p05"] <= parity["cosine_mean"]

    means, report = build_means(
        embedder, train, validation, embedder_sha256=spec.sha256, seq=1, created="2026-01-01"
    )
    assert means.animals == ("cow0", "cow1", "cow2", "cow3")
    assert report.calibration["accepted"] >= 0.95


@pytest.mark.slow
def test_without_validation_crops_the_last_step_is_kept(crops: CropSet) -> None:
    trained = train_embedder(crops, crops.select([]), replace(TINY, steps=3), silent)
    assert trained.best_step == 3
    assert trained.macro_f1 is None
    assert trained.history[-1].macro_f1 is None

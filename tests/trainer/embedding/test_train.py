from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import pytest

from edge.errors import DataError, EarmarkError, UsageError
from edge.vision.embedder import Embedder
from edge.vision.runtime import open_model
from trainer.data.crops import CropSet, load_images, read_crops
from trainer.data.splits import split_by_session
from trainer.embedding.backbones import find_backbone
from trainer.embedding.judge import nearest_mean_macro_f1
from trainer.embedding.model import Head, build_embedder
from trainer.embedding.options import EmbedderOptions
from trainer.embedding.train import refit, train_embedder
from trainer.export.embedder import embedding_parity, export_embedder
from trainer.means.build import build_means
from trainer.progress import Report, silent

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
    with pytest.raises(UsageError, match="no loss 'hard'"):
        train_embedder(crops, none, replace(TINY, losses={"hard": 1.0}), silent)


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


class KilledError(Exception):
    """Stands for a power cut."""


def kill_at(step: int) -> Report:
    def report(done: int, total: int, note: str = "") -> None:
        if done >= step:
            raise KilledError

    return report


@pytest.mark.slow
@pytest.mark.parametrize("head", ["pooled", "flat"])  # the flat one has dropout: more state
def test_a_killed_training_goes_on_as_if_nothing_had_been(
    crops: CropSet, tmp_path: Path, head: Head
) -> None:
    train, validation = split_by_session(crops, 0.3, seed=0)
    options = replace(TINY, steps=24, evaluate_every=8, head=head)
    whole = train_embedder(train, validation, options, silent)
    with pytest.raises(KilledError):
        train_embedder(train, validation, options, kill_at(20), state=tmp_path, key="k")
    resumed = train_embedder(train, validation, options, silent, state=tmp_path, key="k")
    assert resumed.resumed_at == 16
    assert [row.step for row in resumed.history] == [8, 16, 24]
    assert resumed.history == whole.history
    assert resumed.best_step == whole.best_step
    for one, other in zip(resumed.model.get_weights(), whole.model.get_weights(), strict=True):
        assert (one == other).all()

    # What is done is not done again; another recipe's checkpoint is not taken up.
    again = train_embedder(train, validation, options, silent, state=tmp_path, key="k")
    assert (again.resumed_at, again.history) == (24, whole.history)
    other = train_embedder(
        train, validation, replace(options, steps=8), silent, state=tmp_path, key="other"
    )
    assert other.resumed_at == 0


@pytest.mark.slow
def test_training_stops_when_validation_brings_nothing_more(
    crops: CropSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.5, 0.7, 0.6, 0.6, 0.9, 0.9])
    monkeypatch.setattr("trainer.embedding.train.Judge", lambda *a: lambda model: next(scores))
    train, validation = split_by_session(crops, 0.3, seed=0)
    options = replace(TINY, steps=12, evaluate_every=2, patience=2)
    trained = train_embedder(train, validation, options, silent)
    assert [row.step for row in trained.history] == [2, 4, 6, 8]
    assert (trained.best_step, trained.macro_f1) == (4, 0.7)


@pytest.mark.slow
def test_every_validation_is_written_for_tensorboard(crops: CropSet, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util

    train, validation = split_by_session(crops, 0.3, seed=0)
    options = replace(TINY, steps=6, evaluate_every=3)
    trained = train_embedder(train, validation, options, silent, state=tmp_path, key="k")
    events = EventAccumulator(str(tmp_path / "tensorboard" / "embedder")).Reload()
    for name in ("loss", "macro_f1", "active", "positive", "negative"):
        written = [
            (event.step, float(tensor_util.make_ndarray(event.tensor_proto)))
            for event in events.Tensors(f"embedder/{name}")
        ]
        expected = [(row.step, getattr(row, name)) for row in trained.history]
        assert written == [(step, pytest.approx(value, rel=1e-5)) for step, value in expected]


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"losses": {"semi_hard": 1.0, "cosine_softmax": 0.5}, "head": "flat"},
        {"losses": {"batch_all": 0.5, "cosine_softmax": 1.0}, "mirrored_animals": True},
        {"losses": {"softmax": 1.0}, "head": "classifier", "weight_decay": 0.01},
        {"precision": "mixed_bfloat16"},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_every_kind_of_training_learns(crops: CropSet, changes: dict[str, Any]) -> None:
    train, validation = split_by_session(crops, 0.3, seed=0)
    options = replace(TINY, steps=20, evaluate_every=5, **changes)
    trained = train_embedder(train, validation, options, silent)
    losses = [row.loss for row in trained.history]
    assert losses[-1] < losses[0]
    assert all(weight.dtype == "float32" for weight in trained.model.weights)
    embeddings = trained.embed(load_images(validation, 32))
    assert np.linalg.norm(embeddings, axis=1) == pytest.approx(np.ones(len(validation)), abs=1e-3)
    assert trained.classes.directions.shape == (8 if options.mirrored_animals else 4, 16)


@pytest.mark.slow
def test_frozen_layers_do_not_change(crops: CropSet) -> None:
    options = replace(TINY, steps=3, freeze_through="block_3_project_BN", freeze_batchnorm=True)
    trained = train_embedder(crops, crops.select([]), options, silent)
    keras.utils.set_random_seed(TINY.seed)
    fresh = build_embedder(
        find_backbone("mobilenet_v2"),
        tap="block_6_project_BN",
        input_size=32,
        dimension=16,
        alpha=0.35,
    )

    def same(layer: str) -> bool:
        pair = zip(
            trained.model.get_layer(layer).get_weights(),
            fresh.get_layer(layer).get_weights(),
            strict=True,
        )
        return all((one == other).all() for one, other in pair)

    assert same("Conv1")
    assert same("block_3_project")
    assert not same("block_4_expand")
    with pytest.raises(UsageError, match="freeze_through names no layer of the backbone: 'block'"):
        train_embedder(crops, crops.select([]), replace(options, freeze_through="block"), silent)


@pytest.mark.slow
def test_a_training_that_diverges_says_so(crops: CropSet) -> None:
    options = replace(TINY, steps=8, evaluate_every=2, learning_rate=1e30)
    with pytest.raises(EarmarkError, match=r"training diverged by step .*lower learning_rate"):
        train_embedder(crops, crops.select([]), options, silent)


@pytest.mark.slow
def test_a_refit_goes_on_from_what_was_learned_with_all_crops(
    crops: CropSet, tmp_path: Path
) -> None:
    train, validation = split_by_session(crops, 0.3, seed=0)
    options = replace(TINY, steps=20, refit_steps=10, evaluate_every=5)
    trained = train_embedder(train, validation, options, silent, state=tmp_path, key="a")
    refitted = refit(trained, crops, silent, state=tmp_path, key="b")
    assert [row.step for row in refitted.history] == [5, 10]
    assert refitted.history[0].loss < trained.history[0].loss
    assert refitted.weights == trained.weights
    assert any(
        (one != other).any()
        for one, other in zip(
            refitted.model.get_weights(), trained.model.get_weights(), strict=True
        )
    )
    assert {path.name for path in (tmp_path / "tensorboard").iterdir()} == {"embedder", "refit"}
    again = refit(trained, crops, silent, state=tmp_path, key="b")
    assert again.resumed_at == 10

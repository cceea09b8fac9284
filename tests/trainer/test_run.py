"""The whole way once, small: simulated herd → both models → means → bundle → report → clip."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import UsageError
from edge.release.bundle import load_bundle
from edge.release.selftest import load_self_test
from edge.vision.detector import Detector
from edge.vision.runtime import open_model
from trainer.cli import main
from trainer.data.annotations import read_frames
from trainer.data.annotations.split import split_frames
from trainer.data.herd import HerdOptions, simulate
from trainer.detection.options import DetectorOptions
from trainer.evaluate.detection import find
from trainer.progress import Report, silent
from trainer.recipe import load_recipe
from trainer.run import run_recipe
from trainer.run_detection import run_detection
from trainer.sources import FrameData

RECIPE = """
name: tiny
seed: 3
data:
  herd: {animals: 3, other_pens: 1, unknown_animals: 2, sessions: 2, frames: 3}
embedder:
  {alpha: 0.35, input_size: 48, dimension: 16, classes_per_batch: 4, images_per_class: 2, steps: 6,
   evaluate_every: 3, refit_steps: 2, mirrored_animals: true}
detector: {alpha: 0.35, input_size: [96, 160], steps: 4, batch_size: 4, evaluate_every: 2}
clip: {frames: 12, fps: 6}
"""
IDENTIFICATION = {
    "macro_f1", "accuracy", "rank1", "rank5", "auroc", "baks", "baus", "coverage", "known_refused",
    "unknown_refused", "newcomer_accuracy", "int8_macro_f1_drop", "per_animal",
}  # fmt: skip
DETECTION = {"ap", "ap50", "ap75", "ar", "count_error", "recall_by_overlap", "int8_ap_drop"}
TRACKING = {
    "idf1", "hota", "mota", "id_switches", "track_f1", "frame_f1", "wrong_names_per_min",
}  # fmt: skip

stages_seen: list[str] = []


@contextmanager
def stages(title: str) -> Iterator[Report]:
    stages_seen.append(title)
    yield silent


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "tiny.yaml").write_text(RECIPE)
    recipe = load_recipe(folder / "tiny.yaml")
    run_recipe(recipe, folder / "out", data=None, weights=None, stages=stages)
    return folder / "out"


@pytest.mark.slow
def test_the_bundle_is_one_that_a_device_takes(result: Path) -> None:
    bundle = load_bundle(result / "bundle")
    assert bundle.detector is not None
    assert bundle.means.animals == ("pig01", "pig02", "pig03")
    assert bundle.manifest.training.seed == 3
    assert bundle.manifest.training.recipe["name"] == "tiny"
    assert set(bundle.manifest.training.metrics) == {"test"}
    frames = load_self_test(result / "bundle" / "selftest.npz").frames
    assert frames is not None
    assert bundle.manifest.detector is not None
    assert frames.images.shape == (2, *bundle.manifest.detector.input_shape[1:])


@pytest.mark.slow
def test_the_metrics_have_the_agreed_names_and_lie_in_range(result: Path) -> None:
    metrics = json.loads((result / "metrics.json").read_text())
    assert set(metrics["identification"]) >= IDENTIFICATION
    assert set(metrics["detection"]) >= DETECTION
    assert set(metrics["tracking"]) >= TRACKING
    assert metrics["train_s"] > 0
    assert metrics["images_per_s"] > 0
    assert metrics["identification"]["split"] == "test"
    for name in ("macro_f1", "accuracy", "coverage"):
        assert 0 <= metrics["identification"][name] <= 1
    assert -1 <= metrics["identification"]["parity"]["cosine_mean"] <= 1


@pytest.mark.slow
def test_both_models_are_looked_at_for_an_edge_tpu(result: Path) -> None:
    models = json.loads((result / "metrics.json").read_text())["edge_tpu"]
    assert set(models) == {"detector", "embedder"}
    for figures in models.values():
        assert set(figures) >= {
            "mapped", "total", "parameters_bytes", "compiled", "cpu_operators",
        }  # fmt: skip
        assert 0 < figures["mapped"] <= figures["total"]
        left = sum(row["count"] for row in figures["cpu_operators"])
        assert left == figures["total"] - figures["mapped"]
    names = {row["name"] for row in models["detector"]["cpu_operators"]}
    assert "TFLite_Detection_PostProcess" in names
    assert "On a Coral Edge TPU" in (result / "report.html").read_text()


@pytest.mark.slow
def test_the_report_needs_nothing_beside_it(result: Path) -> None:
    page = (result / "report.html").read_text()
    assert page.count("<img") >= 6
    assert 'src="data:image/' in page
    assert "http://" not in page
    assert "https://" not in page
    assert (result / "bundle" / "report.html").read_text() == page


@pytest.mark.slow
def test_clip_and_truth_lie_beside_the_bundle_and_the_drawn_images_are_gone(result: Path) -> None:
    truth = json.loads((result / "truth.json").read_text())
    assert truth["animals"] == ["pig01", "pig02", "pig03"]
    assert {row[0] for row in truth["boxes"]} == set(range(12))
    assert (result / "pen.mp4").stat().st_size > 0
    assert sorted(path.name for path in result.iterdir()) == [
        "bundle",
        "detector_float.tflite",
        "detector_weights.npz",
        "embedder_float.tflite",
        "metrics.json",
        "pen.mp4",
        "report.html",
        "tensorboard",
        "truth.json",
    ]
    assert not (result.parent / "out.state").exists()


OWN = """
name: own
seed: 3
data: {crops: {train: crops, held_out: 0.3, negatives: nobody}}
embedder:
  {alpha: 0.35, input_size: 32, tap: block_3_project_BN, dimension: 8, images_per_class: 2,
   steps: 4, evaluate_every: 2, refit_steps: 2, turns: 2}
"""


@pytest.mark.slow
def test_without_test_crops_the_bundle_knows_more_than_what_was_judged(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for animal, colour in (("cow1", 60), ("cow2", 190)):
        (tmp_path / "crops" / animal).mkdir(parents=True)
        for number in range(9):
            image = rng.integers(colour - 40, colour + 40, (32, 32, 3)).astype(np.uint8)
            path = tmp_path / "crops" / animal / f"s{number % 3}_{number}.png"
            cv2.imwrite(str(path), image)
    (tmp_path / "nobody").mkdir()
    for number in range(20):
        image = rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)
        cv2.imwrite(str(tmp_path / "nobody" / f"wall_{number}.png"), image)
    (tmp_path / "own.yaml").write_text(OWN)
    recipe = load_recipe(tmp_path / "own.yaml")
    metrics = run_recipe(recipe, tmp_path / "out", data=tmp_path, weights=None, stages=stages)
    assert metrics is not None
    figures = metrics["identification"]
    assert figures["split"] == "held_out"
    assert figures["crops"] == 6
    assert "no test crops" in figures["warnings"][0]
    assert "no test crops" in (tmp_path / "out" / "report.html").read_text()
    bundle = load_bundle(tmp_path / "out" / "bundle")
    assert bundle.means.counts.sum() == 18
    assert bundle.manifest.embedder.turns == 2
    assert bundle.means.header.embedder_sha256 == bundle.manifest.embedder.sha256

    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"holds 'notes\.txt'"):
        run_recipe(recipe, tmp_path / "out", data=tmp_path, weights=None, stages=stages)
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


FINDING = """
name: finding
data: {frames: {train: annotations.json, test_every: 5, force_frame_split: true}}
detector: {alpha: 0.35, input_size: [96, 96], steps: 4, batch_size: 4, evaluate_every: 2}
"""


@pytest.mark.slow
def test_a_detector_alone_makes_no_bundle_but_goes_into_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    herd = HerdOptions(animals=3, frames=6, seed=2, video=False)
    simulate(tmp_path / "herd", herd, silent)
    (tmp_path / "finding.yaml").write_text(FINDING)
    recipe, out = load_recipe(tmp_path / "finding.yaml"), tmp_path / "out"
    metrics = run_recipe(recipe, out, data=tmp_path / "herd", weights=None, stages=stages)
    assert metrics is not None
    assert metrics["identification"] is None
    assert set(metrics["detection"]) >= DETECTION
    assert metrics["detection"]["split"] == "test"
    assert set(metrics["edge_tpu"]) == {"detector"}
    assert sorted(path.name for path in out.iterdir()) == [
        "detector.json",
        "detector.tflite",
        "detector_float.tflite",
        "detector_weights.npz",
        "metrics.json",
        "report.html",
        "tensorboard",
    ]
    assert "precision against recall" in (out / "report.html").read_text()
    # Its spec lies beside it: nothing else need be said.
    frames = str(tmp_path / "herd" / "annotations.json")
    asked = ["evaluate", "detection", "--model", str(out / "detector.tflite"), "--frames", frames]
    assert main([*asked, "--out", str(tmp_path / "figures")]) == 0
    base = str(Path(__file__).parents[2] / "models" / "demo" / "bundle")
    made = ["bundle", "--detector", str(out / "detector.tflite"), "--bundle", base]
    assert main([*made, "--out", str(tmp_path / "made")]) == 0
    detector = load_bundle(tmp_path / "made").manifest.detector
    assert detector is not None
    assert detector.class_names == ["animal"]
    assert detector.score_threshold == metrics["detection"]["score_threshold"]
    # A second run replaces the first and can start from what it left.
    changed = load_recipe(
        tmp_path / "finding.yaml", [f"detector.start={out / 'detector_weights.npz'}"]
    )
    again = run_recipe(changed, out, data=tmp_path / "herd", weights=None, stages=stages)
    assert again is not None
    assert again["detection"]["weights"] == "detector detector_weights.npz"


@pytest.mark.slow
def test_without_test_frames_a_refit_is_not_judged_on_what_it_learned(tmp_path: Path) -> None:
    simulate(tmp_path / "herd", HerdOptions(animals=3, frames=4, seed=2, video=False), silent)
    fit, held_out = split_frames(read_frames(tmp_path / "herd" / "annotations.json"), 0.3, 0)
    options = DetectorOptions(
        alpha=0.35, input_size=(64, 96), steps=4, batch_size=4, evaluate_every=2, workers=1
    )

    def judged(name: str, refit_steps: int) -> list[list[list[float]]]:
        folder = tmp_path / name
        folder.mkdir()
        detection = run_detection(
            FrameData(fit, held_out, None),
            replace(options, refit_steps=refit_steps),
            folder,
            folder,
            stages,
            state=tmp_path / f"{name}.state",
        )
        assert not list(folder.glob("*first*"))
        assert detection.metrics["split"] == "held_out"
        # What devices get is another detector.
        final = Detector(open_model(folder / "detector.tflite"), detection.spec)
        given = [found.scores.tolist() for found in find(final.detect, held_out)]
        asked = [
            [f.scores.tolist() for f in detection.found.found],
            [f.scores.tolist() for f in detection.twin.found],
        ]
        assert (given == asked[0]) == (refit_steps == 0)
        return asked

    assert judged("refit", 3) == judged("plain", 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        ["detector.backbone=resnet50", "detector.alpha=1.0"],
        ["detector.class_loss=hard_negatives", "detector.box_loss=giou"],
        [
            "detector.class_loss=quality",
            "detector.box_loss=giou",
            "detector.freeze_through=block_2_project_BN",
            "detector.refit_steps=2",
        ],
    ],
    ids=["retinanet", "fpnlite", "refit"],
)
def test_detectors_with_a_pyramid_go_the_same_way(tmp_path: Path, changes: list[str]) -> None:
    simulate(tmp_path / "herd", HerdOptions(animals=3, frames=4, seed=2, video=False), silent)
    (tmp_path / "finding.yaml").write_text(FINDING)
    pyramid = ["detector.pyramid=32", "detector.tower=2", "detector.strides=[8, 32, 128]"]
    recipe = load_recipe(tmp_path / "finding.yaml", [*changes, *pyramid])
    metrics = run_recipe(
        recipe, tmp_path / "out", data=tmp_path / "herd", weights=None, stages=stages
    )
    assert metrics is not None
    assert set(metrics["detection"]) >= DETECTION
    frozen = any(change.startswith("detector.freeze_through") for change in changes)
    doubts = [text for text in metrics["detection"]["warnings"] if "never trained" in text]
    assert len(doubts) == frozen
    # A level grows by one operator that the Edge TPU knows; UpSampling2D stays on the CPU.
    stay = {row["name"] for row in metrics["edge_tpu"]["detector"]["cpu_operators"]}
    assert not stay & {"RESHAPE", "TILE", "RESIZE_NEAREST_NEIGHBOR"}

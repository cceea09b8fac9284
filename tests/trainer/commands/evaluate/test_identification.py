"""`earmark-trainer evaluate identification` on the demo bundle, with crops from its self-test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import BundleError, DataError, UsageError
from edge.release.bundle import load_bundle
from trainer.cli import main

DEMO = Path(__file__).parents[4] / "models" / "demo" / "bundle"
PICTURES = {"embedding_space.png", "mean_space.png", "confusion.png", "coverage.png"}
FILES = {"metrics.json", "report.html", "map.html", "projector"}
KEYS = {
    "macro_f1", "accuracy", "rank1", "rank5", "auroc", "baks", "baus", "coverage", "known_refused",
    "unknown_refused", "newcomer_accuracy", "int8_macro_f1_drop", "per_animal", "oscr", "cmc",
    "accuracy_against_coverage", "macro_f1_by_frames", "intervals", "confusion", "warnings",
    "counts",
}  # fmt: skip


@pytest.fixture(scope="module")
def coats() -> np.ndarray:
    """Six pictures that the embedder tells apart, uint8 (6, S, S, 3) RGB."""
    with np.load(DEMO / "selftest.npz") as archive:
        return np.asarray(archive["crops"])


def draw(folder: Path, coat: np.ndarray, sessions: str = "st", count: int = 3) -> None:
    """Write `count` crops a session of one animal: a little lighter each time."""
    folder.mkdir(parents=True)
    for number in range(count * len(sessions)):
        image = np.clip(coat.astype(int) + 5 * number, 0, 255).astype(np.uint8)
        path = folder / f"{sessions[number // count]}_{number:03}.png"
        cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


@pytest.fixture
def crops(tmp_path: Path, coats: np.ndarray) -> Path:
    """Three cows in gallery and query, by sessions of their own; two newcomers; a stranger."""
    for number, animal in enumerate(("cow1", "cow2", "cow3")):
        draw(tmp_path / "gallery" / animal, coats[number], "ab")
        draw(tmp_path / "query" / animal, coats[number], "cd")
    for number, animal in ((3, "calf1"), (4, "calf2")):
        draw(tmp_path / "new" / animal, coats[number], "a")
        draw(tmp_path / "asked" / animal, coats[number], "b")
    draw(tmp_path / "unknown" / "bull", coats[5], "a")
    return tmp_path


def run(*arguments: object) -> int:
    return main(["evaluate", "identification", "--bundle", str(DEMO), *map(str, arguments)])


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_everything_comes_out_of_one_command(
    crops: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = crops / "out"
    code = run(
        *("--gallery", crops / "gallery", "--query", crops / "query"),
        *("--unknown", crops / "unknown", crops / "asked"),
        *("--newcomer-gallery", crops / "new", "--newcomer-query", crops / "asked"),
        *("--projection", "pca", "--seed", 3, "--out", out),
    )
    assert code == 0
    assert names(out) == FILES | PICTURES
    assert names(out / "projector") == {
        "tensors.tsv",
        "metadata.tsv",
        "sprite.png",
        "projector_config.pbtxt",
    }
    metrics = json.loads((out / "metrics.json").read_text())
    assert set(metrics) >= KEYS
    # The very pictures of the gallery, in other light: named right by any embedder that works.
    assert metrics["macro_f1"] == metrics["rank1"] == 1
    assert metrics["newcomer_accuracy"] == 1
    assert metrics["counts"]["unknown"] == {"crops": 9, "animals": 3, "sessions": 3}
    assert metrics["int8_macro_f1_drop"] is None
    assert metrics["means"] == "gallery"
    assert metrics["projection"] == "pca"
    assert metrics["bundle"] == load_bundle(DEMO).manifest.id
    assert metrics["warnings"] == []
    assert len(metrics["accuracy_against_coverage"]) >= 50
    assert list(metrics["macro_f1_by_frames"]) == ["1", "5", "10", "30"]
    for name in PICTURES:
        assert cv2.imread(str(out / name)).std() > 0
    printed = capsys.readouterr()
    assert "macro F1" in printed.out
    assert "warning" not in printed.err
    report = (out / "report.html").read_text()
    assert report.count("<img") >= len(PICTURES)
    assert "http" not in report.replace('http-equiv="Content-Security-Policy"', "")


def test_a_session_on_both_sides_is_told_everywhere(
    crops: Path, coats: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(crops / "more" / "cow1", coats[0], "b")
    out = crops / "out"
    run(
        *("--gallery", crops / "gallery", "--query", crops / "query", "--query", crops / "more"),
        *("--out", out),
    )
    (warning,) = json.loads((out / "metrics.json").read_text())["warnings"]
    assert "1 of 7 sessions of --query are in --gallery too (cow1/b)" in warning
    assert "cow1/b" in capsys.readouterr().err
    assert "cow1/b" in (out / "report.html").read_text()


def test_the_bundles_own_means_are_asked_without_a_gallery(crops: Path, coats: np.ndarray) -> None:
    draw(crops / "herd" / "pig01", coats[0])
    draw(crops / "herd" / "pig02", coats[1])
    assert run("--query", crops / "herd", "--out", crops / "out") == 0
    metrics = json.loads((crops / "out" / "metrics.json").read_text())
    assert metrics["means"] == "bundle"
    assert metrics["auroc"] is None


def test_an_older_evaluation_is_replaced_and_nothing_else(crops: Path) -> None:
    both = ("--gallery", crops / "gallery", "--query", crops / "query", "--projection", "pca")
    run(*both, "--out", crops / "out")
    before = (crops / "out" / "metrics.json").read_bytes()
    (crops / "out" / "coverage.png").write_bytes(b"old")
    run(*both, "--out", crops / "out")
    assert (crops / "out" / "coverage.png").read_bytes() != b"old"
    assert (crops / "out" / "metrics.json").read_bytes() == before
    assert names(crops / "out") == FILES | PICTURES
    with pytest.raises(UsageError, match="not the result of an evaluation"):
        run(*both, "--out", crops / "new")
    (crops / "out" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"holds 'notes\.txt'"):
        run(*both, "--out", crops / "out")
    assert (crops / "out" / "notes.txt").read_text() == "mine"


def test_what_is_wrong_with_the_folders_is_one_line_and_leaves_nothing(
    crops: Path, coats: np.ndarray
) -> None:
    (crops / "empty").mkdir()
    draw(crops / "spoilt" / "cow1", coats[0])
    (crops / "spoilt" / "cow1" / "c_999.png").write_text("no picture")
    gallery, query = ("--gallery", crops / "gallery"), ("--query", crops / "query")
    for arguments, error, words in (
        ((*gallery, "--query", crops / "nowhere"), DataError, "nowhere: no such folder"),
        (("--gallery", crops / "empty", *query), DataError, "empty: no images found"),
        ((*gallery, "--query", crops / "new"), DataError, "'calf1' is not in the --gallery"),
        (query, DataError, "'cow1' is not in the bundle's class means; .*--unknown"),
        ((*gallery, *query, "--unknown", crops / "query"), DataError, "ask it with --query"),
        ((*gallery, "--query", crops / "spoilt"), DataError, "c_999.png: not an image"),
        ((*gallery, *query, "--newcomer-query", crops / "new"), UsageError, "go together"),
        ((*gallery, *query, "--out", crops / "query" / "out"), UsageError, "which is read"),
        ((*gallery, *query, "--out", DEMO / "out"), UsageError, "lies in the bundle"),
        ((*gallery, *query, "--float", crops / "no.tflite"), UsageError, "no.tflite: no such file"),
        (
            (*gallery, *query, "--float", crops / "query" / "cow1" / "c_000.png"),
            BundleError,
            "c_000.png is not a model",
        ),
    ):
        before = names(crops)
        with pytest.raises(error, match=words):
            run("--out", crops / "out", *arguments)
        assert names(crops) == before


def test_a_float_model_needs_a_gallery(crops: Path, coats: np.ndarray) -> None:
    draw(crops / "herd" / "pig01", coats[0])
    twin = DEMO / "embedder.tflite"
    with pytest.raises(UsageError, match="needs --gallery"):
        run("--query", crops / "herd", "--float", twin, "--out", crops / "out")
    assert not (crops / "out").exists()


@pytest.mark.slow
def test_a_float_twin_gives_a_parity_table(crops: Path, tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow")
    keras = pytest.importorskip("keras")
    spec = load_bundle(DEMO).manifest.embedder
    side = spec.input_shape[1]
    inputs = keras.Input((side, side, 3), batch_size=1)
    pooled = keras.layers.AveragePooling2D(side // 8)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(spec.dimension)(keras.layers.Flatten()(pooled)))
    twin = tmp_path / "float.tflite"
    twin.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    both = ("--gallery", crops / "gallery", "--query", crops / "query", "--projection", "pca")
    run(*both, "--float", twin, "--out", crops / "out")
    metrics = json.loads((crops / "out" / "metrics.json").read_text())
    parity = metrics["parity"]
    assert metrics["int8_macro_f1_drop"] == pytest.approx(
        parity["float"]["macro_f1"] - metrics["macro_f1"]
    )
    # Another network altogether: its vectors have nothing to do with the bundle's.
    assert abs(parity["cosine_mean"]) < 0.5
    assert "int8 beside float" in (crops / "out" / "report.html").read_text()


@pytest.mark.slow
def test_it_runs_without_tensorflow_and_draws_what_it_can_without_matplotlib(crops: Path) -> None:
    script = (
        "import sys\n"
        "for name in ('tensorflow', 'keras', 'matplotlib', 'umap'): sys.modules[name] = None\n"
        "from trainer.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    arguments = ["--gallery", crops / "gallery", "--query", crops / "query", "--out", crops / "out"]
    subprocess.run(
        [
            *(sys.executable, "-c", script, "evaluate", "identification", "--bundle", str(DEMO)),
            *map(str, arguments),
        ],
        check=True,
        capture_output=True,
    )
    assert names(crops / "out") == FILES
    metrics = json.loads((crops / "out" / "metrics.json").read_text())
    assert "matplotlib is not installed" in metrics["warnings"][0]
    assert metrics["projection"] == "pca"

"""`earmark-trainer evaluate detection` with the demo bundle, on frames of a simulated herd."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from edge.errors import BundleError, DataError, UsageError
from edge.release.bundle import load_bundle, read_manifest
from edge.release.manifest import MANIFEST_NAME, encode_manifest
from trainer.cli import main
from trainer.data.herd import HerdOptions, SessionPlan, simulate

DEMO = Path(__file__).parents[4] / "models" / "demo" / "bundle"
DETECTOR = DEMO / "detector.tflite"
PICTURES = {
    "precision_recall.png", "threshold.png", "counts.png", "overlap.png", "worst.jpg", "missed.jpg",
}  # fmt: skip
FILES = {"metrics.json", "report.html"}
KEYS = {
    "ap", "ap50", "ap75", "ar", "count_error", "recall_by_overlap", "int8_ap_drop", "precision",
    "recall", "f1", "count_bias", "false_positives_per_frame", "ar_by_size", "per_class",
    "per_session", "intervals", "warnings", "bundle", "score_threshold",
}  # fmt: skip


@pytest.fixture(scope="module")
def herd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four frames of a pen in two lights, with the truth; the detector has seen neither."""
    folder = tmp_path_factory.mktemp("herd") / "pen"
    sessions = (
        SessionPlan("cam1-day-0", 1, "day", 5, 2),
        SessionPlan("cam1-dusk-0", 1, "dusk", 6, 2),
    )
    simulate(folder, HerdOptions(animals=8, seed=4, video=False, sessions=sessions, frame_every=1))
    return folder


def annotate(
    folder: Path, rows: Iterable[Sequence[float]], names: Sequence[str] = ("animal",)
) -> Path:
    """Write one grey frame of 320x192 with boxes x y width height class as COCO."""
    folder.mkdir(exist_ok=True)
    cv2.imwrite(str(folder / "pen_0.png"), np.full((192, 320, 3), 120, np.uint8))
    content = {
        "images": [{"id": 1, "file_name": "pen_0.png", "width": 320, "height": 192}],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names)],
        "annotations": [
            {"id": number, "image_id": 1, "category_id": int(row[4]), "bbox": list(row[:4])}
            for number, row in enumerate(rows, 1)
        ],
    }
    path = folder / "annotations.json"
    path.write_text(json.dumps(content))
    return path


def run(*arguments: object) -> int:
    return main(["evaluate", "detection", *map(str, arguments)])


def metrics_of(out: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((out / "metrics.json").read_text())
    return found


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.slow
def test_everything_comes_out_of_one_command(
    herd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    # The detector is compared with itself.
    code = run("--bundle", DEMO, "--frames", herd, "--float", DETECTOR, "--out", out)
    assert code == 0
    assert FILES | PICTURES - {"worst.jpg", "missed.jpg"} <= names(out) <= FILES | PICTURES
    metrics = json.loads((out / "metrics.json").read_text())
    assert set(metrics) >= KEYS
    # Another herd in the pen that the detector was made for.
    assert metrics["ap50"] > 0.8
    assert metrics["ap"] > 0.4
    assert metrics["recall_by_overlap"].keys() == {"none", "touching", "piled"}
    assert metrics["int8_ap_drop"] == 0
    assert metrics["float"]["ap"] == metrics["ap"]
    assert metrics["frames"] == 4
    assert metrics["animals"] == 32
    assert set(metrics["per_session"]) == {"cam1-day-0", "cam1-dusk-0"}
    assert metrics["intervals"]["int8_ap_drop"] == [0, 0]
    bundle = load_bundle(DEMO)
    assert metrics["bundle"] == bundle.manifest.id
    assert bundle.detector is not None
    assert metrics["score_threshold"] == bundle.detector.score_threshold
    assert len(metrics["warnings"]) == 1
    assert "of 2 sessions" in metrics["warnings"][0]
    for name in names(out) & PICTURES:
        assert cv2.imread(str(out / name)).std() > 0
    report = (out / "report.html").read_text()
    assert report.count("<img") == len(names(out) & PICTURES)
    assert "http" not in report
    assert ">nan<" not in report
    printed = capsys.readouterr()
    assert "AP50" in printed.out
    assert "of 2 sessions" in printed.err
    assert "of 2 sessions" in report

    # The same again replaces it, to the same bytes.
    before = (out / "metrics.json").read_bytes()
    run("--bundle", DEMO, "--frames", herd, "--float", DETECTOR, "--out", out)
    assert (out / "metrics.json").read_bytes() == before


@pytest.mark.slow
def test_another_threshold_changes_counts_but_not_ap(herd: Path, tmp_path: Path) -> None:
    found = {}
    for score in ("0.2", "0.8"):
        run("--bundle", DEMO, "--frames", herd, "--score", score, "--out", tmp_path / score)
        found[score] = json.loads((tmp_path / score / "metrics.json").read_text())
    low, high = found["0.2"], found["0.8"]
    assert low["ap"] == high["ap"]
    assert low["recall"] > high["recall"]
    assert low["count_bias"] > high["count_bias"]
    assert high["score_threshold"] == 0.8
    assert high["threshold_of"] == "--score"


@pytest.mark.slow
def test_a_model_by_itself_is_fed_as_a_bundle_says(herd: Path, tmp_path: Path) -> None:
    alone = tmp_path / "mine.tflite"
    shutil.copy(DETECTOR, alone)
    run("--model", alone, "--spec", DEMO, "--frames", herd, "--out", tmp_path / "alone")
    run("--bundle", DEMO, "--frames", herd, "--out", tmp_path / "bundle")
    by_itself, bundled = metrics_of(tmp_path / "alone"), metrics_of(tmp_path / "bundle")
    assert by_itself.pop("bundle") is None
    assert bundled.pop("bundle") is not None
    assert by_itself == bundled
    assert "Detection by mine.tflite" in (tmp_path / "alone" / "report.html").read_text()


@pytest.mark.slow
def test_frames_of_another_class_can_be_taken_for_animals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = annotate(tmp_path / "in", [(20, 20, 90, 60, 1), (200, 100, 60, 60, 0)], ("cow", "pig"))
    out = tmp_path / "out"
    assert run("--bundle", DEMO, "--frames", frames, "--one-class", "--out", out) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert set(metrics["per_class"]) == {"animal"}
    assert metrics["animals"] == 2
    assert "of one session" in metrics["warnings"][0]
    assert "of one session" in capsys.readouterr().err
    assert metrics["intervals"] == {}


def test_what_is_wrong_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    good = annotate(tmp_path / "good", [(20, 20, 90, 60, 0)])
    empty = annotate(tmp_path / "empty", [])
    strange = annotate(tmp_path / "strange", [(20, 20, 90, 60, 0)], ("kangaroo",))
    outside = annotate(tmp_path / "outside", [(20, 20, 90, 60, 0)])
    cv2.imwrite(str(tmp_path / "outside" / "pen_0.png"), np.zeros((50, 60, 3), np.uint8))
    blank = tmp_path / "blank.json"
    blank.write_text('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}')
    nothing = tmp_path / "nothing.json"
    nothing.write_text("")
    crops_only = tmp_path / "crops_only"
    crops_only.mkdir()
    manifest = msgspec.structs.replace(read_manifest(DEMO), detector=None)
    (crops_only / MANIFEST_NAME).write_bytes(encode_manifest(manifest))
    damaged = tmp_path / "damaged"
    shutil.copytree(DEMO, damaged)
    (damaged / "detector.tflite").write_bytes(DETECTOR.read_bytes()[:-1])
    demo = ("--bundle", DEMO)
    for arguments, error, words in (
        ((*demo, "--frames", tmp_path / "no.json"), DataError, r"no\.json: no such file"),
        ((*demo, "--frames", blank), DataError, "lists no images"),
        ((*demo, "--frames", nothing), DataError, "not COCO annotations"),
        ((*demo, "--frames", empty), DataError, "not one of its 1 frames has a box"),
        ((*demo, "--frames", strange), DataError, "class 'kangaroo', the detector finds 'animal'"),
        ((*demo, "--frames", outside), DataError, "has 60x50 pixels, declared are 320x192"),
        ((*demo, "--frames", good, "--format", "xls"), UsageError, "--format xls: must be one of"),
        ((*demo, "--frames", good, "--score", 2), UsageError, "--score 2: must be from"),
        ((*demo, "--frames", good, "--images", tmp_path / "no"), DataError, "no such folder"),
        ((*demo, "--frames", good, "--float", tmp_path / "no"), UsageError, "no: no such file"),
        (
            (*demo, "--frames", good, "--float", DEMO / "embedder.tflite"),
            UsageError,
            "embedder.tflite: has 0 TFLite_Detection_PostProcess",
        ),
        ((*demo, "--frames", good, "--float", good), BundleError, "is not a model"),
        (("--bundle", crops_only, "--frames", good), UsageError, "crops_only: has no detector"),
        (("--bundle", damaged, "--frames", good), BundleError, r"detector\.tflite: .* truncated"),
        (("--bundle", tmp_path / "no", "--frames", good), BundleError, "no such bundle"),
        (("--model", DETECTOR, "--frames", good), UsageError, "--model needs --spec"),
        ((*demo, "--spec", DEMO, "--frames", good), UsageError, "--spec goes with --model"),
    ):
        before = names(tmp_path)
        with pytest.raises(error, match=words) as caught:
            run(*arguments, "--out", tmp_path / "out")
        assert "\n" not in str(caught.value)
        assert names(tmp_path) == before


def test_only_an_older_evaluation_is_replaced(tmp_path: Path) -> None:
    frames = annotate(tmp_path / "in", [(20, 20, 90, 60, 0)])
    both = ("--bundle", DEMO, "--frames", frames)
    with pytest.raises(UsageError, match="not the result of an evaluation"):
        run(*both, "--out", tmp_path / "in")
    out = tmp_path / "out"
    out.mkdir()
    for name in ("metrics.json", "report.html", "precision_recall.png", "notes.txt"):
        (out / name).write_text("mine")
    with pytest.raises(UsageError, match=r"holds 'notes\.txt'"):
        run(*both, "--out", out)
    assert (out / "metrics.json").read_text() == "mine"


@pytest.mark.slow
def test_it_runs_without_tensorflow(tmp_path: Path) -> None:
    frames = annotate(tmp_path / "in", [(20, 20, 90, 60, 0)])
    script = (
        "import sys\n"
        "for name in ('tensorflow', 'keras'): sys.modules[name] = None\n"
        "from trainer.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    arguments = ["--bundle", DEMO, "--frames", frames, "--float", DETECTOR]
    subprocess.run(
        [
            *(sys.executable, "-c", script, "evaluate", "detection"),
            *map(str, arguments),
            *("--out", str(tmp_path / "out")),
        ],
        check=True,
        capture_output=True,
    )
    assert names(tmp_path / "out") >= FILES


def test_a_missing_library_is_one_line(tmp_path: Path) -> None:
    frames = annotate(tmp_path / "in", [(20, 20, 90, 60, 0)])
    script = (
        "import importlib.util, sys\n"
        "found = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *a: None if name == 'pycocotools' "
        "else found(name, *a)\n"
        "from trainer.cli import entry\n"
        "entry()\n"
    )
    done = subprocess.run(
        [
            *(sys.executable, "-c", script, "evaluate", "detection", "--bundle", str(DEMO)),
            *("--frames", str(frames), "--out", str(tmp_path / "out")),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "pycocotools is not installed: pip install 'earmark[trainer]'" in line

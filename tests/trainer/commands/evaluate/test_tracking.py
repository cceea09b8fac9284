"""`earmark-trainer evaluate tracking` with the demo bundle, on clips of a simulated herd."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from msgspec.structs import replace

from edge.comparison import TRACKERS
from edge.errors import BundleError, DataError, EarmarkError, SourceError, UsageError
from edge.release.bundle import read_manifest
from edge.release.manifest import MANIFEST_NAME, content_id, encode_manifest
from trainer.cli import main
from trainer.data.herd import Herd, HerdOptions, SessionPlan, simulate, write_clip

DEMO = Path(__file__).parents[4] / "models" / "demo" / "bundle"
FRAMES = 24
KEYS = {
    "idf1", "hota", "deta", "assa", "mota", "id_switches", "track_f1", "frame_f1",
    "wrong_names_per_min", "path_full_px", "path_full_lengths", "path_partial_px",
    "path_partial_lengths", "path_partial_share", "precision", "recall",
}  # fmt: skip


@pytest.fixture(scope="module")
def pens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cameras' clips of the demo's herd, with their truths; seeds that taught nothing."""
    folder = tmp_path_factory.mktemp("pens")
    herd = Herd(HerdOptions(animals=16, seed=11, fps=12.0))
    for name, camera, light in (("day", 1, "day"), ("night", 2, "night")):
        plan = SessionPlan(name, camera, light, 71_000 + camera, FRAMES)  # type: ignore[arg-type]
        write_clip(folder / f"{name}.mp4", folder / f"{name}.json", herd, plan)
    return folder


def run(*arguments: object) -> int:
    return main(["evaluate", "tracking", *map(str, arguments)])


def pair(pens: Path, name: str = "day") -> tuple[object, ...]:
    return ("--video", pens / f"{name}.mp4", "--truth", pens / f"{name}.json")


@pytest.mark.slow
def test_all_trackers_in_one_table(
    pens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    videos = [pens / "day.mp4", pens / "night.mp4"]
    truths = [pens / "day.json", pens / "night.json"]
    code = run(
        "--bundle", DEMO, "--video", *videos, "--truth", *truths, "--tracker", "all", "--out", out
    )  # fmt: skip
    assert code == 0
    pictures = {"paths-day.jpg", "paths-night.jpg"}
    assert {path.name for path in out.iterdir()} == {"metrics.json", "report.html", *pictures}
    metrics = json.loads((out / "metrics.json").read_text())
    assert set(metrics) >= KEYS
    assert tuple(metrics["trackers"]) == TRACKERS
    assert metrics["tracker"] == "earmark"
    assert metrics["bundle"] == read_manifest(DEMO).id
    assert (metrics["frames"], metrics["animals"]) == (2 * FRAMES, 16)
    assert metrics["minutes"] == pytest.approx(2 * FRAMES / 12 / 60)
    assert (metrics["clips"], metrics["warnings"]) == (["day", "night"], [])
    for own in metrics["trackers"].values():
        assert set(own) >= KEYS
        assert own["per_clip"].keys() == {"day", "night"}
        # All trackers see what the same detector finds.
        assert own["recall"] > 0.6
    ours = metrics["trackers"]["earmark"]
    assert {name: metrics[name] for name in KEYS} == {name: ours[name] for name in KEYS}
    assert ours["id_switches"] == sum(clip["id_switches"] for clip in ours["per_clip"].values())
    # Names that change from crop to crop are more often wrong ones.
    nearest = metrics["trackers"]["nearest-box"]
    assert nearest["wrong_names_per_min"] > ours["wrong_names_per_min"]
    for name in pictures:
        sheet = cv2.imread(str(out / name))
        assert sheet.shape[1] == len(TRACKERS) * 400
        assert sheet.shape[0] == 16 * (225 + 30)
    report = (out / "report.html").read_text()
    assert report.count("<img") == 2
    assert all(tracker in report for tracker in TRACKERS)
    printed = capsys.readouterr().out
    assert "kalman-appearance" in printed
    assert f"paths {out / 'paths-night.jpg'}" in printed
    # An older evaluation is replaced, by ours alone when nothing else is asked for.
    assert run("--bundle", DEMO, *pair(pens), "--out", out) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert tuple(metrics["trackers"]) == ("earmark",)
    assert not (out / "paths-night.jpg").exists()
    # The clip is a clip of its own: the figures are those it had beside the other.
    day = ours["per_clip"]["day"]
    assert {name: metrics[name] for name in KEYS} == {name: day[name] for name in KEYS}


@pytest.mark.slow
def test_what_simulate_writes_can_be_asked(tmp_path: Path) -> None:
    herd = tmp_path / "herd"
    sessions = (SessionPlan("cam1-day-0", 1, "day", 71_003, 6),)
    simulate(herd, HerdOptions(animals=4, seed=11, sessions=sessions))
    video, truth = herd / "videos" / "cam1-day-0.mp4", herd / "mot" / "cam1-day-0" / "gt" / "gt.txt"
    out = tmp_path / "out"
    assert run("--bundle", DEMO, "--video", video, "--truth", truth, "--out", out) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert (metrics["frames"], metrics["animals"], metrics["boxes"]) == (6, 4, 24)
    assert metrics["minutes"] == pytest.approx(6 / 12 / 60)


@pytest.mark.slow
def test_animals_that_the_bundle_cannot_name_are_warned_of(
    pens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = json.loads((pens / "day.json").read_text())
    truth["animals"][0] = "stranger"
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth))
    out = tmp_path / "out"
    video = pens / "day.mp4"
    assert run("--bundle", DEMO, "--video", video, "--truth", path, "--out", out) == 0
    assert "1 of 16 animals of the truth are not in the class means (stranger)" in (
        capsys.readouterr().err
    )
    assert "cannot be named" in (out / "report.html").read_text()


def test_wrong_commands_are_told_in_one_line(pens: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    lost = tmp_path / "lost"
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all")
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("mine")
    blank = json.loads((pens / "day.json").read_text()) | {"boxes": []}
    empty = tmp_path / "empty.json"
    empty.write_text(json.dumps(blank))
    day, truth = pens / "day.mp4", pens / "day.json"
    good = ("--bundle", DEMO, *pair(pens))
    cases: list[tuple[tuple[object, ...], type[EarmarkError], str]] = [
        ((*good, "--tracker", "sort", "--out", out), UsageError, "--tracker sort: must be one of"),
        ((*good, "--out", full), UsageError, "not the result of an evaluation"),
        ((*good, "--video", day, "--out", out), UsageError, "2 videos and 1 truths"),
        ((*good, "--names", lost, "--out", out), UsageError, "--names goes with gt.txt"),
        (("--bundle", lost, *pair(pens), "--out", out), BundleError, "no such bundle folder"),
        (
            ("--bundle", DEMO, "--video", lost, "--truth", truth, "--out", out),
            UsageError,
            "lost",
        ),
        (
            ("--bundle", DEMO, "--video", broken, "--truth", truth, "--out", out),
            SourceError,
            "not a video",
        ),
        (
            ("--bundle", DEMO, "--video", day, "--truth", lost.with_suffix(".json"), "--out", out),
            UsageError,
            "no such file",
        ),
        (
            ("--bundle", DEMO, "--video", day, "--truth", empty, "--out", out),
            DataError,
            "no animal is to be seen in it",
        ),
    ]
    for arguments, kind, told in cases:
        with pytest.raises(kind) as caught:
            run(*arguments)
        assert told in str(caught.value), arguments
        assert "\n" not in str(caught.value)
    assert not out.exists()


@pytest.mark.slow
def test_a_truth_of_another_video_is_refused(pens: Path, tmp_path: Path) -> None:
    truth = json.loads((pens / "day.json").read_text())
    path, out = tmp_path / "truth.json", tmp_path / "out"
    truth["boxes"].append([FRAMES, 0, 1, 1, 50, 50, 100])
    path.write_text(json.dumps(truth))
    arguments = ("--bundle", DEMO, "--video", pens / "day.mp4", "--truth", path, "--out", out)
    with pytest.raises(DataError, match=f"has {FRAMES} frames, its truth goes to frame"):
        run(*arguments)
    path.write_text(json.dumps(truth | {"width": 640}))
    with pytest.raises(DataError, match="is 1280x720 pixels, its truth is of 640x720"):
        run(*arguments)
    assert not out.exists()


def test_a_bundle_without_a_detector_is_refused(
    pens: Path, tmp_path: Path, without_detector: Path
) -> None:
    with pytest.raises(UsageError, match="has no detector"):
        run("--bundle", without_detector, *pair(pens), "--out", tmp_path / "out")


@pytest.fixture
def without_detector(tmp_path: Path) -> Path:
    """The demo bundle as it would be, had its recipe no detector."""
    folder = tmp_path / "names-only"
    shutil.copytree(DEMO, folder)
    (folder / "detector.tflite").unlink()
    manifest = read_manifest(folder)
    files = {name: entry for name, entry in manifest.files.items() if "detector" not in name}
    (folder / MANIFEST_NAME).write_bytes(
        encode_manifest(replace(manifest, detector=None, files=files, id=content_id(files)))
    )
    return folder


@pytest.mark.slow
def test_no_tensorflow_is_loaded(pens: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom trainer.cli import main\nmain(sys.argv[1:])\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    arguments = ["evaluate", "tracking", "--bundle", DEMO, *pair(pens), "--out", tmp_path / "out"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert np.isfinite(json.loads((tmp_path / "out" / "metrics.json").read_text())["idf1"])

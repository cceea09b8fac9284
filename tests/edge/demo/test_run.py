"""The demo from end to end, as `make demo` runs it, and with the embedded broker."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import pytest

from edge.capture.images import read_image
from edge.capture.source import SourceOptions
from edge.capture.video import VideoFile
from edge.demo.run import find_assets, run_demo
from edge.errors import EarmarkError, UsageError
from edge.messaging import local_broker
from edge.video import write_video

MODELS_DEMO = Path(__file__).parents[3] / "models" / "demo"
FIGURES = {"animals_total", "animals_named", "sightings", "name_accuracy", "fps", "wall_s"}


def read_summary(out: Path) -> dict[str, Any]:
    summary = json.loads((out / "summary.json").read_bytes())
    assert isinstance(summary, dict)
    return summary


def frames_of(path: Path) -> int:
    clip = VideoFile(path, "clip", SourceOptions())
    return sum(1 for _ in clip.frames())


@pytest.fixture
def short_demo(tmp_path: Path) -> Path:
    """The demo's folder with only the first four seconds of the clip."""
    assets = tmp_path / "assets"
    assets.mkdir()
    shutil.copy(MODELS_DEMO / "truth.json", assets)
    shutil.copytree(MODELS_DEMO / "bundle", assets / "bundle")
    clip = VideoFile(MODELS_DEMO / "pen.mp4", "pen", SourceOptions())
    pictures = (frame.image for frame in islice(clip.frames(), 48))
    write_video(assets / "pen.mp4", pictures, clip.clip_fps, crf=18)
    return assets


@pytest.mark.slow
def test_the_demo_names_the_herd(tmp_path: Path) -> None:
    if local_broker.find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    out = tmp_path / "out"
    run = subprocess.run(
        [sys.executable, "-c", "from edge.cli import entry; entry()", "demo", "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "Traceback" not in run.stderr
    summary = read_summary(out)
    assert summary.keys() >= FIGURES
    assert summary["animals_total"] == 16
    assert summary["animals_named"] >= 14
    assert summary["name_accuracy"] >= 0.9
    assert summary["fps"] > 0
    assert summary["wall_s"] >= summary["clip_s"] == 30
    assert summary["mqtt"] == "5"
    assert summary["broker"].startswith("mosquitto")
    assert frames_of(out / "annotated.mp4") == summary["frames"] == 360
    assert read_image(out / "still.jpg").shape == (720, 1280, 3)
    assert f"animals named: {summary['animals_named']} of 16" in run.stdout


@pytest.mark.slow
def test_without_mosquitto_the_embedded_broker_serves_mqtt_3_1_1(
    short_demo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(local_broker, "find_mosquitto", lambda: None)
    out = tmp_path / "out"
    assert run_demo(short_demo, out) == 0
    summary = read_summary(out)
    assert summary["broker"].startswith("amqtt")
    assert summary["mqtt"] == "3.1.1"
    assert summary["frames"] == 48
    assert summary["sightings"] > 0
    assert frames_of(out / "annotated.mp4") == 48
    assert "does not speak MQTT 5" in capsys.readouterr().out


@pytest.mark.slow
def test_annotations_are_drawn(short_demo: Path, tmp_path: Path) -> None:
    run_demo(short_demo, tmp_path / "out")
    frames = VideoFile(tmp_path / "out" / "annotated.mp4", "a", SourceOptions()).frames()
    clean = VideoFile(short_demo / "pen.mp4", "b", SourceOptions()).frames()
    last = list(zip(frames, clean, strict=True))[-1]
    changed = cv2.absdiff(last[0].image, last[1].image).max(axis=2) > 60
    assert changed.mean() > 0.001


@pytest.mark.parametrize("missing", ["truth.json", "pen.mp4"])
def test_what_is_missing_is_named(tmp_path: Path, missing: str) -> None:
    assets = tmp_path / "assets"
    assets.mkdir()
    truth = {"schema": 1, "video": "pen.mp4", "camera": "pen", "fps": 12.0}
    truth |= {"width": 64, "height": 48, "animals": ["pig01"], "boxes": []}
    if missing != "truth.json":
        (assets / "truth.json").write_text(json.dumps(truth))
    with pytest.raises(UsageError, match=missing):
        run_demo(assets, tmp_path / "out")
    assert not (tmp_path / "out" / "summary.json").exists()


@pytest.mark.slow
def test_a_bundle_that_is_missing_ends_the_demo_with_its_name(
    short_demo: Path, tmp_path: Path
) -> None:
    shutil.rmtree(short_demo / "bundle")
    with pytest.raises(EarmarkError, match="no such bundle folder"):
        run_demo(short_demo, tmp_path / "out")
    assert not (tmp_path / "out" / "summary.json").exists()
    assert not list((tmp_path / "out").glob("*.mp4"))


def test_the_assets_are_those_of_the_checkout() -> None:
    assert find_assets() == MODELS_DEMO.resolve()

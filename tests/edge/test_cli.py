"""`earmark-edge` as a process: what it prints, and that every failure is one line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge import __version__
from edge.capture.images import read_image
from edge.capture.source import SourceOptions
from edge.capture.video import VideoFile
from edge.config import reference_config
from edge.identity.matching import Matcher
from edge.identity.means import load_means
from edge.messaging.local_broker import Mosquitto, free_port
from edge.video import write_video

MODELS_DEMO = Path(__file__).parents[2] / "models" / "demo"
BUNDLE = MODELS_DEMO / "bundle"
CLIP = MODELS_DEMO / "pen.mp4"

pytestmark = pytest.mark.slow


def earmark(
    arguments: Sequence[object], timeout_s: float = 120
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from edge.cli import entry; entry()", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def check_one_line(run: subprocess.CompletedProcess[str], code: int, *words: object) -> None:
    """The run failed with `code`, and said why in a single line that has all `words`."""
    assert run.returncode == code, run.stderr
    assert "Traceback" not in run.stderr + run.stdout
    # The TFLite runtime notes on its own which processor kernels it uses.
    lines = [line for line in run.stderr.splitlines() if not line.startswith("INFO: ")]
    assert len(lines) == 1, run.stderr
    assert lines[0].startswith("earmark-edge: error: ")
    for word in words:
        assert str(word) in lines[0]


def run_arguments(tmp_path: Path, **given: object) -> list[object]:
    options: dict[str, object] = {
        "bundle": BUNDLE,
        "source": CLIP,
        "broker": f"mqtt://127.0.0.1:{free_port()}",
        "state": tmp_path / "state",
        "device": "barn-1",
        **given,
    }
    return ["run", *(part for key, value in options.items() for part in (f"--{key}", value))]


# -- run -------------------------------------------------------------------------------------------


def test_a_missing_video(tmp_path: Path) -> None:
    video = tmp_path / "no.mp4"
    check_one_line(earmark(run_arguments(tmp_path, source=video)), 2, video)


@pytest.mark.parametrize("data", [b"", b"this is no video" * 100], ids=["empty", "text"])
def test_a_broken_video(tmp_path: Path, data: bytes) -> None:
    video = tmp_path / "broken.mp4"
    video.write_bytes(data)
    check_one_line(earmark(run_arguments(tmp_path, source=video)), 1, video)


def test_a_folder_without_images(tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    check_one_line(earmark(run_arguments(tmp_path, source=folder)), 2, folder)


def test_a_missing_bundle(tmp_path: Path) -> None:
    bundle = tmp_path / "no-bundle"
    check_one_line(earmark(run_arguments(tmp_path, bundle=bundle)), 1, bundle)


def test_an_altered_bundle(tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(BUNDLE, tmp_path / "bundle"))
    model = bundle / "embedder.tflite"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    check_one_line(earmark(run_arguments(tmp_path, bundle=bundle)), 1, "embedder.tflite")


def test_a_broker_where_nobody_listens(tmp_path: Path) -> None:
    place = f"127.0.0.1:{free_port()}"
    check_one_line(earmark(run_arguments(tmp_path, broker=f"mqtt://{place}")), 1, place)


def test_a_broker_that_is_none(tmp_path: Path) -> None:
    check_one_line(earmark(run_arguments(tmp_path, broker="amqp://rabbit")), 2, "amqp://rabbit")


def test_nothing_to_run() -> None:
    check_one_line(earmark(["run"]), 2, "--config", "--bundle", "--source", "--broker")


def test_an_unknown_config_key(tmp_path: Path) -> None:
    config = tmp_path / "agent.yaml"
    config.write_text(f"bundle: {BUNDLE}\ncamera: pen\ncameras: [{{name: pen, source: {CLIP}}}]\n")
    check_one_line(earmark(["run", "--config", config]), 2, config, "`camera`")


def test_a_config_that_is_no_yaml(tmp_path: Path) -> None:
    config = tmp_path / "agent.yaml"
    config.write_text("bundle: [\ncameras: }\n")
    check_one_line(earmark(["run", "--config", config]), 2, config, "YAML")


def test_a_camera_option_without_its_source(tmp_path: Path) -> None:
    config = tmp_path / "agent.yaml"
    config.write_text(f"bundle: {BUNDLE}\ncameras: [{{name: pen, source: {CLIP}}}]\n")
    run = earmark(["run", "--config", config, "--realtime"])
    check_one_line(run, 2, "--realtime", "--source")


def test_a_run_with_an_annotated_video(tmp_path: Path, mosquitto: Mosquitto) -> None:
    clip = VideoFile(CLIP, "pen", SourceOptions())
    short = tmp_path / "short.mp4"
    write_video(short, (frame.image for frame in islice(clip.frames(), 24)), clip.clip_fps)
    video = tmp_path / "out" / "seen.mp4"
    run = earmark(run_arguments(tmp_path, source=short, broker=mosquitto.url, annotate=video))
    assert run.returncode == 0, run.stderr
    assert "24 frames" in run.stdout
    assert str(video) in run.stdout
    annotated = VideoFile(video, "seen", SourceOptions())
    assert sum(1 for _ in annotated.frames()) == 24
    assert annotated.clip_fps == pytest.approx(12, abs=0.1)


# -- identify --------------------------------------------------------------------------------------


@pytest.fixture
def crops(tmp_path: Path) -> dict[Path, str | None]:
    """The bundle's own golden crops as files, with the animal that their embeddings mean."""
    with np.load(BUNDLE / "selftest.npz") as archive:
        pictures, embeddings = archive["crops"], archive["embeddings"]
    matches = Matcher(load_means(BUNDLE / "means.npz")).match(embeddings)
    answers: dict[Path, str | None] = {}
    for index, (picture, match) in enumerate(zip(pictures, matches, strict=True)):
        path = tmp_path / f"crop{index}.png"
        assert cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        np.testing.assert_array_equal(read_image(path), picture)
        answers[path] = match.animal
    assert any(answers.values())
    return answers


def test_identify_prints_names(crops: dict[Path, str | None]) -> None:
    path, animal = next(item for item in crops.items() if item[1] is not None)
    run = earmark(["identify", path, "--bundle", BUNDLE])
    assert run.returncode == 0, run.stderr
    assert str(animal) in run.stdout


def test_identify_prints_json(crops: dict[Path, str | None], tmp_path: Path) -> None:
    # A folder stands for the images in it.
    run = earmark(["identify", tmp_path, "--bundle", BUNDLE, "--json"])
    assert run.returncode == 0, run.stderr
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    assert {Path(row["image"]): row["animal"] for row in rows} == crops
    for row in rows:
        assert set(row) == {"image", "animal", "distance", "margin", "reason"}
        assert (row["animal"] is None) == (row["reason"] is not None)
        assert 0 <= row["distance"] <= 2


def test_identify_an_image_that_is_none(crops: dict[Path, str | None], tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    good = next(iter(crops))
    run = earmark(["identify", broken, good, "--bundle", BUNDLE, "--json"])
    check_one_line(run, 1, broken)
    # The others are answered all the same.
    assert [json.loads(line)["image"] for line in run.stdout.splitlines()] == [str(good)]


def test_identify_an_image_that_is_missing(tmp_path: Path) -> None:
    check_one_line(earmark(["identify", tmp_path / "a.jpg", "--bundle", BUNDLE]), 2, "a.jpg")


def test_identify_a_folder_without_images(tmp_path: Path) -> None:
    check_one_line(earmark(["identify", tmp_path, "--bundle", BUNDLE]), 2, tmp_path)


def test_identify_without_a_bundle(crops: dict[Path, str | None], tmp_path: Path) -> None:
    path = next(iter(crops))
    check_one_line(earmark(["identify", path, "--bundle", tmp_path]), 1, tmp_path)


# -- the rest --------------------------------------------------------------------------------------


def test_verbose_shows_the_traceback(tmp_path: Path) -> None:
    run = earmark([*run_arguments(tmp_path, source=tmp_path / "no.mp4"), "--verbose"])
    assert run.returncode == 2
    assert "Traceback" in run.stderr
    assert run.stderr.splitlines()[-1].startswith("earmark-edge: error: ")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(["--version"], f"earmark-edge {__version__}\n"), (["config"], reference_config())],
    ids=["version", "config"],
)
def test_what_is_printed(arguments: Sequence[str], expected: str) -> None:
    run = earmark(arguments)
    assert (run.returncode, run.stdout, run.stderr) == (0, expected, "")


def test_the_demo_without_its_assets(tmp_path: Path) -> None:
    run = earmark(["demo", "--assets", tmp_path, "--out", tmp_path / "out"])
    check_one_line(run, 2, tmp_path / "truth.json")


def test_the_demo_with_a_login_but_no_broker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EARMARK_BROKER", raising=False)
    run = earmark(["demo", "--username", "anna", "--out", tmp_path])
    check_one_line(run, 2, "--broker")


def test_names_in_a_config_are_relative_to_it(tmp_path: Path) -> None:
    config = tmp_path / "agent.yaml"
    config.write_text("bundle: here\ncameras: [{name: pen, source: gone.mp4}]\n")
    check_one_line(earmark(["run", "--config", config]), 2, tmp_path / "gone.mp4")


def test_products_take_one_thread_unless_the_user_wants_more() -> None:
    script = (
        "import edge.cli, numpy as np\n"
        "np.ones((500, 500), np.float32) @ np.ones((500, 500), np.float32)\n"
        "print(next(line for line in open('/proc/self/status') if line.startswith('Threads')))\n"
    )
    clean = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}
    threads = [
        int(subprocess.check_output([sys.executable, "-c", script], env=clean | given).split()[1])
        for given in ({}, {"OPENBLAS_NUM_THREADS": "2"})
    ]
    assert threads[0] == 1
    # Else this test could not fail.
    assert threads[1] > 1 or os.cpu_count() == 1

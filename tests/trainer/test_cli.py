"""What a user can do wrong on the trainer's command line ends in one line and the right code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from trainer.cli import main

RECIPE = (
    "name: r\ndata: {crops: {}}\n"
    "embedder: {steps: 2, input_size: 32, alpha: 0.35, classes_per_batch: 2}\n"
)


def trainer(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from trainer.cli import entry; entry()", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line of complaint; TensorFlow's own start-up notes do not count."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("earmark-trainer:")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


def crops(root: Path, animals: dict[str, int]) -> Path:
    rng = np.random.default_rng(0)
    for animal, count in animals.items():
        (root / "train" / animal).mkdir(parents=True)
        for number in range(count):
            image = rng.integers(0, 255, (24, 24, 3)).astype(np.uint8)
            cv2.imwrite(str(root / "train" / animal / f"s{number % 2}_{number}.png"), image)
    return root


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE)
    return path


def test_missing_recipe(tmp_path: Path) -> None:
    done = trainer("run", tmp_path / "no.yaml", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "no.yaml: no such recipe" in complaint(done)


def test_no_arguments_is_a_usage_error() -> None:
    assert trainer().returncode == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("animals", "named"),
    [
        ({}, "train"),
        ({"cow1": 1, "cow2": 4}, "cow1"),
        ({"cow1": 4}, "at least 2 animals"),
    ],
)
def test_crops_that_cannot_be_trained_on(
    tmp_path: Path, recipe: Path, animals: dict[str, int], named: str
) -> None:
    (tmp_path / "data" / "train").mkdir(parents=True)
    crops(tmp_path / "data", animals)
    out = tmp_path / "out"
    done = trainer("run", recipe, "--data", tmp_path / "data", "--out", out)
    assert done.returncode == 2
    assert named in complaint(done)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "r.yaml"]


@pytest.mark.slow
def test_an_unreadable_image_is_named_and_nothing_is_left(tmp_path: Path, recipe: Path) -> None:
    data = crops(tmp_path / "data", {"cow1": 4, "cow2": 4})
    (data / "train" / "cow2" / "s0_0.png").write_bytes(b"not an image")
    done = trainer("run", recipe, "--data", data, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "cow2/s0_0.png" in complaint(done)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "r.yaml"]


@pytest.mark.slow
def test_out_that_is_something_else_is_left_alone(tmp_path: Path, recipe: Path) -> None:
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter1.txt").write_text("years of work")
    done = trainer("run", recipe, "--data", tmp_path, "--out", out)
    assert done.returncode == 2
    assert "thesis" in complaint(done)
    assert (out / "chapter1.txt").read_text() == "years of work"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--animals", "0", "animals"),
        ("--frames", "0", "frames"),
        ("--sprites", "nowhere", "nowhere"),
    ],
)
def test_simulate_refuses_what_cannot_be_drawn(
    tmp_path: Path, option: str, value: str, named: str
) -> None:
    done = trainer("simulate", "--out", tmp_path / "herd", option, value)
    assert done.returncode == 2
    assert named in complaint(done)
    assert not list(tmp_path.iterdir())


def test_a_seed_below_zero_is_refused_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--bundle", "b", "--query", "q", "--out", "o", "--seed", "-1"]
    with pytest.raises(SystemExit):
        main(["evaluate", "identification", *arguments])
    assert "'-1': a whole number of 0 or more" in capsys.readouterr().err

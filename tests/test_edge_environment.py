"""What a barn device installs: the extra `edge` alone runs, and brings no TensorFlow."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge import __version__
from edge.release.bundle import load_bundle

ROOT = Path(__file__).parents[1]
MODELS_DEMO = ROOT / "models" / "demo"
SOURCES = ("edge", "trainer", "deploy")
FILES = ("pyproject.toml", "constraints.txt", "README.md", "LICENSE")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_edge_extra_is_enough_for_the_edge(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in SOURCES:
        shutil.copytree(
            ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
        )
    for name in FILES:
        shutil.copy(ROOT / name, source / name)
    venv = tmp_path / "venv"
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    }

    def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(part) for part in command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def succeed(*command: str | Path) -> str:
        done = run(*command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    python = venv / "bin" / "python"
    succeed(sys.executable, "-m", "venv", venv)
    succeed(
        *(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *("-c", source / "constraints.txt", f"{source}[edge]"),
    )

    without = run(python, "-c", "import tensorflow")
    assert without.returncode != 0
    assert "No module named 'tensorflow'" in without.stderr

    place = succeed(python, "-c", "import edge.agent, edge.cli; print(edge.agent.__file__)")
    assert Path(place.strip()).is_relative_to(venv)
    command = venv / "bin" / "earmark-edge"
    assert succeed(command, "--version") == f"earmark-edge {__version__}\n"

    # The models answer there: the golden self-test passes on the way.
    with np.load(MODELS_DEMO / "bundle" / "selftest.npz") as archive:
        crop = archive["crops"][0]
    assert cv2.imwrite(str(tmp_path / "crop.png"), cv2.cvtColor(crop, cv2.COLOR_RGB2BGR))
    answer = succeed(command, "identify", "crop.png", "--bundle", MODELS_DEMO / "bundle", "--json")
    assert json.loads(answer)["image"] == "crop.png"

    # So does enrolling a newcomer: 30 crops, no TensorFlow, no matplotlib.
    assert run(python, "-c", "import matplotlib").returncode != 0
    bundle = shutil.copytree(MODELS_DEMO / "bundle", tmp_path / "bundle")
    (tmp_path / "calf-1").mkdir()
    for number in range(30):
        lighter = np.clip(crop.astype(int) + number, 0, 255).astype(np.uint8)
        name = tmp_path / "calf-1" / f"t{number // 10}_{number:03}.png"
        assert cv2.imwrite(str(name), cv2.cvtColor(lighter, cv2.COLOR_RGB2BGR))
    started = time.monotonic()
    enrolled = succeed(
        *(venv / "bin" / "earmark-trainer", "means", "add", "--bundle", bundle, "--json"),
        *("--animal", "calf-1", "--crops", tmp_path / "calf-1"),
    )
    seconds = time.monotonic() - started
    print(f"means add of 30 crops: {seconds:.2f} s, the whole process")
    assert json.loads(enrolled)["animals"][0]["crops"] == 30
    assert load_bundle(bundle).means.animals[-1] == "calf-1"
    assert seconds < 60

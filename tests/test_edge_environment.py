"""What a barn device installs: the extra `edge` alone runs, and brings no TensorFlow."""

from __future__ import annotations

import json
import os
import platform
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


class Environment:
    """A virtual environment with one extra of the project, installed from a copy of its files."""

    def __init__(self, folder: Path, extra: str, *pip_options: str | Path) -> None:
        source = folder / "source"
        for name in SOURCES:
            shutil.copytree(
                ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
            )
        for name in FILES:
            shutil.copy(ROOT / name, source / name)
        self._folder = folder
        self._environ = {
            name: value
            for name, value in os.environ.items()
            if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
        }
        self.commands = folder / "venv" / "bin"
        self.python = self.commands / "python"
        self.succeed(sys.executable, "-m", "venv", folder / "venv")
        self.succeed(
            *(self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *(*pip_options, f"{source}[{extra}]"),
        )

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command there."""
        return subprocess.run(
            [str(part) for part in command],
            cwd=self._folder,
            env=self._environ,
            capture_output=True,
            text=True,
            check=False,
        )

    def succeed(self, *command: str | Path) -> str:
        """Run a command that must succeed; return what it prints."""
        done = self.run(*command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def golden_crop(folder: Path) -> np.ndarray:
    """Write one of the demo's golden crops to `crop.png` and return it."""
    with np.load(MODELS_DEMO / "bundle" / "selftest.npz") as archive:
        crop = archive["crops"][0]
    assert cv2.imwrite(str(folder / "crop.png"), cv2.cvtColor(crop, cv2.COLOR_RGB2BGR))
    return np.asarray(crop)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(
    sys.version_info >= (3, 12) or platform.machine() not in ("x86_64", "aarch64"),
    reason="tflite-runtime 2.14 has no wheel for this Python and machine",
)
def test_the_older_runtime_answers_the_same_in_an_environment_of_its_own(tmp_path: Path) -> None:
    # The lock is for numpy 2, which this runtime does not know.
    there = Environment(tmp_path, "tflite-runtime")
    runtime = "from edge.vision.runtime import runtime_name; print(runtime_name())"
    assert there.succeed(there.python, "-c", runtime) == "tflite-runtime 2.14.0\n"
    golden_crop(tmp_path)
    ask = ("identify", "crop.png", "--bundle", MODELS_DEMO / "bundle", "--json")
    theirs = json.loads(there.succeed(there.commands / "earmark-edge", *ask))
    ours = json.loads(
        subprocess.run(
            [sys.executable, "-c", "from edge.cli import entry; entry()", *map(str, ask)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    assert theirs["animal"] == ours["animal"]
    assert abs(theirs["distance"] - ours["distance"]) < 0.03
    # The agent's way: a child process, supervised, with the self-test through it.
    serve = (
        "import sys; from pathlib import Path; from edge.serving import serve_bundle; "
        "serving = serve_bundle(Path(sys.argv[1])); print(serving.inference.backend); "
        "serving.inference.close()"
    )
    served = there.succeed(there.python, "-c", serve, MODELS_DEMO / "bundle")
    assert served == "cpu (tflite-runtime 2.14.0)\n"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_edge_extra_is_enough_for_the_edge(tmp_path: Path) -> None:
    there = Environment(tmp_path, "edge", "-c", ROOT / "constraints.txt")
    run, succeed, python = there.run, there.succeed, there.python
    venv = there.commands.parent

    without = run(python, "-c", "import tensorflow")
    assert without.returncode != 0
    assert "No module named 'tensorflow'" in without.stderr

    place = succeed(python, "-c", "import edge.agent, edge.cli; print(edge.agent.__file__)")
    assert Path(place.strip()).is_relative_to(venv)
    command = venv / "bin" / "earmark-edge"
    assert succeed(command, "--version") == f"earmark-edge {__version__}\n"

    # The models answer there: the golden self-test passes on the way.
    crop = golden_crop(tmp_path)
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

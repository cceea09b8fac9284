"""The agent on 64-bit ARM, emulated: it answers as here, and refuses a runtime that does not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("emulate.py")
PROJECT = SCRIPT.parents[2]
PROGRAMS = {"qemu-aarch64-static": "qemu-user-static", "debootstrap": "debootstrap"}

# A root and some wheels are fetched once: a minute or two.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def emulate(*options: str) -> tuple[int, dict[str, Any]]:
    """Return the script's exit code and what it printed."""
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    missing = [package for name, package in PROGRAMS.items() if not shutil.which(name, path=path)]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if os.geteuid() != 0 and not (PROJECT / "out" / "arm64" / "root-bookworm").is_dir():
        pytest.skip("debootstrap works for root only; run tests/arm64/emulate.py once with sudo")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--json", *options],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_the_agent_answers_as_on_this_machine() -> None:
    code, answer = emulate("--cpu", "cortex-a72", "max")
    print(json.dumps(answer, indent=1))
    assert [row["line"] for row in answer["verdicts"]] == [None, None]
    assert [row["machine"] for row in answer["verdicts"]] == ["aarch64", "aarch64"]
    assert all(row["named"] >= 10 for row in answer["verdicts"])
    assert code == 0


def test_a_runtime_whose_int8_answers_are_wrong_is_refused() -> None:
    code, answer = emulate("--runtime", "2.1.6", "--cpu", "max")
    if " 7.2." not in answer["emulator"]:
        pytest.skip(
            f"{answer['emulator']}: only 7.2 is known to compute SME's int8 products wrongly"
        )
    (row,) = answer["verdicts"]
    assert (code, row["exit_code"]) == (1, 1)
    assert row["line"].startswith("earmark-edge: error: ")
    assert "selftest.npz: this device's embeddings are at cosine" in row["line"]
    assert row["line"].endswith("its TFLite runtime answers wrongly here")


def test_without_an_emulator_one_line_says_what_to_install() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--emulator", "no-such-qemu"],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "emulate: error: no-such-qemu is not here; on Debian: apt-get install qemu-user-static\n"
    )

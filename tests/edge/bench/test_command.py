from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from edge.bench import Measurement
from edge.bench.budgets import Budget
from edge.bench.measure import STAGES
from edge.cli import main
from edge.commands import bench
from edge.errors import UsageError

KEYS = {
    *("fps", "frame_ms_p50", "frame_ms_p95", "invoke_ms_p50", "overhead_ratio", "memory"),
    *("start_s", "stages_ms", "by_animals"),
}

MEMORY = {
    "alone_mb": 187.4, "pss_mb": 170.0, "rss_mb": 251.0, "agent_rss_mb": 119.0,
    "inference_rss_mb": 60.5, "ffmpeg_rss_mb": 72.1, "size": (1280, 720),
}  # fmt: skip


@pytest.mark.slow
def test_a_bundle_is_measured_as_the_agent_serves_it(tmp_path: Path) -> None:
    command = "from edge.cli import entry; entry()"
    arguments = ["bench", "--frames", "2", "--animals", "1,3", "--size", "640x360", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", command, *arguments, "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    printed = json.loads(done.stdout)
    assert printed == json.loads((tmp_path / "bench.json").read_text())
    assert set(printed) >= KEYS
    assert [row["animals"] for row in printed["by_animals"]["usual"]] == [1, 3, 16]
    every = printed["by_animals"]["every animal, every frame"]
    assert [row["crops_a_frame"] for row in every] == [1, 3, 16]
    assert printed["frame_ms_p50"] > printed["stages_ms"]["detector invoke"] > 0
    assert printed["first_name_s"] >= printed["start_s"] > 0
    memory = printed["memory"]
    assert memory["size"] == [1280, 720]
    parts = [memory[f"{part}_rss_mb"] for part in ("agent", "inference", "ffmpeg")]
    assert all(part > 20 for part in parts)
    assert max(parts) < memory["alone_mb"] < memory["rss_mb"]
    assert sum(parts) == pytest.approx(memory["rss_mb"], rel=0.1)
    assert (tmp_path / "cost.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--animals", "0"], "numbers from 1 to 1000"),
        (["--animals", "1,1001"], "numbers from 1 to 1000"),
        (["--threads", "65"], "numbers from 1 to 64"),
        (["--size", "100000x1"], "sides from 64 to 8192 pixels"),
        (["--size", "63x720"], "sides from 64 to 8192 pixels"),
        (["--animals", "many"], "whole numbers, such as 1,2"),
        (["--size", "1080p"], "width and height, such as 1920x1080"),
        (["--size", "0x1080"], "width and height"),
        (["--threads", ""], "whole numbers"),
    ],
)
def test_what_cannot_be_measured(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["bench", *arguments])
    assert words in capsys.readouterr().err


def test_no_frames_no_figures() -> None:
    with pytest.raises(UsageError, match="--frames 0"):
        main(["bench", "--frames", "0"])


def test_every_figure_is_whole_on_a_terminal_of_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    row = Measurement(50, (113.25,), (31.5,), dict.fromkeys(STAGES, 26.75), 50.0)
    report = {
        "backend": "cpu (ai-edge-litert 2.3.0)", "fps": 52.8, "animals": 16, "memory": MEMORY,
        "start_s": None, "first_name_s": 0.7, "crops_go": {"8": "side by side"},
    }  # fmt: skip
    bench._show({2: {"usual": [row]}}, report)
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert "113.25" in printed
    assert printed.count("26.75") == len(STAGES)
    words = " ".join(printed.split())
    assert "first frame after no measurement" in words
    assert "one network camera of 1280x720: 187 MB; resident 119 agent" in words


def test_a_start_that_fails_says_why_and_is_no_number(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert bench._start(tmp_path / "none", "no.mp4", 1) == (None, None)
    assert str(tmp_path / "none") in caplog.text


def test_memory_that_cannot_be_measured_says_why_and_keeps_no_budget(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert bench._memory(tmp_path, "no.mp4", "cpu", 1) is None
    assert "need ffmpeg on PATH" in caplog.text
    assert bench._memory_line(None) == "memory: no measurement"


def test_a_budget_without_a_figure_is_valid_json() -> None:
    line = bench._line(Budget("start", math.nan, 3.0, "s"))
    assert json.loads(json.dumps(line, allow_nan=False))["figure"] is None
    assert line["kept"] is False

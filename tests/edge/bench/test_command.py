from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edge.cli import main
from edge.errors import UsageError

KEYS = {
    *("fps", "frame_ms_p50", "frame_ms_p95", "invoke_ms_p50", "overhead_ratio", "rss_mb"),
    *("start_s", "stages_ms", "by_animals"),
}


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
    assert printed["rss_mb"] > 20
    assert (tmp_path / "cost.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--animals", "0"], "numbers from 1 on"),
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

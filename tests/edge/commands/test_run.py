"""`earmark-edge run`: settings of file and command line, the annotated video, logged errors."""

from __future__ import annotations

import itertools
import json
import logging
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.cli import main
from edge.commands import run
from edge.commands.run import _AnnotatedVideo
from edge.errors import EarmarkError, UsageError
from edge.pipeline import FrameResult
from edge.vision.types import Detections, Frame


@pytest.fixture(autouse=True)
def _logs_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers, root.level = handlers, level


def config(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "agent.yaml"
    text = ["bundle: none", f"state_dir: {tmp_path}/state", *lines]
    if not any(line.startswith("cameras") for line in lines):
        text.append("cameras: [{name: pen, source: gone.mp4}]")
    path.write_text("\n".join(text) + "\n")
    return path


@pytest.mark.parametrize("option", [["--broker", "mqtt://x"], ["--username", "anna"]])
def test_an_empty_broker_section_is_none(
    tmp_path: Path, option: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(run, "_work", lambda config, *_: seen.append(config) or 0)
    assert main(["run", "--config", str(config(tmp_path, "broker:")), *option]) == 0
    (broker,) = (one.broker for one in seen)
    assert (broker.url, broker.username) in (
        ("mqtt://x", None),
        ("mqtt://127.0.0.1:1883", "anna"),
    )


@pytest.mark.parametrize("option", [[], ["--broker", "mqtt://x"], ["--username", "anna"]])
def test_a_broker_that_is_no_section_is_refused(tmp_path: Path, option: list[str]) -> None:
    path = config(tmp_path, "broker: mqtt://barn")
    with pytest.raises(UsageError, match="broker: expected `object`"):
        main(["run", "--config", str(path), *option])


def test_the_last_line_of_a_json_log_is_json_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(tmp_path, "log: {format: json}")
    assert main(["run", "--config", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    row = json.loads(line)
    assert row["level"] == "error"
    assert "gone.mp4: no such video" in row["message"]


def frame(index: int) -> tuple[Frame, FrameResult]:
    none = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32))
    picture = np.full((32, 32, 3), 90, np.uint8)
    return Frame(picture, "pen", index, index / 10), FrameResult(index, (), (), none)


@pytest.mark.parametrize("place", ["file/in/the/way.mp4", "folder.mp4"])
def test_a_place_that_no_video_can_have_is_told_before_the_run(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(UsageError, match=place):
        _AnnotatedVideo(tmp_path / place)


def test_a_video_that_fails_is_told_once_and_missed_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> int:
        raise EarmarkError("seen.mp4: disk full")

    monkeypatch.setattr("edge.video.write_video", full)
    video = _AnnotatedVideo(tmp_path / "seen.mp4")
    with pytest.raises(EarmarkError, match="disk full"):
        deque(itertools.starmap(video, map(frame, range(2000))), maxlen=0)
    with pytest.raises(EarmarkError, match="there is no annotated video; why was told before"):
        video.close()
    assert list(tmp_path.iterdir()) == []


def test_a_video_of_the_run(tmp_path: Path) -> None:
    video = _AnnotatedVideo(tmp_path / "seen" / "pen.mp4")
    for index in range(20):
        video(*frame(index))
    video.close()
    capture = cv2.VideoCapture(str(tmp_path / "seen" / "pen.mp4"))
    assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == 20
    capture.release()

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.config import CameraConfig
from edge.doctor.cameras import camera, ffmpeg
from edge.vision.types import Frame

DEMO = Path(__file__).resolve().parents[3] / "models" / "demo"
URL = "rtsp://farmer:secret@10.0.0.9/stream?token=abc"


class FakeSource:
    def __init__(self, count: int, listener: Callable[[str, str], None], why: str) -> None:
        self._count, self._closed = count, threading.Event()
        if why:
            listener("lost", why)

    def frames(self) -> Iterator[Frame]:
        for index in range(self._count):
            yield Frame(np.zeros((720, 1280, 3), np.uint8), "pen", index, index / 10, None)
        if not self._count:
            self._closed.wait()

    def close(self) -> None:
        self._closed.set()


def opener(count: int, why: str = "") -> Any:
    return lambda url, name, options, listener: FakeSource(count, listener, why)


def test_a_clip_is_a_camera_too() -> None:
    (verdict,) = camera(CameraConfig(name="clip", source=str(DEMO / "pen.mp4")), 10)
    assert verdict.level == "ok"
    assert verdict.text.startswith("1280×720, first frame after 0.")


def test_a_camera_that_sends_frames() -> None:
    (verdict,) = camera(CameraConfig(name="pen", source=URL), 5, opener(9))
    assert verdict.level == "ok"
    assert "frames/s" in verdict.text


@pytest.mark.parametrize("why", ["", "pen: rtsp://***@10.0.0.9: no route to host; trying again"])
def test_a_camera_that_is_away_is_told_without_its_password(why: str) -> None:
    (verdict,) = camera(CameraConfig(name="pen", source=URL), 0.2, opener(0, why))
    assert (verdict.level, verdict.topic) == ("fail", "camera pen")
    words = "no frame within 0.2 s" if not why else "rtsp://***@10.0.0.9: no route to host"
    assert verdict.text.endswith(words)
    assert not {"secret", "abc", "farmer"} & set(verdict.text.replace("@", " ").split())
    assert "secret" not in verdict.text + verdict.advice


def test_network_cameras_need_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    (verdict,) = ffmpeg([CameraConfig(name="pen", source=URL)])
    assert verdict.level == "fail"
    assert list(ffmpeg([CameraConfig(name="clip", source="clip.mp4")])) == []


@pytest.mark.parametrize(
    ("script", "source", "level", "words"),
    [
        ("echo ffmpeg version 4.3.6-0+deb11u1 x", URL, "ok", "4.3.6-0+deb11u1"),
        ("echo ffmpeg version 3.4.8-0ubuntu0.2", URL, "warn", "3.4.8-0ubuntu0.2: older than 4.2"),
        ("exit 127", URL, "fail", "does not run"),
        ("exit 127", "clip.mp4", "warn", "does not run"),
    ],
)
def test_the_version_of_ffmpeg_is_shown_and_judged(
    script: str,
    source: str,
    level: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (verdict,) = ffmpeg([CameraConfig(name="pen", source=source)])
    assert verdict.level == level
    assert words in verdict.text

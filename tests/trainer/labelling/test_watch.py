from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.capture.live import LiveSource
from edge.errors import SourceError, UsageError
from edge.video import write_video
from edge.vision.types import Image
from trainer.labelling import watch as module
from trainer.labelling.places import Place, find_places
from trainer.labelling.propose import ProposeOptions
from trainer.labelling.watch import Stop, Watched, check_seconds, stop_by_signal, watch
from trainer.progress import silent

OPTIONS = ProposeOptions(least_frames=3)


class OneAnimal:
    """Finds one in the middle of whatever it sees."""

    score_threshold = 0.5

    def detect(self, image: Image, score_threshold: float | None = None) -> Any:
        from edge.vision.types import Detections

        height, width = image.shape[:2]
        box = np.array([[width / 4, height / 4, 3 * width / 4, 3 * height / 4]], np.float32)
        return Detections(box, np.full(1, 0.9, np.float32), np.zeros(1, np.int32))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of twenty noisy images."""
    folder = tmp_path / "stills"
    folder.mkdir()
    for number in range(20):
        picture = np.random.default_rng(number).integers(0, 256, (64, 96, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number:02d}.png"), picture)
    return folder


def look(places: list[Place], folder: Path, **more: Any) -> Watched:
    options: dict[str, Any] = {"seconds": None, "fps": None, "stop": Stop(), "say": print}
    return watch(places, OneAnimal(), folder, OPTIONS, report=silent, **{**options, **more})


def test_sources_are_looked_through_one_after_another(images: Path, tmp_path: Path) -> None:
    video = tmp_path / "pen.mp4"
    write_video(video, [cv2.imread(str(path)) for path in sorted(images.iterdir())], 10)
    watched = look(find_places([str(video), str(images)]), tmp_path / "out")
    assert watched.frames == 40
    assert not watched.stopped
    assert [(t.session, t.frames) for t in watched.tracklets] == [("pen", 20), ("stills", 20)]


def test_seconds_are_of_the_sources_own_time(images: Path, tmp_path: Path) -> None:
    watched = look(find_places([str(images)]), tmp_path / "out", seconds=0.5, fps=10)
    assert watched.frames == 5


def test_a_broken_image_among_others_is_told_and_left_out(
    images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (images / "12.png").write_bytes(b"no image")
    watched = look(find_places([str(images)]), tmp_path / "out")
    assert [t.frames for t in watched.tracklets] == [19]
    assert [record.getMessage().count("12.png") for record in caplog.records] == [1]


def test_a_source_that_is_broken_from_the_start_is_an_error(images: Path, tmp_path: Path) -> None:
    for image in images.iterdir():
        image.write_bytes(b"no image")
    with pytest.raises(SourceError):
        look(find_places([str(images)]), tmp_path / "out")


class Grabber:
    """A camera that gives pictures for ever, or none at all."""

    def __init__(self, *, dead: bool) -> None:
        self._dead = dead
        self._rng = np.random.default_rng(0)

    def read(self) -> Image:
        if self._dead:
            raise SourceError("nobody there")
        return self._rng.integers(0, 256, (64, 96, 3)).astype(np.uint8)

    def kill(self) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Place]]:
    def make(*, dead: bool = False) -> list[Place]:
        def opened(url: str, name: str, options: object, listener: Any) -> LiveSource:
            return LiveSource(name, lambda: Grabber(dead=dead), listener)

        monkeypatch.setattr(module, "open_source", opened)
        return find_places(["pen=rtsp://nowhere/1"])

    return make


def test_ctrl_c_ends_a_camera_and_keeps_what_was_found(
    camera: Callable[..., list[Place]], tmp_path: Path
) -> None:
    stop, handler = Stop(), signal.getsignal(signal.SIGINT)
    frames = 0

    def report(done: int, total: int, note: str = "") -> None:
        nonlocal frames
        frames += 1
        if frames == 10:
            os.kill(os.getpid(), signal.SIGINT)

    with stop_by_signal(stop):
        watched = watch(
            camera(),
            OneAnimal(),
            tmp_path / "out",
            OPTIONS,
            seconds=None,
            fps=None,
            stop=stop,
            report=report,
            say=print,
        )
    assert watched.stopped
    assert watched.frames >= 10
    assert sum(t.frames for t in watched.tracklets) >= 3
    assert all(t.first_time is not None for t in watched.tracklets)
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_camera_that_is_away_is_not_waited_for_for_ever(
    camera: Callable[..., list[Place]], tmp_path: Path
) -> None:
    watched = look(camera(dead=True), tmp_path / "out", seconds=0.2)
    assert watched.frames == 0
    assert watched.tracklets == ()


def test_a_camera_without_an_end_must_be_alone(images: Path) -> None:
    places = find_places([str(images), "/dev/video0"])
    with pytest.raises(UsageError, match="a camera never ends"):
        check_seconds(places, None)
    check_seconds(places, 60)
    check_seconds(places[1:], None)

"""Real clips, whole and broken, in their own time and as fast as they go."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from edge.capture.source import SourceOptions
from edge.capture.video import VideoFile, _PassTime
from edge.errors import SourceError, UsageError
from edge.vision.types import Frame

MakeClip = Callable[..., Path]


def test_every_frame_comes_once_in_rgb_and_in_its_own_time(make_clip: MakeClip) -> None:
    source = VideoFile(make_clip(frames=8, fps=10), "pen", SourceOptions())
    frames = list(source.frames())
    assert [frame.index for frame in frames] == list(range(8))
    assert [frame.monotonic_s for frame in frames] == pytest.approx([i / 10 for i in range(8)])
    for index, frame in enumerate(frames):
        assert frame.camera == "pen"
        assert np.abs(frame.image.mean(axis=(0, 1)) - [200, 10 * index, 0]).max() < 8
    assert source.finite
    assert not source.live


@pytest.mark.parametrize(
    ("fps", "indices"), [(5, [0, 1, 3, 5, 7]), (10, list(range(8))), (99, list(range(8)))]
)
def test_a_lower_rate_skips_frames_evenly(
    make_clip: MakeClip, fps: float, indices: list[int]
) -> None:
    source = VideoFile(make_clip(frames=8, fps=10), "pen", SourceOptions(fps=fps))
    frames = list(source.frames())
    assert [frame.index for frame in frames] == indices
    assert [round(frame.monotonic_s * 10) for frame in frames] == indices
    assert source.fps == min(fps, 10)


def test_a_loop_begins_again_while_time_goes_on(make_clip: MakeClip) -> None:
    source = VideoFile(make_clip(frames=3, fps=10), "pen", SourceOptions(loop=True))
    frames = list(islice(source.frames(), 8))
    assert [frame.index for frame in frames] == list(range(8))
    assert frames[7].monotonic_s == pytest.approx(0.7)
    assert np.abs(frames[7].image.mean(axis=(0, 1)) - [200, 10, 0]).max() < 8
    assert not source.finite


@pytest.fixture
def uneven_clip(tmp_path: Path) -> Path:
    """Ten frames a second for a second, nothing for three, then five a second for a second."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    path = tmp_path / "uneven.mkv"
    taken = "select='lt(n,10)+gte(n,40)*lt(n,50)*not(mod(n,2))'"
    subprocess.run(
        [
            *("ffmpeg", "-v", "error", "-f", "lavfi"),
            *("-i", "testsrc=size=64x48:rate=10:duration=5"),
            *("-vf", taken, "-c:v", "mpeg4", str(path)),
        ],
        check=True,
    )
    return path


UNEVEN_S = [*(i / 10 for i in range(10)), 4.0, 4.2, 4.4, 4.6, 4.8]


def test_an_uneven_clip_keeps_its_own_time(uneven_clip: Path) -> None:
    source = VideoFile(uneven_clip, "pen", SourceOptions(loop=True))
    times = [frame.monotonic_s for frame in islice(source.frames(), 30)]
    assert times[:15] == pytest.approx(UNEVEN_S, abs=0.01)
    # The next round begins a usual step after the last frame.
    step_s = 1 / source.clip_fps
    assert times[15:] == pytest.approx([4.8 + step_s + at_s for at_s in UNEVEN_S], abs=0.02)


def test_an_uneven_clip_is_paced_in_its_own_time(
    uneven_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    clock = Clock(waits)
    source = VideoFile(uneven_clip, "pen", SourceOptions(realtime=True), clock)
    monkeypatch.setattr(source._closed, "wait", clock.wait)
    assert len(list(source.frames())) == 15
    assert waits == pytest.approx([0, *np.diff(UNEVEN_S)], abs=0.01)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([0, 0, 0, 0], [0, 0.1, 0.2, 0.3]),
        ([7, 7.5, 9], [0, 0.5, 2]),
        # Two fields of one picture; a recording that begins anew; no number at all.
        ([0, 0, 0.2, 0.2], [0, 0.1, 0.2, 0.3]),
        ([5, 6, 0, 0.1], [0, 1, 1.1, 1.2]),
        ([math.nan, 0.3, math.inf, 0.5], [0, 0.3, 0.4, 0.5]),
    ],
)
def test_time_rises_whatever_the_file_says(said: list[float], expected: list[float]) -> None:
    time_of = _PassTime(0.1)
    assert [time_of(moment) for moment in said] == pytest.approx(expected)


class Clock:
    """Time that passes only while somebody waits for it."""

    def __init__(self, source_waits: list[float]) -> None:
        self.now_s = 100.0
        self._waits = source_waits

    def __call__(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> bool:
        self._waits.append(seconds)
        self.now_s += seconds
        return False


def test_real_time_paces_the_frames_and_catches_up_without_dropping(
    make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    clock = Clock(waits)
    source = VideoFile(make_clip(frames=6, fps=10), "pen", SourceOptions(realtime=True), clock)
    monkeypatch.setattr(source._closed, "wait", clock.wait)
    frames: list[Frame] = []
    for frame in source.frames():
        frames.append(frame)
        if frame.index == 1:
            clock.now_s += 0.25  # A slow pipeline.
    assert len(frames) == 6
    assert waits == pytest.approx([0, 0.1, 0, 0, 0.05, 0.1], abs=1e-6)


def test_a_truncated_video_yields_what_decodes(tmp_path: Path) -> None:
    whole = tmp_path / "whole.avi"
    import cv2

    writer = cv2.VideoWriter(str(whole), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    rng = np.random.default_rng(1)
    for _ in range(20):
        writer.write(rng.integers(0, 255, (48, 64, 3)).astype(np.uint8))
    writer.release()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    frames = list(VideoFile(cut, "pen", SourceOptions()).frames())
    assert 3 <= len(frames) < 20


def test_a_missing_video_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.mp4: no such video"):
        VideoFile(tmp_path / "nowhere.mp4", "pen", SourceOptions())


@pytest.mark.parametrize("content", [b"", b"no video at all" * 50])
def test_a_broken_video_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"broken\.mp4") as caught:
        VideoFile(path, "pen", SourceOptions())
    assert "\n" not in str(caught.value)


def test_an_mp4_without_its_index_is_named(make_clip: MakeClip) -> None:
    path = make_clip(frames=8)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(SourceError, match=r"clip\.mp4"):
        VideoFile(path, "pen", SourceOptions())


def test_opencv_adds_nothing_to_our_one_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"no video at all" * 50)
    program = (
        "from edge.capture import open_source, SourceOptions\n"
        "from edge.errors import SourceError\n"
        f"try: open_source({str(path)!r}, 'pen', SourceOptions())\n"
        "except SourceError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_closing_ends_the_frames(make_clip: MakeClip) -> None:
    source = VideoFile(make_clip(), "pen", SourceOptions(loop=True))
    frames = source.frames()
    next(frames)
    source.close()
    assert list(frames) == []

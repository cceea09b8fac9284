"""Network cameras: a real RTSP server, a real ffmpeg, and everything that can go wrong between."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.capture.live import BackOff, LiveSource
from edge.capture.opening import open_source
from edge.capture.source import SourceOptions
from edge.capture.stream import FfmpegGrabber, FfmpegVersion, ffmpeg_command, ffmpeg_version
from edge.errors import SourceError
from edge.vision.types import Frame

QUICK = BackOff(first_s=0.05, most_s=0.1)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


class Watched:
    """A live source on a camera, read by a thread; every child process is remembered."""

    def __init__(self, url: str, stall_s: float = 20.0) -> None:
        self.frames: list[Frame] = []
        self.told: list[tuple[str, str]] = []
        self.children: list[FfmpegGrabber] = []
        self._url, self._stall_s = url, stall_s
        self.source = LiveSource(
            "pen", self._connect, lambda *told: self.told.append(told), back_off=QUICK
        )
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _connect(self) -> FfmpegGrabber:
        command = ffmpeg_command("ffmpeg", self._url, None)
        self.children.append(FfmpegGrabber(self._url, command, self._stall_s))
        return self.children[-1]

    def _read(self) -> None:
        for frame in self.source.frames():
            self.frames.append(frame)

    def statuses(self) -> list[str]:
        return [status for status, _ in self.told]

    def close(self) -> None:
        self.source.close()
        self._thread.join(timeout=10)
        assert not self._thread.is_alive()
        assert all(gone(child.pid) for child in self.children)


@pytest.mark.slow
def test_rtsp_frames_arrive_in_rgb(rtsp_camera: Any, wait_until: Callable[..., None]) -> None:
    watched = Watched(rtsp_camera.url)
    try:
        wait_until(lambda: len(watched.frames) >= 5, timeout_s=30)
    finally:
        watched.close()
    frame = watched.frames[0]
    assert frame.image.shape == (48, 64, 3)
    assert np.abs(frame.image.mean(axis=(0, 1)) - [254, 0, 0]).max() < 12
    times = [frame.monotonic_s for frame in watched.frames]
    assert times == sorted(times)
    assert watched.statuses() == ["up"]
    assert "SETUP" in rtsp_camera.requests


@pytest.mark.slow
def test_a_camera_that_hangs_up_is_connected_again(
    rtsp_camera: Any, wait_until: Callable[..., None]
) -> None:
    watched = Watched(rtsp_camera.url)
    try:
        wait_until(lambda: watched.frames, timeout_s=30)
        rtsp_camera.hang_up()
        wait_until(lambda: "lost" in watched.statuses(), timeout_s=30)
        seen = len(watched.frames)
        wait_until(lambda: len(watched.frames) > seen + 2, timeout_s=30)
    finally:
        watched.close()
    assert watched.statuses() == ["up", "lost", "up"]
    assert gone(watched.children[0].pid)


@pytest.mark.slow
def test_a_camera_that_freezes_is_lost_after_the_stall_time(
    rtsp_camera: Any, wait_until: Callable[..., None]
) -> None:
    watched = Watched(rtsp_camera.url, stall_s=6.0)
    try:
        wait_until(lambda: watched.frames, timeout_s=30)
        rtsp_camera.freeze()
        wait_until(lambda: "lost" in watched.statuses(), timeout_s=30)
        rtsp_camera.thaw()
        wait_until(lambda: watched.statuses() == ["up", "lost", "up"], timeout_s=30)
    finally:
        watched.close()
    assert "no frame for 6 s" in watched.told[1][1]
    assert rtsp_camera.connections >= 2


@pytest.mark.slow
def test_a_hung_ffmpeg_is_killed(rtsp_camera: Any, wait_until: Callable[..., None]) -> None:
    watched = Watched(rtsp_camera.url, stall_s=6.0)
    try:
        wait_until(lambda: watched.frames, timeout_s=30)
        os.kill(watched.children[0].pid, signal.SIGSTOP)
        wait_until(lambda: watched.statuses() == ["up", "lost", "up"], timeout_s=40)
        assert gone(watched.children[0].pid)
    finally:
        watched.close()


@pytest.mark.slow
def test_closing_ends_even_a_stopped_ffmpeg(
    rtsp_camera: Any, wait_until: Callable[..., None]
) -> None:
    watched = Watched(rtsp_camera.url)
    wait_until(lambda: watched.frames, timeout_s=30)
    os.kill(watched.children[0].pid, signal.SIGSTOP)
    watched.close()


@pytest.mark.slow
def test_a_wrong_password_is_told_and_not_shown(
    rtsp_camera: Any, wait_until: Callable[..., None]
) -> None:
    rtsp_camera.password = "right"
    wrong = rtsp_camera.url.replace("rtsp://", "rtsp://farm:s3cret@")
    watched = Watched(wrong)
    try:
        wait_until(lambda: watched.told, timeout_s=30)
    finally:
        watched.close()
    status, text = watched.told[0]
    assert status == "lost"
    assert "401" in text
    assert "s3cret" not in text
    right = Watched(rtsp_camera.url.replace("rtsp://", "rtsp://farm:right@"))
    try:
        wait_until(lambda: right.frames, timeout_s=30)
    finally:
        right.close()


@pytest.mark.slow
def test_open_source_limits_the_frame_rate(rtsp_camera: Any) -> None:
    source = open_source(rtsp_camera.url, "pen", SourceOptions(fps=5))
    times = []
    for frame in source.frames():
        times.append(frame.monotonic_s)
        if len(times) == 8:
            break
    source.close()
    gaps = np.diff(times[2:])
    assert gaps.mean() == pytest.approx(0.2, rel=0.35)


def program(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.mark.slow
def test_a_network_camera_works_with_an_ffmpeg_of_debian_11(
    rtsp_camera: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real ffmpeg, that knows no more options than 4.3 did."""
    program(
        tmp_path / "ffmpeg",
        'case "$*" in\n'
        "  -version) echo ffmpeg version 4.3.6-0+deb11u1 Copyright; exit;;\n"
        "  *-fps_mode*) echo \"Unrecognized option 'fps_mode'.\" >&2; exit 1;;\n"
        "esac\n"
        f'exec {shutil.which("ffmpeg")} "$@"',
    )
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    told: list[tuple[str, str]] = []
    source = open_source(
        rtsp_camera.url, "pen", SourceOptions(stall_s=20), lambda *given: told.append(given)
    )
    closing = threading.Timer(60, source.close)
    closing.start()
    frame = next(source.frames(), None)
    closing.cancel()
    source.close()
    assert [status for status, _ in told] == ["up"], told
    assert frame is not None
    assert frame.image.shape == (48, 64, 3)


# -- the child's pipe, with Python in ffmpeg's place ---------------------------------------------


def grabber(program: str, stall_s: float = 20.0, url: str = "rtsp://u:p@camera/x") -> FfmpegGrabber:
    return FfmpegGrabber(url, [sys.executable, "-u", "-c", program], stall_s)


def test_pictures_are_read_with_their_size() -> None:
    child = grabber(
        "import sys; out = sys.stdout.buffer\n"
        "out.write(b'P6\\n2 1\\n255\\n' + bytes(range(6)))\n"
        "out.write(b'P6\\n1 2\\n255\\n' + bytes(range(6, 12)))\n"
    )
    try:
        assert child.read().tolist() == [[[0, 1, 2], [3, 4, 5]]]
        assert child.read().tolist() == [[[6, 7, 8]], [[9, 10, 11]]]
        with pytest.raises(SourceError, match="the stream ended"):
            child.read()
    finally:
        child.close()
    assert gone(child.pid)


def test_the_child_s_last_words_are_told_without_credentials() -> None:
    child = grabber(
        "import sys; sys.exit('rtsp://u:p4ss@camera/x: 401 Unauthorized')",
        url="rtsp://u:p4ss@camera/x",
    )
    with pytest.raises(SourceError, match="401 Unauthorized") as caught:
        child.read()
    child.close()
    assert "p4ss" not in str(caught.value)


@pytest.mark.parametrize("data", ["P5\\n2 1\\n255\\n", "P6\\n2\\n255\\n", "P6\\n0 9\\n255\\n"])
def test_what_is_no_picture_is_refused(data: str) -> None:
    child = grabber(f"import sys; sys.stdout.write('{data}' + 'x' * 99)")
    with pytest.raises(SourceError, match="no picture"):
        child.read()
    child.close()


def test_silence_is_an_error_after_the_stall_time() -> None:
    child = grabber("import signal; signal.pause()", stall_s=0.2)
    with pytest.raises(SourceError, match=r"no frame for 0\.2 s"):
        child.read()
    child.close()
    assert gone(child.pid)


def test_half_a_picture_is_an_error_too() -> None:
    child = grabber(
        "import sys, signal; sys.stdout.write('P6\\n9 9\\n255\\nxx'); sys.stdout.flush();"
        "signal.pause()",
        stall_s=1.0,
    )
    with pytest.raises(SourceError, match="no frame for 1 s"):
        child.read()
    child.close()


def test_kill_wakes_the_reader(wait_until: Callable[..., None]) -> None:
    child = grabber("import signal; signal.pause()")
    failures: list[SourceError] = []

    def read() -> None:
        try:
            child.read()
        except SourceError as error:
            failures.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    child.kill()
    wait_until(lambda: failures)
    thread.join()
    child.close()


def test_rtsp_is_carried_over_tcp_only() -> None:
    command = ffmpeg_command("ffmpeg", "rtsp://camera/x", 5)
    at = command.index("-rtsp_transport")
    assert command[at + 1] == "tcp"
    assert at < command.index("-i")
    assert "-rtsp_transport" not in ffmpeg_command("ffmpeg", "http://camera/x", None)


@pytest.mark.slow
def test_ffmpeg_on_a_silent_camera_does_not_outlive_us(wait_until: Callable[..., None]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as camera:
        url = f"http://127.0.0.1:{camera.getsockname()[1]}/pen"
        script = (
            "import sys, threading\n"
            "from edge.capture.stream import FfmpegGrabber, ffmpeg_command\n"
            "made = []\n"
            "def connect():\n"
            f"    command = ffmpeg_command('ffmpeg', {url!r}, None)\n"
            f"    made.append(FfmpegGrabber({url!r}, command, 60))\n"
            # A thread that ends must not take ffmpeg along.
            "thread = threading.Thread(target=connect)\n"
            "thread.start()\n"
            "thread.join()\n"
            "print(made[0].pid, flush=True)\n"
            "threading.Event().wait()\n"
        )
        agent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        try:
            assert agent.stdout is not None
            pid = int(agent.stdout.readline())
            camera.settimeout(30)
            connection, _ = camera.accept()
            with connection:
                assert running(pid)
                agent.kill()
                agent.wait()
                wait_until(lambda: not running(pid), 20)
        finally:
            agent.kill()
            agent.communicate()


def running(pid: int) -> bool:
    """Say whether a process runs; nobody may have collected one that has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def test_a_program_that_is_missing_leaves_no_descriptors() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(FileNotFoundError):
        FfmpegGrabber("http://127.0.0.1/pen", ["/no/ffmpeg"], 1.0)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize(
    ("said", "numbers", "option"),
    [
        ("4.3.6-0+deb11u1", (4, 3), "-vsync"),
        ("n4.4.1", (4, 4), "-vsync"),
        ("5.0.1-static", (5, 0), "-vsync"),
        ("5.1.9-0+deb12u1", (5, 1), "-fps_mode"),
        ("7.0", (7, 0), "-fps_mode"),
        ("10.1", (10, 1), "-fps_mode"),
        # Built between releases: such a one is newer than any that lacks the option.
        ("N-109468-gd39b34123d", None, "-fps_mode"),
        ("2024-01-07-git-90bef6390f", None, "-fps_mode"),
    ],
)
def test_every_ffmpeg_is_given_an_option_that_it_knows(
    said: str, numbers: tuple[int, int] | None, option: str, tmp_path: Path
) -> None:
    ffmpeg = program(tmp_path / "ffmpeg", f"echo ffmpeg version {said} Copyright; echo built with")
    version = ffmpeg_version(str(ffmpeg))
    assert version == FfmpegVersion(said, numbers)
    command = ffmpeg_command(str(ffmpeg), "rtsp://camera/x", None, version)
    assert command[command.index("passthrough") - 1] == option
    assert len({"-vsync", "-fps_mode"} & set(command)) == 1


def test_an_ffmpeg_that_does_not_run_is_named(tmp_path: Path) -> None:
    ffmpeg = program(tmp_path / "ffmpeg", "echo libavdevice.so.58: cannot open >&2; exit 127")
    with pytest.raises(SourceError, match=r"ffmpeg: does not run: libavdevice\.so\.58: cannot"):
        ffmpeg_version(str(ffmpeg))

"""Network cameras through an ffmpeg child process, which can be killed when it hangs.

OpenCV's own reader can block for ever on a lost RTSP stream, and a blocked thread cannot be ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from edge.capture.address import blank_credentials, blank_text, scheme_of
from edge.complaints import Complaints
from edge.errors import SourceError
from edge.lifeline import Lifeline
from edge.vision.types import Image

_PIPE_BYTES = 1 << 20
_MAX_SIDE = 16384
_ANSWER_S = 30.0
# From this version on `-vsync` is called `-fps_mode`; the newest know the new name alone.
_FPS_MODE_SINCE = (5, 1)


@dataclass(frozen=True, slots=True)
class FfmpegVersion:
    """What ffmpeg calls itself, and its first two numbers: None for a build between releases."""

    text: str
    numbers: tuple[int, int] | None = None


def ffmpeg_path() -> str:
    """Return where ffmpeg is; SourceError says how to get it."""
    path = shutil.which("ffmpeg")
    if path is None:
        raise SourceError("network cameras need ffmpeg on PATH (Debian: apt-get install ffmpeg)")
    return path


@cache
def ffmpeg_version(ffmpeg: str) -> FfmpegVersion:
    """Ask an ffmpeg for its version; SourceError for one that does not run."""
    try:
        done = subprocess.run(
            [ffmpeg, "-version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_ANSWER_S,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise SourceError(f"{ffmpeg}: does not run: {error}") from error
    if done.returncode != 0:
        why = (done.stderr.split("\n")[0] or f"exit code {done.returncode}").strip()
        raise SourceError(f"{ffmpeg}: does not run: {why}; install it anew")
    found = re.match(r"ffmpeg version (\S+)", done.stdout)
    text = found[1] if found else "unknown"
    numbers = re.match(r"n?(\d+)\.(\d+)", text)
    return FfmpegVersion(text, (int(numbers[1]), int(numbers[2])) if numbers else None)


def ffmpeg_command(
    ffmpeg: str, url: str, fps: float | None, version: FfmpegVersion | None = None
) -> list[str]:
    """Return the command that writes the stream's pictures as PPM to its standard output.

    PPM carries the size in front of every picture, so that nothing has to be probed first.
    version: of `ffmpeg`; one that is not known is taken for a new one.
    """
    numbers = None if version is None else version.numbers
    old = numbers is not None and numbers < _FPS_MODE_SINCE
    command = [ffmpeg, "-nostdin", "-hide_banner", "-loglevel", "error"]
    # Every further thread keeps pictures of its own, comes later by one, and the models need the
    # cores. The first is for the decoder, the second for what follows it.
    command += ["-threads", "1", "-filter_threads", "1"]
    if scheme_of(url) in ("rtsp", "rtsps"):
        # Over UDP lost packets smear the picture, and barns have poor networks.
        command += ["-rtsp_transport", "tcp"]
    command += ["-i", url, "-map", "0:v:0", "-vsync" if old else "-fps_mode", "passthrough"]
    if fps:
        period_s = 1 / fps
        command += [
            "-vf",
            f"select='isnan(prev_selected_t)+gte(t-prev_selected_t\\,{period_s:.6f}-0.005)'",
        ]
    return [
        *command,
        *("-threads", "1"),
        *("-pix_fmt", "rgb24", "-c:v", "ppm", "-f", "image2pipe", "-flush_packets", "1", "pipe:1"),
    ]


class FfmpegGrabber:
    """One run of ffmpeg on one stream.

    stall_s: a picture that takes longer to arrive is a SourceError; the clock is monotonic.
    """

    def __init__(self, url: str, command: Sequence[str], stall_s: float) -> None:
        self._url = url
        self._stall_s = stall_s
        self._lifeline = Lifeline()
        # A session of its own: Ctrl-C is for us alone, and we end the child.
        with self._lifeline.starting():
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
                pass_fds=(self._lifeline.far_end,),
            )
        # On a camera that says nothing, ffmpeg would not even notice that nobody reads.
        self._lifeline.tie(self._process.pid)
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._pipe = self._process.stdout.fileno()
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._poll = select.poll()
        self._poll.register(self._pipe, select.POLLIN)
        self._complaints = Complaints(self._process.stderr, "ffmpeg")

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def read(self) -> Image:
        """Wait for the next picture, uint8 (H, W, 3) RGB."""
        deadline_s = time.monotonic() + self._stall_s
        kind = self._read_line(deadline_s)
        sides = self._read_line(deadline_s).split()
        depth = self._read_line(deadline_s)
        try:
            width, height = (int(side) for side in sides)
        except ValueError:
            width = height = 0
        if (
            kind != b"P6"
            or depth != b"255"
            or not (0 < width <= _MAX_SIDE and 0 < height <= _MAX_SIDE)
        ):
            raise SourceError(f"{self._name}: ffmpeg sent no picture")
        image = np.empty((height, width, 3), np.uint8)
        self._fill(image.reshape(-1).data, deadline_s)
        return image

    def kill(self) -> None:
        """End the child at once; it may be stopped, hung or gone already."""
        self._process.kill()

    def close(self) -> None:
        """End the child and let go of its pipes."""
        self._process.kill()
        self._process.wait()
        self._lifeline.close()
        self._complaints.close()
        if self._process.stdout is not None:
            self._process.stdout.close()

    @property
    def _name(self) -> str:
        return blank_credentials(self._url)

    def _read_line(self, deadline_s: float) -> bytes:
        line = bytearray()
        byte = bytearray(1)
        while len(line) < 32:
            self._fill(memoryview(byte), deadline_s)
            if byte == b"\n":
                return bytes(line)
            line += byte
        return bytes(line)

    def _fill(self, view: memoryview, deadline_s: float) -> None:
        done = 0
        while done < len(view):
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not self._poll.poll(left_s * 1000):
                raise SourceError(f"{self._name}: no frame for {self._stall_s:g} s")
            count = os.readv(self._pipe, [view[done:]])
            if count == 0:
                raise SourceError(f"{self._name}: {self._why_ended()}")
            done += count

    def _why_ended(self) -> str:
        # The pipe is closed, so the child is ending; its last words are worth a moment.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1.0)
        words = self._complaints.last
        return " ".join(blank_text(words, self._url).split()) if words else "the stream ended"

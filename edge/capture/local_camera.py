"""A throw-away RTSP camera on this machine's loopback, for tests and the soak.

GStreamer's own RTSP server, as real cameras have it inside, in a child process: Debian's
`gir1.2-gst-rtsp-server-1.0`, `python3-gi` and `gstreamer1.0-plugins-good`.
"""

from __future__ import annotations

import functools
import os
import selectors
import signal
import subprocess
from pathlib import Path

from edge.errors import SourceError, UsageError

DEBIAN_PACKAGES = ("gir1.2-gst-rtsp-server-1.0", "python3-gi", "gstreamer1.0-plugins-good")
# Debian's bindings belong to Debian's Python; a virtual environment's has none.
_PYTHON = "/usr/bin/python3"
_SERVER = Path(__file__).with_name("local_camera_server.py")
_HOST = "127.0.0.1"
_START_S = 20.0
_PROBE = (
    "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstRtspServer', '1.0'); "
    "from gi.repository import Gst, GstRtspServer; Gst.init(None); import sys; "
    "sys.exit(not all(map(Gst.ElementFactory.find, ('qtdemux', 'h264parse', 'rtph264pay'))))"
)


@functools.cache
def camera_missing() -> str | None:
    """Return what is to be installed before a LocalCamera can run, None when all is there."""
    try:
        done = subprocess.run([_PYTHON, "-c", _PROBE], capture_output=True, timeout=_START_S)
    except (OSError, subprocess.TimeoutExpired):
        return f"needs {_PYTHON}"
    if done.returncode == 0:
        return None
    return f"GStreamer's RTSP server is not installed: apt-get install {' '.join(DEBIAN_PACKAGES)}"


class LocalCamera:
    """An RTSP camera that plays an MP4 clip (H.264) for ever; starts on entering, ends on leaving.

    port: one that is free. Raises UsageError where GStreamer's RTSP server is not installed,
    SourceError when the server does not start.
    """

    def __init__(self, clip: Path, port: int) -> None:
        self._clip = clip
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where the camera is seen."""
        return f"rtsp://{_HOST}:{self._port}/pen"

    def start(self) -> None:
        """Start, on the same port again after `kill`, and wait until it listens."""
        missing = camera_missing()
        if missing is not None:
            raise UsageError(missing)
        self._process = subprocess.Popen(
            [_PYTHON, str(_SERVER), str(self._clip), str(self._port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            told = bool(selector.select(_START_S)) and self._process.stdout.readline() == b"ready\n"
        if not told:
            self._process.kill()
            _, words = self._process.communicate()
            self._process = None
            last = words.decode(errors="replace").strip().rpartition("\n")[2]
            raise SourceError(f"the local camera does not start: {last or 'it says nothing'}")

    def kill(self) -> None:
        """End the server at once, as a power cut would; it may hang or be gone already."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def hang(self) -> None:
        """Stop the server where it stands: its connections stay, nothing comes any more."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let a server that hangs go on."""
        self._signal(signal.SIGCONT)

    def __enter__(self) -> LocalCamera:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.kill()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "the camera was not started"
        os.kill(self._process.pid, number)

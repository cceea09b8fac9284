"""Clips, and a small RTSP camera on the loopback that can freeze, hang up, or want a password."""

from __future__ import annotations

import base64
import contextlib
import itertools
import re
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

RTSP_FPS = 25


@pytest.fixture
def make_clip(tmp_path: Path) -> Callable[..., Path]:
    """Write a clip whose frame i is red with a green level of 10 * i; return its path."""

    def make(name: str = "clip.mp4", frames: int = 8, fps: float = 10.0) -> Path:
        path = tmp_path / name
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (64, 48))
        for index in range(frames):
            image = np.empty((48, 64, 3), np.uint8)
            image[:] = (0, 10 * index, 200)
            writer.write(image)
        writer.release()
        return path

    return make


def h264_pictures(folder: Path) -> list[list[bytes]]:
    """Return two seconds of a red picture, 64 x 48, as the NAL units of each frame."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    path = folder / "camera.h264"
    subprocess.run(
        [
            *("ffmpeg", "-v", "error", "-y", "-f", "lavfi"),
            *("-i", f"color=red:size=64x48:rate={RTSP_FPS}:duration=2", "-c:v", "libx264"),
            *("-profile:v", "baseline", "-pix_fmt", "yuv420p", "-g", "10"),
            *("-x264-params", "aud=1:repeat-headers=1:threads=1", "-f", "h264", str(path)),
        ],
        check=True,
    )
    units = [u.rstrip(b"\0") for u in re.split(rb"\0\0\0?\x01", path.read_bytes()) if u]
    pictures: list[list[bytes]] = []
    for unit in units:
        if unit[0] & 31 == 9:
            pictures.append([])
        else:
            pictures[-1].append(unit)
    return pictures


class RtspCamera:
    """Serves H.264 over RTSP, RTP interleaved in the TCP connection, again and again.

    password: wanted by Basic authentication, user `farm`. freeze: stay connected and send no more.
    """

    def __init__(self, pictures: list[list[bytes]]) -> None:
        self.password: str | None = None
        self.connections = 0
        self.requests: list[str] = []
        self._pictures = pictures
        self._frozen = threading.Event()
        self._stopped = threading.Event()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/pen"

    def freeze(self) -> None:
        self._frozen.set()

    def thaw(self) -> None:
        self._frozen.clear()

    def hang_up(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._stopped.set()
        self._listener.close()
        self.hang_up()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._open.add(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            reader = connection.makefile("rb")
            while request := self._read_request(reader):
                if request[0] != "$":
                    self._answer(connection, *request)
        except OSError:
            pass
        finally:
            self._open.discard(connection)
            connection.close()

    @staticmethod
    def _read_request(reader: object) -> tuple[str, dict[str, str]] | None:
        first = reader.read(1)  # type: ignore[attr-defined]
        if first == b"$":
            # The client's receiver reports travel in the same connection.
            _, length = struct.unpack(">BH", reader.read(3))  # type: ignore[attr-defined]
            reader.read(length)  # type: ignore[attr-defined]
            return "$", {}
        line = first + reader.readline()  # type: ignore[attr-defined]
        if not first:
            return None
        headers: dict[str, str] = {}
        while text := reader.readline().decode().strip():  # type: ignore[attr-defined]
            name, _, value = text.partition(":")
            headers[name.lower()] = value.strip()
        return line.decode().split()[0], headers

    def _answer(self, connection: socket.socket, method: str, headers: dict[str, str]) -> None:
        self.requests.append(method)
        extra, body, status = "", "", "200 OK"
        wanted = base64.b64encode(f"farm:{self.password}".encode()).decode()
        if self.password is not None and headers.get("authorization") != f"Basic {wanted}":
            status, extra = "401 Unauthorized", 'WWW-Authenticate: Basic realm="barn"\r\n'
        elif method == "OPTIONS":
            extra = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
        elif method == "DESCRIBE":
            sps, pps = (base64.b64encode(unit).decode() for unit in self._pictures[0][:2])
            body = (
                "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=pen\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n"
                "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
                f"a=fmtp:96 packetization-mode=1;sprop-parameter-sets={sps},{pps}\r\n"
                f"a=framerate:{RTSP_FPS}\r\na=control:track1\r\n"
            )
            extra = f"Content-Type: application/sdp\r\nContent-Base: {self.url}/\r\n"
        elif method == "SETUP":
            extra = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
        connection.sendall(
            f"RTSP/1.0 {status}\r\nCSeq: {headers.get('cseq', '0')}\r\n{extra}"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        if method == "PLAY" and status.startswith("200"):
            threading.Thread(target=self._play, args=(connection,), daemon=True).start()

    def _play(self, connection: socket.socket) -> None:
        sequence = 0
        with contextlib.suppress(OSError):
            for number, units in enumerate(itertools.cycle(self._pictures)):
                for unit in units:
                    marker = 0x80 if unit is units[-1] else 0
                    stamp = number * 90_000 // RTSP_FPS
                    packet = struct.pack(">BBHII", 0x80, marker | 96, sequence, stamp, 7) + unit
                    connection.sendall(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
                    sequence = (sequence + 1) & 0xFFFF
                while True:
                    if self._stopped.wait(1 / RTSP_FPS) or connection not in self._open:
                        return
                    if not self._frozen.is_set():
                        break


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[list[bytes]]:
    return h264_pictures(tmp_path_factory.mktemp("h264"))


@pytest.fixture
def rtsp_camera(pictures: list[list[bytes]]) -> Iterator[RtspCamera]:
    """A camera at `.url`, with freeze(), thaw(), hang_up() and `.password`."""
    camera = RtspCamera(pictures)
    yield camera
    camera.close()

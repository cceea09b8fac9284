"""A herd of coloured blocks: a clip with its truth, and a bundle whose models see colours."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from edge.identity.means import ClassMeans, MeansHeader
from edge.messaging.local_broker import free_port
from edge.release.bundle import Bundle
from edge.vision.types import Detections, Floats, Image

MODELS_DEMO = Path(__file__).parents[2] / "models" / "demo"
# GStreamer's bindings are the system's; no virtual environment has them.
SYSTEM_PYTHON = "/usr/bin/python3"
FPS = 10.0
SIZE = (240, 320)
HERD = {"pig01": (220, 20, 20), "pig02": (20, 200, 20)}
SIDE = 48


class ColourDetector:
    """Finds whatever is colourful on a grey floor."""

    score_threshold = 0.5

    def detect(self, image: Image, score_threshold: float | None = None) -> Detections:
        vivid = (np.ptp(image.astype(np.int16), axis=2) > 60).astype(np.uint8)
        count, _, stats, _ = cv2.connectedComponentsWithStats(vivid)
        rows = [stats[i] for i in range(1, count) if stats[i][4] > 400]
        boxes = np.array([[x, y, x + w, y + h] for x, y, w, h, _ in rows], np.float32)
        return Detections(
            boxes.reshape(-1, 4), np.full(len(rows), 0.9, np.float32), np.zeros(len(rows), np.int32)
        )


class ColourEmbedder:
    """The mean colour of a crop's middle, above the floor's grey."""

    size = 32
    dimension = 3
    letterbox_colour = (114, 114, 114)

    def embed(self, crops: np.ndarray) -> Floats:
        middle = crops[:, 8:24, 8:24].reshape(len(crops), -1, 3).astype(np.float32)
        colours = middle.mean(axis=1) + 1e-3
        return np.asarray(colours / np.linalg.norm(colours, axis=1, keepdims=True), np.float32)


def draw_frame(places: dict[str, tuple[int, int]]) -> Image:
    """Return a grey floor with a chequered (so sharp) block of its colour for each animal."""
    image = np.full((*SIZE, 3), 110, np.uint8)
    chequer = (np.indices((SIDE, SIDE)).sum(axis=0) // 8 % 2)[..., None]
    for animal, (x, y) in places.items():
        image[y : y + SIDE, x : x + SIDE] = np.array(HERD[animal]) * np.where(chequer, 1.0, 0.7)
    return image


def places_at(index: int) -> dict[str, tuple[int, int]]:
    """Where the animals are in a frame: one walks right, one left."""
    return {"pig01": (20 + 2 * (index % 100), 30), "pig02": (250 - 2 * (index % 100), 150)}


class RtspCamera:
    """GStreamer's RTSP server with the demo's clip, for ever, on one port for its whole life."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"rtsp://127.0.0.1:{self.port}/pen"
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        """Switch it on."""
        script = Path(__file__).parent / "capture" / "rtsp_server.py"
        self._process = subprocess.Popen(
            [SYSTEM_PYTHON, str(script), str(MODELS_DEMO / "pen.mp4"), str(self.port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def hang(self) -> None:
        """Stop it where it stands: its connections stay, nothing comes any more."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on after `hang`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Pull its plug."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@pytest.fixture
def rtsp_pen() -> Iterator[RtspCamera]:
    """A real RTSP camera at `.url`; kill(), start(), hang(), go_on()."""
    probe = "import gi; gi.require_version('GstRtspServer', '1.0')"
    done = subprocess.run([SYSTEM_PYTHON, "-c", probe], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("GStreamer's RTSP server is not installed (gir1.2-gst-rtsp-server-1.0)")
    camera = RtspCamera()
    yield camera
    camera.kill()


@pytest.fixture
def herd_frame() -> Callable[[int], Image]:
    """Call with an index for that frame's picture."""
    return lambda index: draw_frame(places_at(index))


@pytest.fixture
def herd_means() -> ClassMeans:
    prototypes = np.array(list(HERD.values()), np.float32)
    prototypes /= np.linalg.norm(prototypes, axis=1, keepdims=True)
    count = len(HERD)
    return ClassMeans(
        tuple(HERD),
        prototypes,
        np.arange(count, dtype=np.int32),
        np.zeros((count, 3)),
        np.zeros(count, np.int64),
        np.full(count, 0.1, np.float32),
        0.05,
        MeansHeader(seq=7),
    )


@pytest.fixture
def herd_bundle(herd_means: ClassMeans) -> Bundle:
    """A loaded bundle whose models see colours; only the manifest's id is real."""
    manifest: Any = SimpleNamespace(id="ab" * 32)
    detector: Any = ColourDetector()
    embedder: Any = ColourEmbedder()
    return Bundle(Path("herd"), manifest, detector, embedder, herd_means, "cpu (test)")


@pytest.fixture
def make_herd(tmp_path: Path) -> Callable[..., Path]:
    """Make a folder with pen.mp4, truth.json and an empty `bundle`; return it."""

    def make(frames: int = 30) -> Path:
        folder = tmp_path / "herd"
        (folder / "bundle").mkdir(parents=True, exist_ok=True)
        height, width = SIZE
        path = str(folder / "pen.mp4")
        writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"mp4v"), FPS, (width, height))
        boxes = []
        for index in range(frames):
            places = places_at(index)
            writer.write(cv2.cvtColor(draw_frame(places), cv2.COLOR_RGB2BGR))
            for number, (x, y) in enumerate(places.values()):
                boxes.append([index, number, x, y, x + SIDE, y + SIDE, 100])
        writer.release()
        truth = {
            "schema": 1,
            "video": "pen.mp4",
            "camera": "pen",
            "fps": FPS,
            "width": width,
            "height": height,
            "animals": list(HERD),
            "boxes": boxes,
        }
        (folder / "truth.json").write_text(json.dumps(truth))
        return folder

    return make


@pytest.fixture(scope="session")
def delegate_library(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a delegate that does what its option `behaviour` says."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc) on PATH to build the test's delegate with")
    library = tmp_path_factory.mktemp("delegate") / "libdouble.so"
    source = Path(__file__).with_name("inference") / "delegate.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    return str(library)

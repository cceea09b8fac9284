"""A detector that is told what to find, frames that say which one they are, and tracklets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.vision.types import Detections, Frame
from trainer.labelling.tracklets import Proposal, ProposedCrop, Tracklet, save_proposal
from trainer.pictures import jpeg

WIDTH, HEIGHT = 320, 240
Box = tuple[float, float, float, float]


class ScriptedDetector:
    """Finds `script[index]` in a frame whose first pixel says its index; all boxes at 0.9."""

    score_threshold = 0.5

    def __init__(self, script: Mapping[int, Sequence[Box]]) -> None:
        self._script = script

    def detect(self, image: np.ndarray, score_threshold: float | None = None) -> Detections:
        high, low = (int(value) for value in image[0, 0, :2])
        boxes = np.array(self._script.get(256 * high + low, ()), np.float32).reshape(-1, 4)
        count = len(boxes)
        return Detections(boxes, np.full(count, 0.9, np.float32), np.zeros(count, np.int32))


@pytest.fixture
def scripted() -> Callable[[Mapping[int, Sequence[Box]]], ScriptedDetector]:
    return ScriptedDetector


@pytest.fixture
def frame() -> Callable[..., Frame]:
    """Call with an index (and wall_time): a noisy frame at ten frames a second."""

    def make(index: int, *, wall_time: datetime | None = None) -> Frame:
        rng = np.random.default_rng(index)
        image = rng.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
        image[0, 0, :2] = divmod(index, 256)
        return Frame(image, "pen", index, index / 10, wall_time)

    return make


@pytest.fixture
def tracklet() -> Callable[..., Tracklet]:
    """Call with a name (and what differs): a tracklet of two crops, at frames 0 and 9."""

    def make(name: str, **more: Any) -> Tracklet:
        crops = [
            ProposedCrop(
                file=f"{name}_{frame:06d}.jpg",
                frame=frame,
                box=(10.0, 20.0, 50.0, 60.0),
                sharpness=90.0,
                covered=0.0,
            )
            for frame in (0, 9)
        ]
        fields: dict[str, Any] = {
            "session": "pen",
            "camera": "pen",
            "source": "pen.mp4",
            "track": 1,
            "first_frame": 0,
            "last_frame": 9,
            "first_s": 0.0,
            "last_s": 3661.5,
            "first_time": None,
            "last_time": None,
            "frames": 10,
            "width": 320,
            "height": 240,
            "crops": crops,
            "path": [(0, 10.0, 20.0, 50.0, 60.0), (9, 30.0, 20.0, 70.0, 60.0)],
            "together": [],
        }
        return Tracklet(name=name, **{**fields, **more})

    return make


@pytest.fixture
def propose(tmp_path: Path) -> Callable[..., tuple[Proposal, Path]]:
    """Call with tracklets: the proposal, and its folder with `tracklets.json` and all crops."""

    def make(*tracklets: Tracklet) -> tuple[Proposal, Path]:
        root = tmp_path / "proposal"
        proposal = Proposal(
            schema=1, id="ab12", created="", bundle=None, every=1, tracklets=list(tracklets)
        )
        for row, item in enumerate(tracklets):
            item.folder(root).mkdir(parents=True)
            for crop in item.crops:
                picture = np.full((40, 30, 3), (20 * row, 10 * crop.frame, 128), np.uint8)
                (item.folder(root) / crop.file).write_bytes(jpeg(picture))
        save_proposal(proposal, root)
        return proposal, root

    return make

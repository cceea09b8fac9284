"""A ring of the last crops that are worth a person's look: the queue for labelling."""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge.files import write_atomically
from edge.identity.types import Track
from edge.pipeline import FrameResult
from edge.vision.geometry import crop_pixels
from edge.vision.types import Frame, Image

LOG = logging.getLogger("earmark.crops")
_QUALITY = 92
_WAITING = 32
_LOW_MARGIN = 0.1
# Of one animal, or track without a name: the doubtful so often, the ordinary so seldom.
_DOUBTFUL_S = 60.0
_ORDINARY_S = 600.0
_CLOSE_S = 5.0


@dataclass(frozen=True, slots=True)
class Release:
    """What named the animals: bundle and sequence number of the class means."""

    bundle: str
    means_seq: int


@dataclass(slots=True)
class _Seen:
    """When a track was seen last, and its name then."""

    at_s: float
    animal: str | None


class CropRing:
    """An observer of frames that keeps crops as JPEG files, a JSON beside each, the newest `keep`.

    `named/<animal>/` and `unnamed/<reason>/` below `folder` hold `<camera>-<date>_<time>-<track>`
    files: the layout that `earmark-trainer means` takes. Kept are, of each camera, animals that
    nobody should name, once a minute and track; names by a narrow margin, once a minute and animal;
    names that changed; and of any other animal one every ten minutes, however often its track is
    lost and another begins. Files are written by a thread of its own: what it has no time for is
    left out, and a disk that is full or read-only costs crops and one warning.
    """

    def __init__(
        self,
        folder: Path,
        keep: int,
        release: Callable[[], Release],
        warn: Callable[[str], None] = LOG.warning,
    ) -> None:
        self._folder, self._keep, self._release, self._warn = folder, keep, release, warn
        self._tracks: dict[tuple[str, int], _Seen] = {}
        # By animal; by number for tracks without a name.
        self._kept_s: dict[tuple[str, str | int], float] = {}
        self._waiting: queue.Queue[tuple[Path, Image, dict[str, Any]] | None] = queue.Queue(
            _WAITING
        )
        self._kept: deque[Path] = deque()
        self._warned = False
        self._thread = threading.Thread(target=self._write_all, name="crops", daemon=True)
        self._thread.start()

    def __call__(self, frame: Frame, result: FrameResult) -> None:
        """Keep what of a frame is worth it."""
        self._forget(frame)
        for track in result.tracks:
            if track.seen and track.settled and self._worth_it(frame, track):
                with contextlib.suppress(queue.Full):
                    pixels = crop_pixels(frame.image, track.box).copy()
                    self._waiting.put_nowait(
                        (self._place(frame, track), pixels, self._facts(frame, track))
                    )

    def close(self) -> None:
        """Write what waits and end; a disk that hangs is waited for `_CLOSE_S`, no longer."""
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=_CLOSE_S)
            self._thread.join(timeout=_CLOSE_S)

    def _forget(self, frame: Frame) -> None:
        # By time, as tracks of a camera that is lost end without a frame. It changes nothing else:
        # after so long anything is kept again.
        for key, seen in list(self._tracks.items()):
            if key[0] == frame.camera and frame.monotonic_s - seen.at_s >= _ORDINARY_S:
                self._tracks.pop(key, None)
        for one, at_s in list(self._kept_s.items()):
            if one[0] == frame.camera and frame.monotonic_s - at_s >= _ORDINARY_S:
                self._kept_s.pop(one, None)

    def _worth_it(self, frame: Frame, track: Track) -> bool:
        """Say whether a crop is worth keeping, and if so take it for kept."""
        now_s = frame.monotonic_s
        before = self._tracks.get((frame.camera, track.id))
        self._tracks[frame.camera, track.id] = _Seen(now_s, track.animal)
        changed = before is not None and track.animal != before.animal
        narrow = track.margin is not None and track.margin < _LOW_MARGIN
        every_s = _DOUBTFUL_S if track.animal is None or narrow else _ORDINARY_S
        key = (frame.camera, track.id if track.animal is None else track.animal)
        kept_s = self._kept_s.get(key)
        if not changed and kept_s is not None and now_s - kept_s < every_s:
            return False
        self._kept_s[key] = now_s
        return True

    def _place(self, frame: Frame, track: Track) -> Path:
        if frame.wall_time is None:
            when = f"undated_{frame.index:09d}"
        else:
            when = frame.wall_time.strftime("%Y%m%d_%H%M%S%f")[:-3]
        sort = Path("named", track.animal) if track.animal else Path("unnamed", str(track.reason))
        return self._folder / sort / f"{frame.camera}-{when}-{track.id}.jpg"

    def _facts(self, frame: Frame, track: Track) -> dict[str, Any]:
        height, width = frame.image.shape[:2]
        sides = np.array([width, height, width, height])
        release = self._release()
        wall: datetime | None = frame.wall_time
        return {
            "camera": frame.camera,
            "track": track.id,
            "animal": track.animal,
            "reason": track.reason,
            "confidence": _number(track.confidence),
            "distance": _number(track.distance),
            "margin": _number(track.margin),
            "votes": track.votes,
            "box": [round(float(value), 4) for value in track.box / sides],
            "score": _number(track.score),
            "time": None if wall is None else wall.isoformat(timespec="milliseconds"),
            "release": release.bundle,
            "means_seq": release.means_seq,
        }

    # -- the writing thread ----------------------------------------------------------------------

    def _write_all(self) -> None:
        with contextlib.suppress(OSError):
            self._take_stock()
        while (item := self._waiting.get()) is not None:
            try:
                self._write(*item)
            except (OSError, cv2.error) as error:
                # Facts without a picture would be counted by nobody and fill the disk.
                with contextlib.suppress(OSError):
                    self._drop_facts_alone(item[0])
                if not self._warned:
                    self._warned = True
                    self._warn(f"{self._folder}: crops cannot be kept: {error}")

    def _take_stock(self) -> None:
        for facts in self._folder.glob("*/*/*.json"):
            self._drop_facts_alone(facts.with_suffix(".jpg"))
        files = [(path.stat().st_mtime, path) for path in self._folder.glob("*/*/*.jpg")]
        self._kept.extend(path for _, path in sorted(files))

    @staticmethod
    def _drop_facts_alone(picture: Path) -> None:
        if not picture.exists():
            picture.with_suffix(".json").unlink(missing_ok=True)

    def _write(self, path: Path, pixels: Image, facts: dict[str, Any]) -> None:
        done, data = cv2.imencode(
            ".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
        )
        if not done:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        # The picture comes last: one without its facts is never seen.
        facts_path = path.with_suffix(".json")
        write_atomically(facts_path, (json.dumps(facts, indent=1) + "\n").encode())
        write_atomically(path, data.tobytes())
        if path in self._kept:  # without a clock, names come again after a restart
            self._kept.remove(path)
        self._kept.append(path)
        while len(self._kept) > self._keep:
            old = self._kept.popleft()
            for one in (old, old.with_suffix(".json")):
                one.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                old.parent.rmdir()  # only when it is empty


def _number(value: float | None) -> float | None:
    """Return a number that JSON has, rounded; None for what is infinite or none."""
    return round(float(value), 4) if value is not None and np.isfinite(value) else None

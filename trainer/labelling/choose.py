"""A few crops that stand for a tracklet: sharp, uncrowded, spread over its time, all different."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge.vision.geometry import letterbox
from edge.vision.quality import sharpness
from edge.vision.types import Floats, Image
from trainer.labelling.files import encode

# Crops are judged at one size, that of small embedders, whatever the animal's size in the frame.
JUDGED_SIZE = 128
_LOOK = 24
_KEPT = 48
# Of pictures whose grey levels correlate this much the second teaches nothing.
_SAME = 0.9


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A crop that may be written. data: its JPEG file. look: unit vector float32 of its greys.

    box: float32 (4,) in pixels of the frame. sharpness: see `CropQuality`. covered: share of the
    box under another one.
    """

    frame: int
    box: Floats
    sharpness: float
    covered: float
    data: bytes
    look: Floats

    @property
    def quality(self) -> float:
        """What is better among crops of one animal."""
        return quality_of(self.sharpness, self.covered)


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A crop that has not been encoded: most never are."""

    frame: int
    box: Floats
    sharpness: float
    covered: float
    pixels: Image
    scaled: Image

    @property
    def quality(self) -> float:
        return quality_of(self.sharpness, self.covered)

    def encoded(self) -> Candidate:
        look = look_of(self.scaled)
        return Candidate(
            self.frame, self.box, self.sharpness, self.covered, encode(self.pixels), look
        )


class Candidates:
    """The best crop of each stretch of a tracklet, in bounded memory however long it becomes.

    Stretches are a few frames at first and double whenever there are too many of them.
    """

    def __init__(self) -> None:
        self._kept: list[Candidate] = []
        self._best: _Waiting | None = None
        self._offered = 0
        self._stride = 2

    def offer(
        self, frame: int, box: Floats, covered: float, pixels: Image, scaled: Image, sharp: float
    ) -> None:
        """Take a good crop into account.

        pixels: (H, W, 3) of the box. scaled: the same letterboxed, (S, S, 3), of which `sharp` is
        the Laplacian variance.
        """
        if self._best is None or quality_of(sharp, covered) > self._best.quality:
            self._best = _Waiting(frame, box, sharp, covered, pixels.copy(), scaled)
        self._offered += 1
        if self._offered % self._stride == 0:
            self._close()

    def all(self) -> list[Candidate]:
        """Return what was kept, in the order of time."""
        self._close()
        return self._kept

    def _close(self) -> None:
        if self._best is not None:
            self._kept.append(self._best.encoded())
            self._best = None
        if len(self._kept) > _KEPT:
            pairs = zip(self._kept[::2], self._kept[1::2], strict=False)
            odd = self._kept[-1:] if len(self._kept) % 2 else []
            self._kept = [max(pair, key=lambda crop: crop.quality) for pair in pairs] + odd
            self._stride *= 2


def choose(candidates: Sequence[Candidate], most: int) -> list[Candidate]:
    """Return at most `most` candidates (in the order of time) that differ from one another.

    The best of each of `most` equal stretches comes first, then the best of what is left. What
    looks the same as one that is chosen is passed over: an animal that lies still gives few crops.
    Farthest-first choice would seek out the crops that went wrong, so it is not used.
    """
    stretches = np.array_split(np.arange(len(candidates)), max(1, min(most, len(candidates))))
    ranked = [sorted(part, key=lambda row: -candidates[row].quality) for part in stretches]
    firsts = sorted((part[0] for part in ranked if part), key=lambda r: -candidates[r].quality)
    rest = sorted(
        (row for part in ranked for row in part[1:]), key=lambda r: -candidates[r].quality
    )
    chosen: list[int] = []
    for row in (*firsts, *rest):
        if len(chosen) == most:
            break
        look = candidates[row].look
        if all(float(look @ candidates[other].look) < _SAME for other in chosen):
            chosen.append(int(row))
    return [candidates[row] for row in sorted(chosen)]


def quality_of(sharp: float, covered: float) -> float:
    """Return what is better among crops of one animal: sharp, and not under another one."""
    return sharp * (1 - covered)


def judged(pixels: Image) -> tuple[Image, float]:
    """Return a crop (H, W, 3) at the size it is judged at, and its sharpness there."""
    scaled = letterbox(pixels, (JUDGED_SIZE, JUDGED_SIZE))[0]
    return scaled, sharpness(scaled)


def look_of(scaled: Image) -> Floats:
    """Return the small grey picture of a square crop as a unit vector float32; flat ones are 0."""
    small = letterbox(scaled, (_LOOK, _LOOK))[0].astype(np.float32).mean(axis=2).reshape(-1)
    small -= small.mean()
    return np.asarray(small / max(float(np.linalg.norm(small)), 1e-6), np.float32)

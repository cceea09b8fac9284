"""The golden self-test: what the trainer's machine answered, asked again of this one.

Runtimes exist whose int8 answers are wrong on some processors, without an error. Such a device
would see animals that are not there, or name them at random; it is refused before it serves.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import BundleError, SelfTestError
from edge.vision.embedder import Embedder
from edge.vision.geometry import iou_matrix
from edge.vision.types import Detections, Floats, FrameDetector, Image

# Measured with the demo's detector: the same to the last bit between versions of ai-edge-litert,
# x86-64 and aarch64; IoU 0.84 and more, scores 0.04 apart at most, with tflite-runtime 2.14; not
# one find alike where int8 is wrong.
_LEAST_IOU = 0.7
_SCORE_SLACK = 0.15
_LEAST_AGREEMENT = 0.8


@dataclass(frozen=True, slots=True, eq=False)
class GoldenFrames:
    """Frames, and what the trainer's machine found in them.

    images: uint8 (F, H, W, 3) RGB. owner: int32 (N,), the frame each find is of. boxes: float32
    (N, 4) in its pixels. scores: float32 (N,); finds some way below the threshold are there too,
    for another machine may have them above.
    """

    images: NDArray[np.uint8]
    owner: NDArray[np.int32]
    boxes: Floats
    scores: Floats

    def of_frame(self, index: int) -> tuple[Floats, Floats]:
        """Return boxes (n, 4) and scores (n,) of one frame."""
        mine = self.owner == index
        return self.boxes[mine], self.scores[mine]


@dataclass(frozen=True, slots=True, eq=False)
class SelfTest:
    """All of `selftest.npz`: crops uint8 (K, S, S, 3), their unit embeddings (K, D), and frames.

    frames: None in a bundle that only names crops, or that is older than these.
    """

    crops: NDArray[np.uint8]
    embeddings: Floats
    frames: GoldenFrames | None


def golden_frames(detector: FrameDetector, images: NDArray[np.uint8]) -> GoldenFrames | None:
    """Return what a detector finds in frames (F, H, W, 3); None when that is no animal at all."""
    found = [_ask(detector, image) for image in images]
    scores = np.concatenate([finds.scores for finds in found]) if found else np.empty(0, np.float32)
    if not (scores >= detector.score_threshold).any():
        return None
    counts = [len(finds) for finds in found]
    return GoldenFrames(
        images,
        np.repeat(np.arange(len(images), dtype=np.int32), counts),
        np.concatenate([finds.boxes for finds in found]),
        scores,
    )


def save_self_test(test: SelfTest, path: Path) -> None:
    """Write `selftest.npz`."""
    embeddings = test.embeddings.astype(np.float32)
    if (frames := test.frames) is None:
        np.savez_compressed(path, crops=test.crops, embeddings=embeddings)
    else:
        np.savez_compressed(
            path,
            crops=test.crops,
            embeddings=embeddings,
            frames=frames.images,
            owner=frames.owner,
            boxes=frames.boxes,
            scores=frames.scores,
        )


def load_self_test(path: Path) -> SelfTest:
    """Read `selftest.npz`; BundleError for anything that is not one."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            crops, embeddings = archive["crops"], archive["embeddings"]
            frames = None
            if "frames" in archive:
                names = ("frames", "owner", "boxes", "scores")
                frames = GoldenFrames(*(archive[name] for name in names))
    except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise BundleError(f"{path}: not a self-test file: {error}") from error
    if crops.dtype != np.uint8 or crops.ndim != 4 or not len(crops):
        raise BundleError(f"{path}: crops are {crops.dtype} {crops.shape}, expected uint8 images")
    if embeddings.ndim != 2 or len(embeddings) != len(crops):
        raise BundleError(f"{path}: embeddings are {embeddings.shape} of {len(crops)} crops")
    if not np.allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-3):
        raise BundleError(f"{path}: the golden embeddings are not unit vectors; export it again")
    if frames is not None:
        _check_frames(frames, path)
    return SelfTest(crops, embeddings, frames)


def check_embedder(test: SelfTest, embedder: Embedder, cosine_floor: float, path: Path) -> float:
    """Return the lowest cosine between this device's golden embeddings and the trainer's.

    Raises SelfTestError, which names `path`, when it is below the floor.
    """
    size, dimension = embedder.size, embedder.dimension
    if test.crops.shape[1:] != (size, size, 3):
        raise BundleError(f"{path}: crops are {test.crops.shape}, expected (K, {size}, {size}, 3)")
    if test.embeddings.shape[1] != dimension:
        raise BundleError(
            f"{path}: embeddings are {test.embeddings.shape}, expected (K, {dimension})"
        )
    lowest = float(np.sum(embedder.embed(test.crops) * test.embeddings, axis=1).min())
    # A NaN must fail too, so the question is not whether it is below.
    if not lowest >= cosine_floor:
        raise SelfTestError(
            f"{path}: this device's embeddings are at cosine {lowest:.3f} to the trainer's, at "
            f"least {cosine_floor:g} is wanted; its TFLite runtime answers wrongly here"
        )
    return lowest


def check_detector(test: SelfTest, detector: FrameDetector, path: Path) -> float | None:
    """Return the share of the animals in the golden frames that both machines found alike, 0..1.

    Alike: boxes at IoU 0.7 or more, scores 0.15 apart at most, one to one. Both machines' finds
    count, so one too many is as bad as one too few; the twin may lie below the threshold. None when
    there are no golden frames. Raises SelfTestError, which names `path`, for less than 0.8.
    """
    if test.frames is None:
        return None
    threshold, alike, animals = detector.score_threshold, 0, 0
    for index, image in enumerate(test.frames.images):
        boxes, scores = test.frames.of_frame(index)
        try:
            found = _ask(detector, image)
        except (ValueError, OverflowError):
            # The model says of itself how many it found: no number at all, if all went wrong.
            found = Detections(boxes[:0], scores[:0], np.empty(0, np.int32))
        golden, mine = scores >= threshold, found.scores >= threshold
        animals += int(golden.sum() + mine.sum())
        for row, column in _twins(boxes, scores, found):
            alike += int(golden[row]) + int(mine[column])
    if not animals:
        raise BundleError(f"{path}: its golden frames show no animal; export it again")
    share = alike / animals
    if share < _LEAST_AGREEMENT:
        raise SelfTestError(
            f"{path}: this device's detector finds {share:.0%} of the golden frames' animals as "
            f"the trainer's did, at least {_LEAST_AGREEMENT:.0%} is wanted; its TFLite runtime "
            "answers wrongly here"
        )
    return share


def _ask(detector: FrameDetector, image: Image) -> Detections:
    """Return finds down to some way below the threshold."""
    return detector.detect(image, max(0.0, detector.score_threshold - _SCORE_SLACK))


def _twins(boxes: Floats, scores: Floats, found: Detections) -> list[tuple[int, int]]:
    """Return rows of the golden finds and of the device's that are alike, best IoU first."""
    overlaps = iou_matrix(boxes, found.boxes)
    apart = np.abs(scores[:, None] - found.scores[None])
    overlaps = np.where(apart <= _SCORE_SLACK, overlaps, 0)
    pairs = []
    while overlaps.size and overlaps.max() >= _LEAST_IOU:
        row, column = map(int, np.unravel_index(overlaps.argmax(), overlaps.shape))
        pairs.append((row, column))
        overlaps[row], overlaps[:, column] = 0, 0
    return pairs


def _check_frames(frames: GoldenFrames, path: Path) -> None:
    """Raise BundleError for arrays that do not belong together."""
    images, count = frames.images, len(frames.owner)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise BundleError(
            f"{path}: frames are {images.dtype} {images.shape}, expected uint8 (F, H, W, 3)"
        )
    shapes = (frames.owner.shape, frames.boxes.shape, frames.scores.shape)
    whole = np.issubdtype(frames.owner.dtype, np.integer)
    if not whole or shapes != ((count,), (count, 4), (count,)):
        raise BundleError(f"{path}: owner, boxes and scores of its finds are {shapes}")
    stray = frames.owner[(frames.owner < 0) | (frames.owner >= len(images))]
    if len(stray):
        raise BundleError(f"{path}: a find is of frame {stray[0]} of {len(images)}")
    if not (np.isfinite(frames.boxes).all() and np.isfinite(frames.scores).all()):
        raise BundleError(f"{path}: the golden finds are not all numbers; export it again")

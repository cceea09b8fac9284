"""Our frames a second against the 2021 article's: python benchmarks/article_pipeline.py.

Ours: the demo bundle through `edge.pipeline.Pipeline`, int8, two threads, as a device runs it and
once more with every animal embedded in every frame. The article's ("Animal recognition with
Siamese Networks and Mean Embeddings"): float Keras models by `predict`, SSD on ResNet50 with a
feature pyramid at 640 pixels, decoding and suppression, MobileNetV2 cut at `block_10_project_BN` on
every animal at 224 pixels in one batch, nearest mean. Its weights are random, which takes the same
time; its embedder is given the animals that our detector finds.

All take turns on consecutive frames of the demo clip, decoded beforehand, so that a machine that
slows down slows all of them. Prints medians over the rounds and ratios, from one run.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.capture import SourceOptions, open_source
from edge.errors import UsageError
from edge.pipeline import EmbeddingOptions, Pipeline, PipelineOptions
from edge.release.bundle import DETECTOR_NAME, EMBEDDER_NAME, Bundle, load_bundle
from edge.vision.geometry import cut_crop, letterbox
from edge.vision.types import Floats, Frame, Image

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# After the above: TensorFlow reads it as it loads.
from trainer.detection.anchors import fit_anchors, lay_anchors
from trainer.detection.decode import select_detections
from trainer.detection.model import build_detector, feature_cells
from trainer.embedding.backbones import find_backbone
from trainer.embedding.model import build_embedder

_DEMO = Path(__file__).resolve().parents[1] / "models" / "demo"
_THREADS = 2
_SIDE, _CROP, _DIMENSION = 640, 224, 64
_NMS_IOU, _TOP_K = 0.6, 100


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--frames", type=int, default=24, help="of ours for one of the article's")
    options = parser.parse_args()
    bundle = load_bundle(_DEMO / "bundle", threads=_THREADS)
    if bundle.detector is None:
        raise UsageError("the demo bundle has no detector")
    always = EmbeddingOptions(1000, 1000, open_every_s=0, moved_every_s=0, rest_every_s=0)
    usual, all_animals = Ours(bundle, EmbeddingOptions()), Ours(bundle, always)
    article = Article(len(bundle.means.animals))
    bare_detector, bare_embedder = (
        bare_invoke(_DEMO / "bundle" / name) for name in (DETECTOR_NAME, EMBEDDER_NAME)
    )
    frames = clip_frames()
    rows = []
    for number in range(options.rounds + 1):
        chunk = list(islice(frames, options.frames))
        image = chunk[-1].image
        animals = bundle.detector.detect(image)
        usual_s, usual_crops = usual.follow(chunk)
        article_s = seconds(lambda image=image, boxes=animals.boxes: article.process(image, boxes))
        all_s, all_crops = all_animals.follow(chunk)
        detector_s = float(np.median([seconds(bare_detector) for _ in chunk]))
        embedder_s = bundle.manifest.embedder.turns * float(
            np.median([seconds(bare_embedder) for _ in chunk])
        )
        # The first round warms up.
        if number:
            rows.append(
                (
                    *(article_s, len(animals)),
                    *(usual_s, usual_crops, detector_s + usual_crops * embedder_s),
                    *(all_s, all_crops, detector_s + all_crops * embedder_s),
                )
            )
    print(f"{len(rows)} rounds, {bundle.backend}, {os.cpu_count()} cores")
    report(np.array(rows))


class Ours:
    """The agent's pipeline with the bundle's models; itself the embedder, to count the crops."""

    def __init__(self, bundle: Bundle, options: EmbeddingOptions) -> None:
        self._embedder = bundle.embedder
        self.size = bundle.embedder.size
        self.dimension = bundle.embedder.dimension
        self.letterbox_colour = bundle.embedder.letterbox_colour
        self._crops = 0
        assert bundle.detector is not None
        self._pipeline = Pipeline(
            bundle.detector, self, bundle.means, PipelineOptions(embedding=options)
        )

    def embed(self, crops: NDArray[np.uint8]) -> Floats:
        """Return unit embeddings (N, D) of crops (N, S, S, 3)."""
        self._crops += len(crops)
        return self._embedder.embed(crops)

    def follow(self, frames: Sequence[Frame]) -> tuple[float, float]:
        """Return seconds and crops a frame of the clip's next frames."""
        self._crops = 0
        took_s = seconds(lambda: [self._pipeline.process(frame) for frame in frames])
        return took_s / len(frames), self._crops / len(frames)


class Article:
    """The article's way from a frame to names, with random weights and means."""

    def __init__(self, animals: int) -> None:
        rng = np.random.default_rng(0)
        # Sides of 20 to 500 pixels: every level of the pyramid owns some, as in its paper.
        sides = np.exp(rng.uniform(np.log(20), np.log(500), (500, 2))).astype(np.float32)
        shapes = fit_anchors(sides, 9, 0, strides=(8, 16, 32, 64, 128))
        size = (_SIDE, _SIDE)
        self._anchors = lay_anchors(shapes, feature_cells(shapes.strides, size), size)
        self._detector = build_detector(
            shapes, 1, input_size=size, backbone="resnet50", pyramid=256, tower=4
        )
        backbone = find_backbone("mobilenet_v2")
        self._pixels = (backbone.pixel_scale, backbone.pixel_offset)
        self._embedder = build_embedder(
            backbone,
            tap="block_10_project_BN",
            input_size=_CROP,
            dimension=_DIMENSION,
            head="flat",
        )
        self._means = rng.normal(size=(animals, _DIMENSION)).astype(np.float32)
        self._threshold = 0.0

    def process(self, image: Image, animals: Floats) -> NDArray[np.int64]:
        """Return the nearest animal (N,) to each of the boxes (N, 4) of a frame (H, W, 3)."""
        target, _ = letterbox(image, (_SIDE, _SIDE))
        encodings, logits = self._detector.predict(target[None].astype(np.float32), verbose=0)
        scores = 1 / (1 + np.exp(-logits[0]))
        if not self._threshold:
            # Random weights have no score to ask for: let a few hundred boxes be suppressed.
            self._threshold = float(np.sort(scores.max(axis=1))[-400])
        select_detections(
            encodings[0],
            scores,
            self._anchors,
            score_threshold=self._threshold,
            nms_iou=_NMS_IOU,
            top_k=_TOP_K,
        )
        crops = np.stack([cut_crop(image, box, _CROP) for box in animals])
        scale, offset = self._pixels
        embeddings = self._embedder.predict(crops * np.float32(scale) + offset, verbose=0)
        distances = np.linalg.norm(embeddings[:, None] - self._means[None], axis=2)
        return distances.argmin(axis=1)


def clip_frames() -> Iterator[Frame]:
    """Yield the demo clip's frames, over and over."""
    return open_source(str(_DEMO / "pen.mp4"), "pen", SourceOptions(loop=True)).frames()


def bare_invoke(path: Path) -> Callable[[], None]:
    """Return the runtime's own `invoke` of a model, on noise."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=_THREADS)
    interpreter.allocate_tensors()
    detail = interpreter.get_input_details()[0]
    noise = np.random.default_rng(0).integers(-128, 128, detail["shape"]).astype(detail["dtype"])
    interpreter.set_tensor(detail["index"], noise)
    invoke: Callable[[], None] = interpreter.invoke
    return invoke


def seconds(run: Callable[[], object]) -> float:
    """Return how long a call took."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def report(rows: Floats) -> None:
    """Print medians of the rounds (R, 8), and each of ours as a ratio to the article's."""
    article, animals, *ours = rows.T
    print(f"{'':36} {'crops':>6} {'ms':>8} {'frames/s':>9} {'times the article':>18}")
    base = float(np.median(article))
    print(f"{'the article':36} {np.median(animals):6.1f} {base * 1e3:8.1f} {1 / base:9.2f}")
    for name, (frame, crops, invokes) in (("ours", ours[:3]), ("ours, all animals", ours[3:])):
        for line, took in ((name, frame), ("  its bare invokes", invokes)):
            value, ratios = float(np.median(took)), article / took
            spread = f"{np.median(ratios):6.0f} ({ratios.min():.0f} to {ratios.max():.0f})"
            figures = f"{np.median(crops):6.1f} {value * 1e3:8.1f} {1 / value:9.2f}"
            print(f"{line:36} {figures} {spread:>18}")


if __name__ == "__main__":
    main()

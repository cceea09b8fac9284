"""Measures the pipeline as devices run it, beside the bare models on the very same tensors."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edge.bench.scenes import Scene, ScriptedDetector
from edge.bench.timing import Clock, Stopwatch, Timed, TimedDetector, TimedModel
from edge.errors import UsageError
from edge.pipeline import EmbeddingOptions, Pipeline, PipelineOptions
from edge.release.bundle import DETECTOR_NAME, EMBEDDER_NAME, SELFTEST_NAME
from edge.release.selftest import load_self_test
from edge.serving import Serving
from edge.vision.detector import Detector
from edge.vision.embedder import Embedder
from edge.vision.runtime import open_model
from edge.vision.types import Frame

# Tracks are confirmed and animals named by then, as they are on any other day.
WARM_UP = 24
_FPS = 10.0
STAGES = (
    "letterbox", "detector invoke", "boxes", "embed", "embedder invoke", "track and name"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Measurement:
    """Times of F frames, milliseconds.

    frame_ms: whole frames. invoke_ms: the bare models on the same tensors. stages_ms: medians by
    stage; "embed" is what it takes beside its model. crops: embedded a frame.
    """

    animals: int
    frame_ms: tuple[float, ...]
    invoke_ms: tuple[float, ...]
    stages_ms: dict[str, float]
    crops: float

    @property
    def median_ms(self) -> float:
        """Median of the whole frames."""
        return float(np.median(self.frame_ms))

    @property
    def p95_ms(self) -> float:
        """95th percentile of the whole frames."""
        return float(np.percentile(self.frame_ms, 95))

    @property
    def median_invoke_ms(self) -> float:
        """Median of the bare models."""
        return float(np.median(self.invoke_ms))

    @property
    def overhead_ratio(self) -> float:
        """Median, over frames, of the whole frame by the bare models on its tensors."""
        return float(np.median(np.array(self.frame_ms) / np.array(self.invoke_ms)))


class Bench:
    """A bundle, served as the agent serves it, and the bare models in this process.

    threads: of one inference, for both.
    """

    def __init__(self, serving: Serving, threads: int, clock: Clock = time.perf_counter) -> None:
        bundle = serving.bundle
        if bundle.detector is None or bundle.manifest.detector is None:
            raise UsageError(f"{bundle.directory}: has no detector; nothing to measure")
        self._bundle, self._watch = bundle, Stopwatch(clock)
        inference = serving.inference
        served = {
            "detector invoke": inference.open(bundle.directory / DETECTOR_NAME),
            "embedder invoke": inference.open(bundle.directory / EMBEDDER_NAME, many=True),
        }
        self.ways = {str(count): way for count, way in served["embedder invoke"].ways.items()}
        self._models = {name: TimedModel(one, name, self._watch) for name, one in served.items()}
        self._bare = {name: open_model(model.path, threads) for name, model in self._models.items()}
        self._detector = Detector(self._models["detector invoke"], bundle.manifest.detector)
        self._embedder = Embedder(self._models["embedder invoke"], bundle.manifest.embedder)
        self._crops = load_self_test(bundle.directory / SELFTEST_NAME).crops

    def measure(
        self, animals: int, size: tuple[int, int], frames: int, *, every_animal: bool = False
    ) -> Measurement:
        """Work through `frames` frames of `size` (height, width) with so many animals.

        every_animal: embed each of them in every frame, whatever is known of it.
        """
        watch = self._watch
        scene = Scene(self._crops, size, animals)
        eye = ScriptedDetector(
            TimedDetector(self._detector, self._models["detector invoke"], watch)
        )
        options = PipelineOptions()
        if every_animal:
            always = EmbeddingOptions(
                max_crops=max(1, animals), open_every_s=0, moved_every_s=0, rest_every_s=0
            )
            options = replace(options, embedding=always)
        pipeline = Pipeline(
            eye, Timed(self._embedder, "embed", "embed", watch), self._bundle.means, options
        )
        whole: list[float] = []
        bare: list[float] = []
        stages: list[dict[str, float]] = []
        crops = 0
        for number in range(WARM_UP + frames):
            image, eye.boxes = scene.frame(number)
            watch.take()
            frame = Frame(image, "bench", number, number / _FPS, None)
            begun_s = watch.clock()
            pipeline.process(frame)
            whole_s = watch.clock() - begun_s
            taken = watch.take()
            fed = {name: model.take() for name, model in self._models.items()}
            begun_s = watch.clock()
            for name, tensors in fed.items():
                for tensor in tensors:
                    self._bare[name].invoke(tensor)
            bare_s = watch.clock() - begun_s
            if number >= WARM_UP:
                whole.append(1000 * whole_s)
                bare.append(1000 * bare_s)
                stages.append(_stages(taken, whole_s))
                crops += len(fed["embedder invoke"])
        medians = {
            name: 1000 * float(np.median([stage[name] for stage in stages])) for name in STAGES
        }
        return Measurement(animals, tuple(whole), tuple(bare), medians, crops / frames)


def _stages(taken: dict[str, float], whole_s: float) -> dict[str, float]:
    """Return seconds by stage, which add up to the whole; "embed" is taken with its model in it."""
    stages = {name: taken.get(name, 0.0) for name in STAGES[:-1]}
    stages["embed"] -= stages["embedder invoke"]
    stages["track and name"] = whole_s - sum(stages.values())
    return stages


def slope_and_base(measurements: Sequence[Measurement]) -> tuple[float, float, float] | None:
    """Return the line through cost against animals: ms an animal, ms without any, and R².

    R² is the share of the variance that the line explains. None for a single count of animals.
    """
    counts = np.array([m.animals for m in measurements], np.float64)
    costs = np.array([m.median_ms for m in measurements])
    if len(set(counts)) < 2:
        return None
    slope, base = np.polyfit(counts, costs, 1)
    left = float(np.square(costs - (slope * counts + base)).sum())
    spread = float(np.square(costs - costs.mean()).sum())
    return float(slope), float(base), 1 - left / spread if spread else 1.0

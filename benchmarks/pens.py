"""Simulated pens: python benchmarks/pens.py [--bundle models/demo/bundle] [--out out/pens].

The bundle's own herd in scenes that taught it nothing: two cameras by day and two by night, 500
frames each at 12 a second. Every tracker is judged on them as `earmark-trainer evaluate tracking`
does, and ours is held against the floors. Clips are drawn once and kept. Exit status 1: a floor
is missed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from edge.comparison import TRACKERS
from edge.files import new_directory
from edge.pipeline import FrameTracker
from edge.release.bundle import load_bundle, read_manifest
from edge.vision.geometry import clip_boxes
from edge.vision.types import Detections, Image
from trainer.commands.evaluate.tracking import print_summary
from trainer.data.herd import Herd, HerdOptions, SessionPlan, write_clip
from trainer.data.herd.options import Light
from trainer.evaluate.tracking import TrueBox
from trainer.evaluate.tracking.follow import shared_trackers
from trainer.evaluate.tracking.outputs import write_evaluation
from trainer.evaluate.tracking.protocol import evaluate, read_clips
from trainer.progress import progress_bar

# Trainings draw with seeds below 10,000. Defaults of tracking were chosen on 41000 and 43000.
SEED = 52_000
FLOORS = {"idf1": 0.90, "track_f1": 0.95}
MOST_WRONG_NAMES_PER_MIN = 1.0
# Of these ours must be the best of the table; of the last two the least is.
COMPARED = ("idf1", "hota", "track_f1", "frame_f1")
COMPARED_LEAST = ("id_switches", "wrong_names_per_min")
_SESSIONS: tuple[tuple[int, Light], ...] = ((1, "day"), (2, "night"), (2, "day"), (1, "night"))


def main() -> int:
    """Draw, evaluate, compare; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path("models/demo/bundle"))
    parser.add_argument("--out", type=Path, default=Path("out/pens"))
    parser.add_argument("--frames", type=int, default=500, help="of each of the four clips")
    parser.add_argument("--seed", type=int, default=SEED, help="of how the animals move")
    parser.add_argument(
        "--true-boxes",
        action="store_true",
        help="in place of the detector: true boxes, 3 %% of them missing, their sides 3 %% off; "
        "tells what is the detector's fault",
    )
    options = parser.parse_args()
    folder = options.out / f"clips-{options.seed}-{options.frames}"
    names = list(draw(folder, options.bundle, options.seed, options.frames))
    clips = read_clips([folder / f"{n}.mp4" for n in names], [folder / f"{n}.json" for n in names])
    bundle = load_bundle(options.bundle)
    left = iter(clips)

    def trackers() -> dict[str, FrameTracker]:
        clip = next(left)
        detector = TrueBoxes(clip.truth.boxes) if options.true_boxes else bundle.detector
        assert detector is not None, "a bundle with a detector"
        return shared_trackers(detector, bundle.embedder, bundle.means, TRACKERS)

    out = options.out / ("report-true-boxes" if options.true_boxes else "report")
    with new_directory(out) as made, progress_bar("following", Console(stderr=True)) as report:
        evaluation = evaluate(clips, bundle.means, trackers, report)
        evaluation.metrics["bundle"] = bundle.manifest.id
        write_evaluation(made, evaluation, title="Simulated pens")
    print_summary(evaluation.metrics, out)
    missed = list(misses(evaluation.metrics["trackers"]))
    print("\n".join(f"missed: {line}" for line in missed) or "all floors hold")
    return 1 if missed else 0


class TrueBoxes:
    """A detector that knows the truth of one clip, and is shown its frames in order."""

    score_threshold = 0.5

    def __init__(self, truth: Sequence[TrueBox]) -> None:
        self._rng = np.random.default_rng(0)
        self._truth: dict[int, list[Sequence[float]]] = {}
        for row in truth:
            if not row.ignored:
                self._truth.setdefault(row.frame, []).append(row.box)
        self._frame = -1
        self._image: Image | None = None
        self._found = Detections.empty()

    def detect(self, image: Image, score_threshold: float | None = None) -> Detections:
        """Return the true boxes of the next frame, or of this one again."""
        if image is not self._image:
            self._image, self._frame = image, self._frame + 1
            self._found = self._seen(image.shape[1], image.shape[0])
        return self._found

    def _seen(self, width: int, height: int) -> Detections:
        boxes = np.array(self._truth.get(self._frame, []), np.float32).reshape(-1, 4)
        boxes = boxes[self._rng.random(len(boxes)) >= 0.03]
        sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
        boxes = clip_boxes(boxes + sides * self._rng.normal(0, 0.03, boxes.shape), width, height)
        count = len(boxes)
        return Detections(boxes, np.full(count, 0.9, np.float32), np.zeros(count, np.int32))


def draw(folder: Path, bundle: Path, seed: int, frames: int) -> Iterator[str]:
    """Yield the clips' names; draw those that are not there yet."""
    recipe = read_manifest(bundle).training.recipe
    herd: Herd | None = None
    folder.mkdir(parents=True, exist_ok=True)
    for number, (camera, light) in enumerate(_SESSIONS):
        name = f"cam{camera}-{light}"
        video, truth = folder / f"{name}.mp4", folder / f"{name}.json"
        if not video.is_file():
            if herd is None:
                animals = recipe["data"]["herd"]["animals"]
                herd = Herd(HerdOptions(animals=animals, seed=recipe["seed"], fps=12.0))
            plan = SessionPlan(name, camera, light, seed + number, frames)
            with progress_bar(f"drawing {name}", Console(stderr=True)) as report:
                write_clip(video, truth, herd, plan, report, crf=18)
        yield name


def misses(trackers: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield what is not as it should be, one line each."""
    ours = trackers["earmark"]
    for name, floor in FLOORS.items():
        if ours[name] < floor:
            yield f"{name} {ours[name]:.3f}, at least {floor} is wanted"
    wrong = ours["wrong_names_per_min"]
    if wrong > MOST_WRONG_NAMES_PER_MIN:
        yield f"wrong_names_per_min {wrong:.2f}, at most {MOST_WRONG_NAMES_PER_MIN} is wanted"
    for other, figures in trackers.items():
        for name in COMPARED if other != "earmark" else ():
            if figures[name] >= ours[name]:
                yield f"{name}: {other} has {figures[name]:.3f}, ours {ours[name]:.3f}"
        for name in COMPARED_LEAST if other != "earmark" else ():
            if figures[name] <= ours[name]:
                yield f"{name}: {other} has {figures[name]:.2f}, ours {ours[name]:.2f}"


if __name__ == "__main__":
    sys.exit(main())

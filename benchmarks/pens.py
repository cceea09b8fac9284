"""Simulated pens: python benchmarks/pens.py [--bundle models/demo/bundle] [--out out/pens].

The bundle's own herd in scenes that taught it nothing: two cameras by day and two by night, 500
frames each at 12 a second. Every tracker is judged on them as `earmark-trainer evaluate tracking`
does, and ours is held against the floors. Clips are drawn once and kept. Exit status 1: a floor
is missed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from edge.release.bundle import read_manifest
from trainer.cli import main as trainer
from trainer.data.herd import Herd, HerdOptions, SessionPlan, write_clip
from trainer.data.herd.options import Light
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
    options = parser.parse_args()
    clips = options.out / f"clips-{options.seed}-{options.frames}"
    names = list(draw(clips, options.bundle, options.seed, options.frames))
    report = options.out / "report"
    trainer(
        [
            *("evaluate", "tracking", "--bundle", str(options.bundle), "--tracker", "all"),
            *("--video", *(str(clips / f"{name}.mp4") for name in names)),
            *("--truth", *(str(clips / f"{name}.json") for name in names)),
            *("--out", str(report)),
        ]
    )
    metrics = msgspec.json.decode((report / "metrics.json").read_bytes())
    missed = list(misses(metrics["trackers"]))
    print("\n".join(f"missed: {line}" for line in missed) or "all floors hold")
    return 1 if missed else 0


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

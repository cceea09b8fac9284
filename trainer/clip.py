"""The demonstration clip: drawn with its truth, then judged through the device's whole pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge.comparison import make_tracker
from edge.demo.truth import load_truth
from edge.draw import annotate
from edge.errors import UsageError
from edge.identity.types import Track
from edge.release.bundle import Bundle
from edge.vision.types import Frame, Image
from trainer.data.herd import Herd, SessionPlan, write_clip
from trainer.evaluate.tracking import evaluate_tracking
from trainer.evaluate.tracking.follow import follow
from trainer.evaluate.tracking.truth import true_boxes
from trainer.progress import Report
from trainer.recipe import Recipe
from trainer.sources import CLIP_SEED, herd_options

TRUTH_NAME = "truth.json"
_OURS = "earmark"


def write_recipe_clip(recipe: Recipe, folder: Path, report: Report) -> None:
    """Draw the recipe's clip into `folder`: a video of the herd and its truth.json."""
    clip = recipe.clip
    if clip is None:
        raise UsageError(f"recipe {recipe.name!r} has no clip")
    herd = Herd(replace(herd_options(recipe), fps=clip.fps))
    plan = SessionPlan(clip.name, clip.camera, clip.light, CLIP_SEED, clip.frames)
    write_clip(folder / f"{clip.name}.mp4", folder / TRUTH_NAME, herd, plan, report)


def evaluate_clip(
    bundle: Bundle, folder: Path, report: Report
) -> tuple[dict[str, Any], Image | None]:
    """Return the tracking figures of the clip in `folder`, and its best frame, annotated."""
    truth = load_truth(folder / TRUTH_NAME)
    if bundle.detector is None:
        raise UsageError(f"{bundle.directory}: has no detector, so it cannot follow animals")
    tracker = make_tracker(_OURS, bundle.detector, bundle.embedder, bundle.means)
    frames = 1 + max(row[0] for row in truth.boxes)
    best = _Best()

    def observe(frame: Frame, tracks: Mapping[str, tuple[Track, ...]]) -> None:
        best.see(frame, tracks[_OURS])
        report(frame.index + 1, frames)

    followed = follow(folder / truth.video, {_OURS: tracker}, observe)
    figures = evaluate_tracking(
        followed.predictions[_OURS], true_boxes(truth), fps=truth.fps, frames=frames
    )
    return figures, best.still


class _Best:
    """Keeps the frame in which most animals have a name, annotated."""

    def __init__(self) -> None:
        self.still: Image | None = None
        self._most = 0

    def see(self, frame: Frame, tracks: tuple[Track, ...]) -> None:
        named = sum(track.seen and track.animal is not None for track in tracks)
        if named > self._most:
            self.still, self._most = annotate(frame.image, tracks), named

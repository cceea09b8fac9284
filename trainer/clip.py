"""The demonstration clip: drawn with its truth, then judged through the device's whole pipeline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from edge.capture import SourceOptions, open_source
from edge.demo.truth import Truth, load_truth
from edge.draw import annotate
from edge.errors import UsageError
from edge.pipeline import Pipeline
from edge.release.bundle import Bundle
from edge.vision.types import Image
from trainer.data.herd import Herd, SessionPlan, write_clip
from trainer.evaluate.tracking import PredictedBox, TrueBox, evaluate_tracking
from trainer.progress import Report
from trainer.recipe import Recipe
from trainer.sources import CLIP_SEED, herd_options

TRUTH_NAME = "truth.json"
# Less of an animal than this is asked of nobody.
_LEAST_VISIBLE_PERCENT = 20


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
    pipeline = Pipeline(bundle.detector, bundle.embedder, bundle.means)
    source = open_source(str(folder / truth.video), truth.camera, SourceOptions())
    frames = 1 + max(row[0] for row in truth.boxes)
    predictions: list[PredictedBox] = []
    still, most = None, 0
    for frame in source.frames():
        result = pipeline.process(frame)
        seen = [track for track in result.tracks if track.seen]
        predictions += [
            PredictedBox(frame.index, track.id, track.animal, track.box.tolist()) for track in seen
        ]
        named = sum(track.animal is not None for track in seen)
        if named > most:
            still, most = annotate(frame.image, result.tracks), named
        report(frame.index + 1, frames)
    figures = evaluate_tracking(predictions, true_boxes(truth), fps=truth.fps, frames=frames)
    return figures, still


def true_boxes(truth: Truth) -> list[TrueBox]:
    """Return the truth as tracking figures want it; animals that are all but hidden are ignored."""
    return [
        TrueBox(
            frame, truth.animals[animal], (x1, y1, x2, y2), ignored=visible < _LEAST_VISIBLE_PERCENT
        )
        for frame, animal, x1, y1, x2, y2, visible in truth.boxes
    ]

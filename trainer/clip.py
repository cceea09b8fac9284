"""The demonstration clip: drawn with its truth, then judged through the device's whole pipeline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edge.capture import open_source
from edge.demo.truth import load_truth
from edge.draw import annotate
from edge.errors import UsageError
from edge.pipeline import Pipeline
from edge.release.bundle import Bundle
from edge.vision.types import Image
from trainer.data.herd import Herd, SessionPlan, write_clip
from trainer.evaluate.tracking import evaluate_tracking
from trainer.progress import Report
from trainer.recipe import Recipe
from trainer.sources import CLIP_SEED, herd_options

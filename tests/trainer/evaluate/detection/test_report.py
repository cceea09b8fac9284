from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edge.vision.types import Detections
from trainer.data.frames import FrameSet
from trainer.evaluate.detection import detection_figures, findings
from trainer.evaluate.detection.report import detection_page

Toy = tuple[list[Detections], list[np.ndarray], list[np.ndarray]]


@pytest.fixture
def figures(toy: Toy, toy_frames: FrameSet) -> dict[str, Any]:
    judged = findings(toy[0], toy_frames, 0.6)
    return {
        **detection_figures(judged, toy_frames, draws=50),
        "warnings": ["<mind> this"],
        "threshold_of": "--score",
    }


def test_the_page_says_what_was_asked_and_what_came_out(figures: dict[str, Any]) -> None:
    page = detection_page("<toy>", figures, {"counts.png": b"\x89PNG"})
    assert "<h1>&lt;toy&gt;</h1>" in page
    assert "&lt;mind&gt; this" in page
    assert "3 animals in 2 frames of 2 sessions. Score threshold 0.6 (--score)" in page
    assert "0.667 – 1.000" in page  # precision by session
    assert "nan" not in page
    assert page.count("<img") == 1
    # The worse session first.
    assert page.index("<td>day</td>") < page.index("<td>night</td>")
    assert "float" not in page
    assert "By class" not in page


def test_a_float_twin_has_a_column(toy: Toy, toy_frames: FrameSet) -> None:
    judged = findings(toy[0], toy_frames, 0.6)
    both = detection_figures(judged, toy_frames, twin=judged, draws=5)
    page = detection_page("toy", {**both, "warnings": [], "threshold_of": "device"}, {})
    assert "<th>float</th>" in page
    assert "AP lost by int8" in page


def test_a_session_without_animals_comes_last(grey_frames: Callable[..., FrameSet]) -> None:
    frames = grey_frames([[], [(0, 0, 10, 10)]], sessions=["empty", "pen"])
    judged = findings([Detections.empty()] * 2, frames, 0.5)
    figures = {**detection_figures(judged, frames), "warnings": [], "threshold_of": "device"}
    page = detection_page("toy", figures, {})
    assert page.index("<td>pen</td>") < page.index("<td>empty</td>")
    assert "nan" not in page

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.bench import Measurement, slope_and_base
from edge.bench.budgets import Budget, matching_ms, tracker_ms
from edge.bench.measure import STAGES, _stages
from edge.bench.picture import cost_picture
from edge.bench.timing import Stopwatch, Timed, TimedDetector, TimedModel
from edge.memory import family, resident_mb


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def measured(animals: int, frame: list[float], bare: list[float]) -> Measurement:
    return Measurement(animals, tuple(frame), tuple(bare), {}, 0.0)


def test_medians_and_the_ratio_of_each_frame() -> None:
    one = measured(3, [10, 12, 30], [10, 10, 10])
    assert (one.median_ms, one.median_invoke_ms) == (12, 10)
    assert one.p95_ms == pytest.approx(28.2)
    # Of each frame by its own tensors: 1, 1.2, 3.
    assert one.overhead_ratio == pytest.approx(1.2)


def test_the_line_through_costs() -> None:
    rows = [measured(n, [5 + 2 * n], [1.0]) for n in (1, 5, 10)]
    line = slope_and_base(rows)
    assert line is not None
    slope, base, fit = line
    assert (slope, base, fit) == pytest.approx((2, 5, 1))
    crooked = [measured(1, [1], [1]), measured(2, [9], [1]), measured(3, [1], [1])]
    crooked_line = slope_and_base(crooked)
    assert crooked_line is not None
    assert crooked_line[2] == pytest.approx(0, abs=1e-9)
    # A single count of animals has no slope.
    assert slope_and_base(rows[:1]) is None


def test_a_budget_that_could_not_be_measured_is_not_kept() -> None:
    assert Budget("a", 1.0, 1.0, "ms").kept
    assert not Budget("a", 1.01, 1.0, "ms").kept
    assert not Budget("a", math.nan, 1.0, "ms").kept


def test_clocks_add_up_until_they_are_taken() -> None:
    clock = Clock()
    watch = Stopwatch(clock)

    class Model:
        path, backend, input, outputs = Path("m"), "b", None, ()

        def invoke(self, tensor: np.ndarray) -> dict[str, Any]:
            clock.now += 2
            return {"seen": tensor}

        def invoke_many(self, tensors: np.ndarray) -> dict[str, Any]:
            clock.now += 3
            return {"seen": tensors}

    model = TimedModel(Model(), "net", watch)  # type: ignore[arg-type]
    model.invoke(np.zeros((1, 4)))
    model.invoke_many(np.ones((3, 4)))
    assert watch.take() == {"net": 5}
    assert watch.take() == {}
    fed = model.take()
    assert [tensor.shape for tensor in fed] == [(1, 4)] * 4
    assert [float(tensor[0, 0]) for tensor in fed] == [0, 1, 1, 1]
    assert model.take() == []

    class Eye:
        size = 7

        def detect(self, seconds: float) -> float:
            clock.now += seconds
            if seconds > 5:
                raise ValueError("blind")
            return seconds

    eye = Timed(Eye(), "detect", "eye", watch)
    assert eye.size == 7
    assert eye.detect(4) == 4
    with pytest.raises(ValueError, match="blind"):
        eye.detect(6)
    assert watch.take() == {"eye": 10}


def process(proc: Path, pid: int, parent: int, pss: int) -> None:
    (proc / str(pid)).mkdir()
    (proc / str(pid) / "stat").write_text(f"{pid} (a (b) c) S {parent} 1 1 0")
    (proc / str(pid) / "smaps_rollup").write_text(f"Rss: {2 * pss} kB\nPss:   {pss} kB\n")


def test_memory_of_a_process_and_all_below_it(tmp_path: Path) -> None:
    for pid, parent, pss in ((10, 1, 1024), (11, 10, 2048), (12, 11, 512), (20, 1, 9999)):
        process(tmp_path, pid, parent, pss)
    assert family(10, tmp_path) == [10, 11, 12]
    assert resident_mb(10, tmp_path) == (3.5, 7.0)
    (tmp_path / "12" / "smaps_rollup").unlink()  # ended meanwhile
    assert resident_mb(10, tmp_path) == (3.0, 6.0)
    assert resident_mb(os.getpid())[0] > 5


def test_the_picture_shows_both_lines() -> None:
    rows = [measured(n, [5.0 + n, 6.0 + n], [1.0, 1.0]) for n in (1, 10, 50)]
    picture = cost_picture({"usual": rows, "all": rows[:2]})
    assert picture.shape == (540, 860, 3)
    for colour in ((31, 119, 180), (214, 90, 20)):
        assert (picture == colour).all(axis=2).sum() > 100


def test_budgets_that_need_no_model_are_measured() -> None:
    assert 0 < matching_ms(200) < math.inf
    assert 0 < tracker_ms(5) < math.inf


def test_clocks_before_and_after_the_detectors_model() -> None:
    clock = Clock()
    watch = Stopwatch(clock)

    class Model:
        def invoke(self, tensor: np.ndarray) -> dict[str, Any]:
            clock.now += 7
            return {}

    model = TimedModel(Model(), "detector invoke", watch)  # type: ignore[arg-type]

    class Eye:
        score_threshold = 0.4

        def detect(self, image: np.ndarray, score_threshold: float | None = None) -> str:
            clock.now += 2
            model.invoke(image)
            clock.now += 3
            return f"found at {score_threshold}"

    eye = TimedDetector(Eye(), model, watch)  # type: ignore[arg-type]
    assert eye.score_threshold == 0.4
    assert eye.detect(np.zeros((1, 4, 4, 3)), 0.2) == "found at 0.2"
    assert watch.take() == {"letterbox": 2, "detector invoke": 7, "boxes": 3}


def test_stages_add_up_to_the_frame() -> None:
    taken = {
        "letterbox": 2.0, "detector invoke": 7.0, "boxes": 3.0,
        "embed": 6.0, "embedder invoke": 5.0,
    }  # fmt: skip
    stages = _stages(taken, 20.0)
    assert tuple(stages) == STAGES
    assert stages["embed"] == 1
    assert stages["track and name"] == 2
    assert sum(stages.values()) == 20

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.identity.means import ClassMeans
from trainer.data.folders import read_herd
from trainer.evaluate.identification_report import frames_table, identification_page, measures_table
from trainer.evaluate.protocol import Evaluation, Protocol, evaluate

PICTURE = b"\x89PNG picture"


@pytest.fixture
def evaluation(
    draw_crops: Callable[..., Path],
    colour_means: ClassMeans,
    colour_embedder: Callable[..., Any],
) -> Evaluation:
    query = read_herd(
        [draw_crops("q", {"red/s_1": "red", "red/t_1": "green", "green/s_1": "green"})]
    )
    unknown = read_herd([draw_crops("u", {"<i>x/s_1": "red", "y/s_1": "grey"})])
    return evaluate(Protocol(query, unknown=unknown), colour_embedder(), colour_means, draws=20)


def test_the_page_tells_warnings_figures_mistakes_and_strangers(evaluation: Evaluation) -> None:
    figures = evaluation.metrics
    figures["warnings"] = ["sessions on <both> sides"]
    text = identification_page(
        "a & b", figures, evaluation.asked, {"confusion.png": PICTURE}, {"red": 0.25}
    )
    assert "sessions on &lt;both&gt; sides" in text
    assert "a &amp; b" in text
    assert "<i>" not in text
    assert "Named wrongly: 2 of 5 crops" in text
    assert "red (1)" in text
    assert "0.250" in text
    assert "Who was taken for whom" in text
    # What was not drawn is not spoken of.
    assert "Mean space" not in text
    assert "int8 beside float" not in text
    assert "Newcomers, enrolled" not in text


def test_what_is_undefined_has_no_line(evaluation: Evaluation) -> None:
    text = measures_table(evaluation.metrics)
    assert "macro F1, nearest animal" in text
    assert "newcomers" not in text
    assert "bootstrap over sessions" in text
    assert "bootstrap" not in measures_table({**evaluation.metrics, "intervals": {}})


def test_frames_stand_only_where_there_are_sessions(evaluation: Evaluation) -> None:
    assert frames_table({}) == ""
    assert "<td>30</td>" in frames_table(evaluation.metrics)

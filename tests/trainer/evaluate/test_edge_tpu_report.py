from __future__ import annotations

from typing import Any

from trainer.evaluate.edge_tpu_report import edge_tpu_section


def model(compiler: dict[str, Any] | None, compiled: bool = False) -> dict[str, Any]:
    return {
        "mapped": 30,
        "total": 33,
        "parameters_bytes": 2048,
        "compiled": compiled,
        "cpu_operators": [{"name": "DEQUANTIZE", "why": "works on <float32>", "count": 2}],
        "compiler": compiler,
    }


def test_without_a_compiler_the_section_says_so() -> None:
    text = "".join(edge_tpu_section({"detector": model(None)}))
    assert "was not on PATH" in text
    for cell in ("detector", "30", "33", "2", "no", "DEQUANTIZE: works on &lt;float32&gt;"):
        assert f"<td>{cell}</td>" in text
    assert "says" not in text


def test_what_the_compiler_counted_stands_beside_the_forecast() -> None:
    answer = {"mapped": 29, "on_cpu": 4, "error": ""}
    text = "".join(edge_tpu_section({"detector": model(answer, compiled=True)}))
    assert "edgetpu_compiler says" in text
    assert "<td>29</td><td>4</td>" in text
    assert "<td>yes</td>" in text
    assert "not on PATH" not in text
    assert "Warning" not in text


def test_a_failure_is_a_warning() -> None:
    answer = {"mapped": None, "on_cpu": None, "error": "x: failed <badly>"}
    text = "".join(edge_tpu_section({"embedder": model(answer)}))
    assert "x: failed &lt;badly&gt;" in text
    assert "Warning" in text

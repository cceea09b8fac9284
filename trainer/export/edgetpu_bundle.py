"""The models of a bundle folder and the Edge TPU: a report on each, and its compiled form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge.files import write_atomically
from edge.release.bundle import COMPILED
from trainer.export.edgetpu import EdgeTpuReport, as_metrics, inspect
from trainer.export.edgetpu_compile import (
    ABSENT,
    CompilerError,
    compile_for_edgetpu,
    find_compiler,
    log_name,
)
from trainer.export.tflite_graph import read_graph


def add_compiled_models(
    folder: Path, warn: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Compile the models in a bundle folder where the compiler is at hand, and report on each.

    A compiled file goes beside the plain one with its log; one that lies there already stays. A
    model that cannot be compiled is no failure: the bundle works without. warn: is told why
    something is not compiled, in one line.

    Returns, by model (`detector`, `embedder`), `as_metrics` with `compiler`: what the compiler
    said, None when it was not asked.
    """
    compiler = find_compiler()
    metrics: dict[str, Any] = {}
    for name, (plain, _) in COMPILED.items():
        model, out = folder / plain, folder / name
        if not model.is_file():
            continue
        report = report_on(model)
        answer = None
        if compiler is not None and not out.exists():
            try:
                done = compile_for_edgetpu(model, out, compiler=compiler)
                log, answer = done.log, {"mapped": done.on_tpu, "on_cpu": done.on_cpu, "error": ""}
            except CompilerError as error:
                warn(str(error))
                log, answer = error.log, {"mapped": None, "on_cpu": None, "error": str(error)}
            write_atomically(folder / log_name(name), log.encode())
        metrics[model.stem] = as_metrics(report, compiled=out.is_file()) | {"compiler": answer}
    if compiler is None and not all(figures["compiled"] for figures in metrics.values()):
        warn(ABSENT)
    return metrics


def report_on(model: Path) -> EdgeTpuReport:
    """Return where every operator of a TFLite file would run; UsageError names the file."""
    return inspect(read_graph(model.read_bytes(), str(model)), str(model))

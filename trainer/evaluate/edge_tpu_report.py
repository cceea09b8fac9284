"""What of a bundle's models runs on a Coral Edge TPU, as a part of a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from trainer.evaluate import page


def edge_tpu_section(models: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    """Return HTML parts. models: by name, as `add_compiled_models` reports on them."""
    yield "<h2>On a Coral Edge TPU</h2>"
    yield page.table(
        ("model", "operators on it", "of", "parameters, KiB", "compiled"),
        [
            (
                name,
                figures["mapped"],
                figures["total"],
                f"{figures['parameters_bytes'] / 1024:.0f}",
                "yes" if figures["compiled"] else "no",
            )
            for name, figures in models.items()
        ],
    )
    if any(figures["compiler"] for figures in models.values()):
        yield from _answers(models)
    else:
        yield (
            "<p class=note>Foretold from Google's table of supported operators; edgetpu_compiler "
            "was not on PATH.</p>"
        )
    rows = [
        (f"{row['name']}: {row['why']}", name, row["count"])
        for name, figures in models.items()
        for row in figures["cpu_operators"]
    ]
    if rows:
        yield page.table(("stays on the CPU", "model", "operators"), rows)


def _answers(models: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    """Say what the compiler itself counted, or why it failed."""
    yield page.table(
        ("edgetpu_compiler says", "on the Edge TPU", "on the CPU"),
        [
            (name, figures["compiler"]["mapped"], figures["compiler"]["on_cpu"])
            for name, figures in models.items()
            if figures["compiler"]
        ],
    )
    yield page.warnings(
        figures["compiler"]["error"]
        for figures in models.values()
        if figures["compiler"] and figures["compiler"]["error"]
    )

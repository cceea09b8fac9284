"""`earmark-edge bench`: what a frame costs on this device, and where its time goes."""

from __future__ import annotations

import argparse
import json
import logging
import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.commands.options import Commands, add_verbose
from edge.errors import EarmarkError, UsageError

if TYPE_CHECKING:
    from edge.bench import Measurement
    from edge.bench.budgets import Budget

_BUDGET_ANIMALS = 16
_START_LIMIT_S = 120.0
_MOST_THREADS = 64  # as in agent.yaml
_MOST_ANIMALS = 1000
_LEAST_SIDE, _MOST_SIDE = 64, 8192
_LOG = logging.getLogger(__name__)


def add_parser(commands: Commands) -> None:
    """Add the command to those of `earmark-edge`."""
    bench = commands.add_parser("bench", help="measure what a frame costs on this device")
    bench.add_argument("--bundle", type=Path, metavar="DIR", help="the demo's without one")
    bench.add_argument(
        "--source", metavar="VIDEO", help="for the time to the first name; the demo's clip"
    )
    threads, animals = _counts(_MOST_THREADS), _counts(_MOST_ANIMALS)
    bench.add_argument("--threads", type=threads, default=(2,), metavar="N,…", help="2, or 1,2")
    bench.add_argument("--animals", type=animals, default=(1, 5, 10, 16, 25, 50), metavar="N,…")
    bench.add_argument("--size", type=_size, default=(1080, 1920), metavar="WxH")
    bench.add_argument("--frames", type=int, default=60, metavar="N", help="of each measurement")
    bench.add_argument("--accelerator", default="auto", help="as in agent.yaml")
    bench.add_argument(
        "--budgets", action="store_true", help="hold the figures against a device's budgets"
    )
    bench.add_argument("--out", type=Path, metavar="DIR", help="bench.json and cost.png go there")
    bench.add_argument("--json", action="store_true", help="print bench.json instead of tables")
    add_verbose(bench)
    bench.set_defaults(run=_bench)


def _counts(most: int) -> Callable[[str], tuple[int, ...]]:
    def counts(text: str) -> tuple[int, ...]:
        try:
            found = tuple(int(part) for part in text.split(","))
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r}: whole numbers, such as 1,2") from error
        if any(not 1 <= count <= most for count in found):
            raise argparse.ArgumentTypeError(f"{text!r}: numbers from 1 to {most}")
        return found

    return counts


def _size(text: str) -> tuple[int, int]:
    width, mark, height = text.partition("x")
    if not (mark and width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text!r}: width and height, such as 1920x1080")
    if not all(_LEAST_SIDE <= int(side) <= _MOST_SIDE for side in (width, height)):
        raise argparse.ArgumentTypeError(
            f"{text!r}: sides from {_LEAST_SIDE} to {_MOST_SIDE} pixels"
        )
    return int(height), int(width)


def _bench(options: argparse.Namespace) -> int:
    from edge.bench import Bench
    from edge.bench.picture import cost_picture
    from edge.serving import serve_bundle

    if options.frames < 1:
        raise UsageError(f"--frames {options.frames}: give 1 or more")
    directory, source = options.bundle, options.source
    if directory is None or source is None:
        from edge.demo.run import find_assets

        assets = find_assets()
        directory, source = directory or assets / "bundle", source or str(assets / "pen.mp4")
    animals = sorted({*options.animals, _BUDGET_ANIMALS})
    by_threads: dict[int, dict[str, list[Measurement]]] = {}
    # First, and in processes of its own: nothing else of this one shall count.
    facts: dict[str, Any] = {
        "memory": _memory(directory, source, options.accelerator, max(options.threads))
    }
    for threads in options.threads:
        serving = serve_bundle(directory, accelerator=options.accelerator, threads=threads)
        try:
            facts["backend"] = serving.inference.backend
            bench = Bench(serving, threads)
            by_threads[threads] = {
                name: [
                    bench.measure(count, options.size, options.frames, every_animal=every)
                    for count in animals
                ]
                for name, every in (("usual", False), ("every animal, every frame", True))
            }
            facts["crops_go"] = bench.ways
        finally:
            serving.inference.close()
    facts["start_s"], facts["first_name_s"] = _start(directory, source, max(options.threads))
    report = _report(by_threads, facts, options)
    budgets = _budgets(report) if options.budgets else ()
    if budgets:
        report["budgets"] = [_line(budget) for budget in budgets]
    if options.out is not None:
        _write(report, cost_picture(by_threads[max(by_threads)]), options.out)
    if options.json:
        print(json.dumps(report, indent=1))
    else:
        _show(by_threads, report)
    _show_budgets(budgets, quiet=options.json)
    return 0 if all(budget.kept for budget in budgets) else 1


def _memory(directory: Path, source: str, accelerator: str, threads: int) -> dict[str, Any] | None:
    """Return the memory of an agent at work, by figure; None and a log line where it did not."""
    from edge.bench.memory import agent_memory

    try:
        found = agent_memory(directory, source, accelerator=accelerator, threads=threads)
    except EarmarkError as error:
        _LOG.warning("the memory could not be measured: %s", error)
        return None
    return asdict(found)


def _start(directory: Path, source: str, threads: int) -> tuple[float | None, float | None]:
    """Return seconds from the start of a fresh process to its first frame and its first name.

    None for what did not come; why is logged.
    """
    command = [sys.executable, "-m", "edge.bench.start", str(directory), source, str(threads)]
    try:
        done = subprocess.run(
            [*command, repr(time.monotonic())],
            capture_output=True, text=True, timeout=_START_LIMIT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        _LOG.warning("%s: no animal named within %g s", source, _START_LIMIT_S)
        return None, None
    try:
        first_s, named_s = (float(part) for part in done.stdout.split())
    except ValueError:
        words = done.stderr.strip().splitlines() or [f"ended with code {done.returncode}"]
        _LOG.warning("the start could not be measured: %s", words[-1])
        return None, None
    return _number(first_s), _number(named_s)


def _number(value: float) -> float | None:
    """Return a value, or None for one that JSON has no word for."""
    return value if math.isfinite(value) else None


def _report(
    by_threads: dict[int, dict[str, list[Measurement]]],
    facts: dict[str, Any],
    options: argparse.Namespace,
) -> dict[str, Any]:
    from edge.bench import slope_and_base

    threads = max(by_threads)
    usual, every = by_threads[threads].values()
    main = next(one for one in usual if one.animals == _BUDGET_ANIMALS)
    slope, base, fit = slope_and_base(every) or (None, None, None)
    return {
        "fps": 1000 / main.median_ms,
        "frame_ms_p50": main.median_ms,
        "frame_ms_p95": main.p95_ms,
        "invoke_ms_p50": main.median_invoke_ms,
        "overhead_ratio": main.overhead_ratio,
        "stages_ms": main.stages_ms,
        "animals": main.animals,
        "size": [options.size[1], options.size[0]],
        "frames": options.frames,
        "threads": threads,
        **facts,
        "ms_an_animal": slope,
        "ms_without_animals": base,
        "linear_fit_r2": fit,
        "by_animals": {
            name: [_row(one) for one in rows] for name, rows in by_threads[threads].items()
        },
        "by_threads": {
            str(count): _row(next(m for m in series["usual"] if m.animals == _BUDGET_ANIMALS))
            for count, series in by_threads.items()
        },
    }


def _row(one: Measurement) -> dict[str, Any]:
    return {
        "animals": one.animals,
        "frame_ms_p50": one.median_ms,
        "frame_ms_p95": one.p95_ms,
        "invoke_ms_p50": one.median_invoke_ms,
        "overhead_ratio": one.overhead_ratio,
        "crops_a_frame": one.crops,
        "stages_ms": one.stages_ms,
    }


def _write(report: dict[str, Any], picture: Any, out: Path) -> None:
    import cv2

    from edge.files import write_atomically

    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "bench.json", (json.dumps(report, indent=1) + "\n").encode())
    _, data = cv2.imencode(".png", picture[..., ::-1])
    write_atomically(out / "cost.png", data.tobytes())


def _show(by_threads: dict[int, dict[str, list[Measurement]]], report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from edge.bench.measure import STAGES

    console = Console()
    for threads, series in by_threads.items():
        for name, rows in series.items():
            # A terminal of 80 columns shows every figure whole.
            title = f"{name}; {threads} threads, {report['backend']}; milliseconds"
            table = Table(title=title, box=None, padding=(0, 0, 0, 1))
            for heading in (
                *("animals", "crops", "frame", "p95", "bare", "ratio"),
                *("letter", "model", "boxes", "embed", "model", "rest"),
            ):
                table.add_column(heading, justify="right", no_wrap=True)
            for one in rows:
                parts = (f"{one.stages_ms[stage]:.2f}" for stage in STAGES)
                table.add_row(
                    str(one.animals), f"{one.crops:.1f}", f"{one.median_ms:.2f}",
                    f"{one.p95_ms:.2f}", f"{one.median_invoke_ms:.2f}",
                    f"{one.overhead_ratio:.2f}", *parts,
                )  # fmt: skip
            console.print(table)
    console.print(
        f"{report['fps']:.1f} frames/s with {report['animals']} animals; first frame after "
        f"{_seconds(report['start_s'])}, first name after {_seconds(report['first_name_s'])}"
    )
    console.print(_memory_line(report["memory"]))
    ways = ", ".join(f"{count}: {way}" for count, way in report["crops_go"].items())
    console.print(f"so many crops go through the embedder, as measured at the start: {ways}")
    if report["backend"].startswith("cpu (tflite-runtime"):
        console.print("tflite-runtime is some thirty times slower for int8 on x86-64: see runtime")


def _memory_line(memory: dict[str, Any] | None) -> str:
    if memory is None:
        return "memory: no measurement"
    width, height = memory["size"]
    return (
        f"memory of an agent with one network camera of {width}x{height}: "
        f"{memory['alone_mb']:.0f} MB; resident {memory['agent_rss_mb']:.0f} agent, "
        f"{memory['inference_rss_mb']:.0f} inference, {memory['ffmpeg_rss_mb']:.0f} ffmpeg, "
        "libraries that they share counted in each"
    )


def _budgets(report: dict[str, Any]) -> Sequence[Budget]:
    from edge.bench import budgets

    return (
        budgets.Budget(
            f"whole frame by bare models, {report['animals']} animals, "
            f"{'x'.join(map(str, report['size']))}",
            report["overhead_ratio"], budgets.OVERHEAD_RATIO, "",
        ),
        budgets.Budget(
            "matching against 10,000 prototypes", budgets.matching_ms(), budgets.MATCHING_MS, "ms"
        ),
        budgets.Budget(
            "tracker, 50 detections by 50 tracks", budgets.tracker_ms(), budgets.TRACKER_MS, "ms"
        ),
        budgets.Budget(
            "memory at work, one network camera",
            math.nan if report["memory"] is None else report["memory"]["alone_mb"],
            budgets.MEMORY_MB, "MB",
        ),
        budgets.Budget(
            "start to the first name",
            math.nan if report["first_name_s"] is None else report["first_name_s"],
            budgets.START_S, "s",
        ),
    )  # fmt: skip


def _line(budget: Budget) -> dict[str, Any]:
    return {
        "name": budget.name,
        "figure": _number(budget.figure),
        "limit": budget.limit,
        "unit": budget.unit,
        "kept": budget.kept,
    }


def _seconds(value: float | None) -> str:
    return "no measurement" if value is None else f"{value:.1f} s"


def _show_budgets(found: Sequence[Budget], *, quiet: bool) -> None:
    if quiet:
        return
    for budget in found:
        verdict = "kept" if budget.kept else "MISSED"
        print(f"{budget.name:50} {budget.figure:8.2f} of {budget.limit:g} {budget.unit} {verdict}")

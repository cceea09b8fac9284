"""`earmark-trainer edgetpu`: what of a TFLite model runs on a Coral Edge TPU; no TensorFlow."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.errors import UsageError
from trainer.commands.options import Commands, add_verbose

if TYPE_CHECKING:
    from trainer.export.edgetpu import EdgeTpuReport


def add_parser(commands: Commands) -> None:
    """Add the command to those of `earmark-trainer`."""
    edgetpu = commands.add_parser("edgetpu", help="say what of a model runs on a Coral Edge TPU")
    edgetpu.add_argument("model", type=Path, metavar="MODEL.tflite")
    edgetpu.add_argument("--json", type=Path, metavar="FILE", help="write the report there as well")
    edgetpu.add_argument(
        "--compile",
        action="store_true",
        help="compile it, with the edgetpu_compiler on PATH; needs --out",
    )
    edgetpu.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where MODEL_edgetpu.tflite and MODEL_edgetpu.log go",
    )
    add_verbose(edgetpu)
    edgetpu.set_defaults(command=_edgetpu)


def summary(model: str, figures: Mapping[str, Any]) -> str:
    """Return a line on a model's figures, as `add_compiled_models` gives them."""
    line = (
        f"Edge TPU, {model}: {figures['mapped']} of {figures['total']} operators, "
        f"{_size(figures['parameters_bytes'])} of parameters"
    )
    return line + (", compiled" if figures["compiled"] else ", not compiled")


def _edgetpu(options: argparse.Namespace) -> int:
    import msgspec

    from edge.files import write_atomically
    from trainer.commands.means.work import warn
    from trainer.export.edgetpu import as_metrics
    from trainer.export.edgetpu_bundle import report_on
    from trainer.export.edgetpu_compile import ABSENT, find_compiler

    if options.compile != (options.out is not None):
        raise UsageError("--compile and --out DIR go together")
    if not options.model.is_file():
        raise UsageError(f"{options.model}: no such file")
    report = report_on(options.model)
    _print_report(report, options.model)
    compiled = False
    if options.compile:
        compiled = _compile(options.model, options.out)
    elif find_compiler() is None:
        warn(ABSENT)
    if options.json is not None:
        figures = {
            "model": str(options.model),
            **as_metrics(report, compiled=compiled),
            "operators": report.operators,
        }
        data = msgspec.json.format(msgspec.json.encode(figures), indent=1) + b"\n"
        write_atomically(options.json, data)
        print(f"report {options.json}")
    return 0


def _compile(model: Path, out: Path) -> bool:
    """Compile a model into a folder, its log beside it; False when there is no compiler."""
    from edge.files import write_atomically
    from trainer.commands.means.work import warn
    from trainer.export.edgetpu_compile import (
        ABSENT,
        CompilerError,
        compile_for_edgetpu,
        compiled_name,
        find_compiler,
        log_name,
    )

    compiler = find_compiler()
    if compiler is None:
        warn(ABSENT)
        return False
    target = out / compiled_name(model.name)
    log = out / log_name(target.name)
    for path in (target, log):
        if path.exists():
            raise UsageError(f"{path}: exists; choose another --out")
    try:
        done = compile_for_edgetpu(model, target, compiler=compiler)
    except CompilerError as error:
        write_atomically(log, error.log.encode())
        raise
    write_atomically(log, done.log.encode())
    counts = "" if done.on_tpu is None else f": {done.on_tpu} operators on the Edge TPU"
    counts += "" if done.on_cpu is None else f", {done.on_cpu} on the CPU"
    print(f"compiled {target}{counts}")
    return True


def _print_report(report: EdgeTpuReport, model: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from trainer.export.edgetpu import SRAM_BYTES

    console = Console()
    remarks = [row.why or row.caution for row in report.operators]
    # In the order in which they occur.
    numbers = {text: number for number, text in enumerate(dict.fromkeys(filter(None, remarks)), 1)}
    table = Table("#", "operator", "output", "runs on", box=None, title=str(model))
    table.columns[0].justify = "right"
    for row, (operator, remark) in enumerate(zip(report.operators, remarks, strict=True)):
        shape = "?" if operator.shape is None else "×".join(map(str, operator.shape))
        where = "Edge TPU" if operator.mapped else "CPU"
        table.add_row(
            str(row),
            operator.name,
            f"{operator.dtype} {shape}".strip(),
            f"{where} ({numbers[remark]})" if remark else where,
        )
    console.print(table, soft_wrap=True)
    print(f"{report.mapped} of {len(report.operators)} operators would run on the Edge TPU")
    for count_on, title in ((report.on_cpu(), "on the CPU"), (report.cautions(), "not certain")):
        for name, text, count in count_on:
            print(f"  ({numbers[text]}) {count} × {name}, {title}: {text}")
    print(
        f"parameters: {_size(report.parameters_bytes)} of the chip's {_size(SRAM_BYTES)}, which "
        "the compiled program shares: "
        + ("they stay there" if report.fits else "the rest is sent again for every image")
    )


def _size(number: int) -> str:
    return f"{number / (1 << 20):.2f} MiB" if number >= 1 << 20 else f"{number / 1024:.1f} KiB"

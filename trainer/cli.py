"""`earmark-trainer`: what runs on the workstation."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from edge import __version__
from edge.console import run_command
from edge.errors import UsageError

PROG = "earmark-trainer"


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    # TensorFlow's notes on its own start-up say nothing to a user.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    code: int = options.command(options)
    return code


def entry() -> None:
    """Console script."""
    sys.exit(run_command(main, PROG))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROG, description="Trains what barn devices run: detector, embedder, class means."
    )
    parser.add_argument("--version", action="version", version=f"{PROG} {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="make a bundle and its report from a recipe")
    run.add_argument("recipe", type=Path, metavar="RECIPE.yaml")
    run.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to make")
    run.add_argument("--data", type=Path, metavar="DIR", help="images the recipe's paths refer to")
    run.add_argument(
        "--weights", type=Path, metavar="FILE", help="pretrained backbone, a local Keras file"
    )
    run.add_argument(
        "--keep-data", action="store_true", help="keep a simulated herd's images in DIR/data"
    )
    _add_verbose(run)
    run.set_defaults(command=_run)

    simulate = commands.add_parser("simulate", help="draw a pen of animals, with the truth")
    simulate.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to make")
    simulate.add_argument("--animals", type=int, default=16, metavar="N")
    simulate.add_argument(
        "--frames", type=int, default=240, metavar="N", help="of each light and camera"
    )
    simulate.add_argument(
        "--seed", type=int, default=0, metavar="S", help="another seed: another herd"
    )
    simulate.add_argument(
        "--sprites", type=Path, metavar="CROPS", help="real coats: a folder of crops per animal"
    )
    _add_verbose(simulate)
    simulate.set_defaults(command=_simulate)
    return parser


def _add_verbose(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--verbose", action="store_true", help="show tracebacks")


def _run(options: argparse.Namespace) -> int:
    from rich.console import Console

    from trainer.progress import Report, progress_bar
    from trainer.recipe import load_recipe

    console = Console(stderr=True)
    recipe = load_recipe(options.recipe)
    # Only now the seconds that TensorFlow takes to load: a mistyped recipe is told at once.
    from trainer.run import run_recipe

    def stages(title: str) -> AbstractContextManager[Report]:
        return progress_bar(title, console)

    if options.weights is None and recipe.weights is None:
        console.print("no pretrained weights: training from scratch, expect worse results")
    metrics = run_recipe(
        recipe,
        options.out,
        data=options.data,
        weights=options.weights,
        stages=stages,
        keep_data=options.keep_data,
    )
    _print_summary(metrics, options.out)
    return 0


def _print_summary(metrics: dict[str, object], out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("measure", "value", title=f"{metrics['recipe']}, int8")
    wanted = {
        "identification": ("macro_f1", "accuracy", "newcomer_accuracy", "auroc", "known_refused"),
        "detection": ("ap50", "ap75", "count_error"),
        "tracking": ("idf1", "id_switches", "track_f1", "wrong_names_per_min"),
    }
    for part, names in wanted.items():
        figures = metrics[part]
        if isinstance(figures, dict):
            for name in names:
                value = figures.get(name)
                text = (
                    "-" if value is None else f"{value:.3f}" if isinstance(value, float) else value
                )
                table.add_row(f"{part} {name}", str(text))
    console = Console()
    console.print(table)
    console.print(f"bundle {out / 'bundle'}", soft_wrap=True)
    console.print(f"report {out / 'report.html'}", soft_wrap=True)
    console.print(f"metrics {out / 'metrics.json'}", soft_wrap=True)


def _simulate(options: argparse.Namespace) -> int:
    from rich.console import Console

    from trainer.data.herd import HerdOptions, simulate
    from trainer.progress import progress_bar

    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        raise UsageError(f"{options.out}: exists and is not empty; choose another --out")
    herd = HerdOptions(
        animals=options.animals, frames=options.frames, seed=options.seed, sprites=options.sprites
    )
    with progress_bar("drawing the herd", Console(stderr=True)) as report:
        simulate(options.out, herd, report)
    print(f"herd {options.out}")
    return 0

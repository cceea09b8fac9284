"""`earmark-trainer run`: a recipe from images to bundle and report."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager
from pathlib import Path

from trainer.commands.options import Commands, add_verbose


def add_parser(commands: Commands) -> None:
    """Add the command to those of `earmark-trainer`."""
    run = commands.add_parser("run", help="make a bundle and its report from a recipe")
    run.add_argument("recipe", type=Path, metavar="RECIPE.yaml")
    run.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to make")
    run.add_argument("--data", type=Path, metavar="DIR", help="images the recipe's paths refer to")
    run.add_argument(
        "--weights", type=Path, metavar="FILE", help="pretrained backbone, a local Keras file"
    )
    run.add_argument(
        "--detector-weights",
        type=Path,
        metavar="FILE",
        help="the same for the detector, where it has another backbone than the embedder",
    )
    run.add_argument(
        "--set",
        action="append",
        default=[],
        dest="changes",
        metavar="KEY=VALUE",
        help="in place of what the recipe says, such as embedder.steps=20; may be repeated",
    )
    run.add_argument(
        "--keep-data", action="store_true", help="keep a simulated herd's images in DIR/data"
    )
    run.add_argument(
        "--strategy",
        choices=["single", "mirrored", "multiworker"],
        default="single",
        help="spread the embedder's training over this machine's GPUs, or over those in TF_CONFIG",
    )
    add_verbose(run)
    run.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    from rich.console import Console

    from trainer.progress import Report, progress_bar
    from trainer.recipe import load_recipe

    console = Console(stderr=True)
    recipe = load_recipe(options.recipe, options.changes)
    from trainer.run import run_recipe

    def stages(title: str) -> AbstractContextManager[Report]:
        return progress_bar(title, console)

    given = options.weights or options.detector_weights
    if given is None and recipe.weights is None and recipe.detector_weights is None:
        console.print("no pretrained weights: training from scratch, expect worse results")
    metrics = run_recipe(
        recipe,
        options.out,
        data=options.data,
        weights=options.weights,
        stages=stages,
        keep_data=options.keep_data,
        strategy=options.strategy,
        detector_weights=options.detector_weights,
    )
    if metrics is None:
        console.print("done; the first worker writes the bundle")
        return 0
    _print_summary(metrics, options.out)
    return 0


def _print_summary(metrics: dict[str, object], out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("measure", "value", title=f"{metrics['recipe']}, int8")
    wanted = {
        "identification": ("macro_f1", "accuracy", "newcomer_accuracy", "auroc", "known_refused"),
        "detection": ("ap", "ap50", "ap75", "int8_ap_drop", "count_error"),
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
    if metrics["identification"] is None:
        console.print(f"detector {out / 'detector.tflite'}", soft_wrap=True)
    else:
        console.print(f"bundle {out / 'bundle'}", soft_wrap=True)
    console.print(f"report {out / 'report.html'}", soft_wrap=True)
    console.print(f"metrics {out / 'metrics.json'}", soft_wrap=True)

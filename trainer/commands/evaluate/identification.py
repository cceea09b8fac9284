"""`earmark-trainer evaluate identification`: how well a bundle names crops it has not seen."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.errors import UsageError
from trainer.commands.options import Commands, add_verbose, whole_number

if TYPE_CHECKING:
    from trainer.evaluate.protocol import Protocol

_ROLES = ("query", "gallery", "unknown", "newcomer_gallery", "newcomer_query")
_CROPS = "folders of <animal>/<session>_<frame>.jpg"


def add_parser(commands: Commands) -> None:
    """Add the command to those of `earmark-trainer evaluate`."""
    naming = commands.add_parser("identification", help="how well animals are named")
    naming.add_argument("--bundle", type=Path, required=True, metavar="DIR")
    _add_folders(naming, "--query", f"crops to name: {_CROPS}", required=True)
    _add_folders(naming, "--gallery", "make the class means from these crops, not the bundle's")
    _add_folders(naming, "--unknown", "crops of animals that are not in the class means")
    _add_folders(naming, "--newcomer-gallery", "crops to enrol newcomers from")
    _add_folders(naming, "--newcomer-query", "crops of newcomers, asked among all animals")
    naming.add_argument(
        "--float",
        type=Path,
        metavar="FILE.tflite",
        dest="twin",
        help="the float twin of the embedder, to compare with; needs --gallery",
    )
    naming.add_argument(
        "--projection", choices=("umap", "pca"), help="how maps are laid out (umap if installed)"
    )
    naming.add_argument(
        "--seed", type=whole_number, default=0, metavar="N", help="of intervals and maps"
    )
    naming.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to make")
    add_verbose(naming)
    naming.set_defaults(command=_identification)


def _add_folders(
    parser: argparse.ArgumentParser, name: str, text: str, required: bool = False
) -> None:
    parser.add_argument(
        name,
        type=Path,
        nargs="+",
        action="extend",
        default=None,
        metavar="DIR",
        help=text,
        required=required,
    )


def _identification(options: argparse.Namespace) -> int:
    from rich.console import Console

    from edge.files import new_directory
    from edge.release.bundle import load_bundle
    from edge.vision.embedder import Embedder
    from edge.vision.runtime import open_model
    from trainer.evaluate.outputs import check_out, write_evaluation
    from trainer.evaluate.projection import check_method
    from trainer.evaluate.protocol import check_protocol, evaluate
    from trainer.progress import progress_bar, show_warnings

    # What is wrong with the command is told before any crop is embedded.
    check_out(options.out, _folders(options))
    check_method(options.projection)
    if options.twin is not None and not options.gallery:
        raise UsageError("--float needs --gallery: means of the bundle are not the twin's")
    if options.twin is not None and not options.twin.is_file():
        raise UsageError(f"{options.twin}: no such file (--float)")
    bundle = load_bundle(options.bundle)
    name = bundle.manifest.training.recipe.get("name") or options.bundle.resolve().name
    protocol = _read(options)
    check_protocol(protocol, bundle.means)
    twin = None
    if options.twin is not None:
        twin = Embedder(open_model(options.twin), bundle.manifest.embedder)
    console = Console(stderr=True)
    with new_directory(options.out) as folder:
        with progress_bar("embedding crops", console) as report:
            evaluation = evaluate(
                protocol,
                bundle.embedder,
                bundle.means,
                float_embedder=twin,
                seed=options.seed,
                report=report,
            )
        evaluation.metrics["bundle"] = bundle.manifest.id
        with console.status("drawing maps"):
            write_evaluation(
                folder,
                evaluation,
                title=f"Identification by {name}",
                method=options.projection,
                seed=options.seed,
            )
    show_warnings(console, evaluation.metrics["warnings"])
    _print_summary(evaluation.metrics, options.out)
    return 0


def _read(options: argparse.Namespace) -> Protocol:
    from trainer.data.folders import read_herd
    from trainer.evaluate.protocol import Protocol

    given = {name: getattr(options, name) for name in _ROLES}
    return Protocol(**{name: read_herd(folders) for name, folders in given.items() if folders})


def _folders(options: argparse.Namespace) -> list[Path]:
    """Return the folders that are read."""
    return [folder for name in _ROLES for folder in getattr(options, name) or ()]


def _print_summary(metrics: Mapping[str, Any], out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from trainer.evaluate.identification_report import MEASURES
    from trainer.evaluate.outputs import MAP_NAME, METRICS_NAME, PROJECTOR_NAME, REPORT_NAME
    from trainer.evaluate.page import figure, interval

    table = Table("measure", "value", "95 % interval", title="identification, int8")
    for name, text in MEASURES:
        if metrics[name] is not None:
            table.add_row(text, figure(metrics[name]), interval(metrics["intervals"].get(name)))
    console = Console()
    console.print(table)
    for name, path in (
        ("metrics", METRICS_NAME),
        ("report", REPORT_NAME),
        ("map", MAP_NAME),
        ("projector", PROJECTOR_NAME),
    ):
        console.print(f"{name} {out / path}", soft_wrap=True, markup=False, highlight=False)

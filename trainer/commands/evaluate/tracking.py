"""`earmark-trainer evaluate tracking`: how well a bundle follows and names animals on video."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.commands.options import Commands, add_verbose


def add_parser(commands: Commands) -> None:
    """Add the command to those of `earmark-trainer evaluate`."""
    following = commands.add_parser("tracking", help="how well animals are followed and named")
    following.add_argument(
        "--bundle", type=Path, required=True, metavar="DIR", help="the bundle to judge"
    )
    following.add_argument(
        "--video",
        type=Path,
        required=True,
        nargs="+",
        action="extend",
        metavar="FILE",
        help="one for each camera or pen",
    )
    following.add_argument(
        "--truth",
        type=Path,
        required=True,
        nargs="+",
        action="extend",
        metavar="FILE",
        help="truth.json or MOTChallenge's gt.txt, one for each video in the same order",
    )
    following.add_argument(
        "--names",
        type=Path,
        metavar="FILE.csv",
        help="lines `id,name` that say who the ids of gt.txt are (names.csv beside it)",
    )
    following.add_argument(
        "--tracker",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="earmark (the default), nearest-box, kalman-appearance, window-mean, or all",
    )
    following.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to make")
    add_verbose(following)
    following.set_defaults(command=_tracking)


def _tracking(options: argparse.Namespace) -> int:
    from rich.console import Console

    from edge.files import new_directory
    from edge.release.bundle import load_bundle
    from trainer.evaluate.tracking.follow import open_trackers
    from trainer.evaluate.tracking.outputs import check_out, write_evaluation
    from trainer.evaluate.tracking.protocol import check_trackers, evaluate, read_clips
    from trainer.progress import progress_bar, show_warnings

    # What is wrong with the command is told before any frame is looked at.
    check_out(options.out)
    names = check_trackers(options.tracker or ["earmark"])
    clips = read_clips(options.video, options.truth, options.names)
    bundle = load_bundle(options.bundle)
    open_trackers(bundle, names)
    title = bundle.manifest.training.recipe.get("name") or options.bundle.resolve().name
    console = Console(stderr=True)
    with new_directory(options.out) as folder:
        with progress_bar("following animals", console) as report:
            evaluation = evaluate(clips, bundle.means, lambda: open_trackers(bundle, names), report)
        evaluation.metrics["bundle"] = bundle.manifest.id
        with console.status("drawing paths"):
            write_evaluation(folder, evaluation, title=f"Tracking by {title}")
    show_warnings(console, evaluation.metrics["warnings"])
    print_summary(evaluation.metrics, options.out)
    return 0


def print_summary(metrics: Mapping[str, Any], out: Path) -> None:
    """Print one table of all trackers, and what lies in `out`."""
    from rich.console import Console
    from rich.table import Table

    from trainer.evaluate.page import figure
    from trainer.evaluate.tracking.outputs import METRICS_NAME, REPORT_NAME, paths_name
    from trainer.evaluate.tracking.report import MEASURES

    trackers = metrics["trackers"]
    table = Table("measure", *trackers, title="tracking")
    for name, text in MEASURES:
        table.add_row(text, *(figure(own[name]) for own in trackers.values()))
    console = Console()
    console.print(table)
    files = [("metrics", METRICS_NAME), ("report", REPORT_NAME)]
    files += [("paths", paths_name(clip)) for clip in metrics["clips"]]
    for name, path in files:
        if (out / path).is_file():
            console.print(f"{name} {out / path}", soft_wrap=True, markup=False, highlight=False)

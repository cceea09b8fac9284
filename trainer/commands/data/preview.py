"""`earmark-trainer data preview`: a contact sheet of annotated frames."""

from __future__ import annotations

import argparse
from pathlib import Path

from trainer.commands.data.options import add_source, positive
from trainer.commands.options import Commands, whole_number


def add_parser(commands: Commands) -> None:
    """Add the command to those of `data`."""
    preview = commands.add_parser("preview", help="draw frames with their boxes on one sheet")
    add_source(preview)
    preview.add_argument("--out", type=Path, required=True, metavar="FILE", help=".jpg or .png")
    preview.add_argument("--count", type=positive, default=12, metavar="N", help="frames (12)")
    preview.add_argument(
        "--seed", type=whole_number, default=0, metavar="S", help="which frames (0)"
    )
    preview.set_defaults(command=_preview)


def _preview(options: argparse.Namespace) -> int:
    from rich.console import Console

    from trainer.data.annotations import read_frames
    from trainer.data.annotations.preview import check_target, write_preview
    from trainer.progress import progress_bar

    check_target(options.out)
    frames = read_frames(options.source, options.format, options.images)
    with progress_bar("drawing frames", Console(stderr=True)) as report:
        count = write_preview(frames, options.out, options.count, options.seed, report)
    print(f"preview {options.out} ({count} of {len(frames)} frames)")
    return 0

"""`earmark-trainer data convert`: annotated frames from one format into another."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from edge.errors import UsageError
from trainer.commands.data.options import add_source, counted, positive
from trainer.commands.options import Commands

# As `trainer.data.annotations.formats.WRITABLE`.
_WRITABLE = ("coco", "voc", "yolo", "cvat")


def add_parser(commands: Commands) -> None:
    """Add the command to those of `data`."""
    convert = commands.add_parser("convert", help="write annotated frames in another format")
    add_source(convert)
    convert.add_argument("--to", choices=_WRITABLE, required=True, help="the format to write")
    convert.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to make")
    convert.add_argument(
        "--video",
        type=Path,
        metavar="PATH",
        help="take the frames of CVAT's tracks or a LocationSelected.mat from this video, or from "
        "the videos in this folder",
    )
    convert.add_argument(
        "--every", type=positive, metavar="N", help="of a video, every Nth annotated frame only"
    )
    convert.add_argument(
        "--link", action="store_true", help="hard-link images instead of copying them"
    )
    convert.set_defaults(command=_convert)


def _convert(options: argparse.Namespace) -> int:
    from rich.console import Console

    from trainer.data.annotations.formats import read_raw, write_frames
    from trainer.data.annotations.validate import strict
    from trainer.data.annotations.video import extract, left_out, sessions_of, videos_of
    from trainer.progress import progress_bar, show_warnings

    if options.every is not None and options.video is None:
        raise UsageError("--every is for frames of a --video")
    if options.video is not None and options.images is not None:
        raise UsageError("--images and --video exclude each other: frames are taken anew")
    # What is wrong with the command is told before any video is read.
    if options.out.exists() or options.out.is_symlink():
        raise UsageError(f"{options.out}: exists already; choose another --out")
    console = Console(stderr=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".frames.", dir=options.out.parent) as folder:
        if options.video is None:
            raw = read_raw(options.source, options.format, options.images)
            unused = left_out(raw)
            frames = strict(raw)
        else:
            raw = read_raw(options.source, options.format, every=options.every or 1)
            videos = videos_of(options.video, sessions_of(raw))
            unused = left_out(raw, videos)
            with progress_bar("taking frames", console) as report:
                frames = strict(extract(raw, videos, Path(folder), report))
        # Beside the new folder, so that taken frames are moved by a link.
        link = options.link or options.video is not None
        with progress_bar("writing frames", console) as report:
            notes = write_frames(frames, options.out, options.to, link=link, report=report)
    show_warnings(console, unused)
    for note in notes:
        console.print(f"note: {note}", soft_wrap=True, highlight=False)
    boxes = counted(sum(map(len, frames.boxes)), "box")
    print(f"{options.to} {options.out}: {counted(len(frames), 'frame')}, {boxes}")
    return 0

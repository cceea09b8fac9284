"""`earmark-trainer crops cut`: identity crops from annotated frames or videos."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from edge.errors import UsageError
from trainer.commands.data.options import add_source, positive
from trainer.commands.options import Commands, whole_number

# As `trainer.labelling.cut.CutOptions`, which is imported only when the command runs.
_JITTER, _LEAST_PX, _LEAST_VISIBLE, _MOST_COVERED = 0.04, 16.0, 0.6, 0.45


def add_parser(commands: Commands) -> None:
    """Add the command to those of `crops`."""
    cut = commands.add_parser("cut", help="cut boxes with animals' ids out of annotated frames")
    add_source(cut)
    cut.add_argument("--out", type=Path, required=True, metavar="DIR", help="crops folder to make")
    cut.add_argument(
        "--video",
        type=Path,
        metavar="PATH",
        help="take the frames of CVAT's tracks or a LocationSelected.mat from this video, or from "
        "the videos in this folder",
    )
    cut.add_argument(
        "--jitter",
        type=float,
        default=_JITTER,
        metavar="J",
        help="how far boxes are off, as a detector's are: standard deviation of the centre as a "
        f"share of the side, half that of width and height ({_JITTER}); 0: not at all",
    )
    cut.add_argument(
        "--copies", type=positive, default=1, metavar="N", help="crops of each box (1)"
    )
    cut.add_argument(
        "--margin",
        type=float,
        default=0.0,
        metavar="M",
        help="let boxes grow on each side by this share of it, where they were drawn tight (0)",
    )
    cut.add_argument(
        "--every",
        type=positive,
        default=1,
        metavar="N",
        help="take each session's first, (1+N)th, … frame (1); of a --video frames 0, N, 2N, …",
    )
    cut.add_argument(
        "--least-px",
        type=float,
        default=_LEAST_PX,
        metavar="P",
        help=f"leave out boxes whose shorter side is less ({_LEAST_PX:g})",
    )
    cut.add_argument(
        "--least-visible",
        type=float,
        default=_LEAST_VISIBLE,
        metavar="S",
        help="leave out shapes of which less lies in the frame, where annotations tell: polygons, "
        f"turned boxes, PSRG ({_LEAST_VISIBLE})",
    )
    cut.add_argument(
        "--most-covered",
        type=float,
        default=_MOST_COVERED,
        metavar="S",
        help=f"leave out boxes that another one covers more, as devices do ({_MOST_COVERED})",
    )
    cut.add_argument(
        "--prefix", default="", metavar="TEXT", help="put in front of every id: 7 becomes cow-7"
    )
    cut.add_argument("--seed", type=whole_number, default=0, metavar="S", help="of the jitter (0)")
    cut.set_defaults(command=_cut)


def _cut(options: argparse.Namespace) -> int:
    from rich.console import Console

    from edge.files import new_directory
    from trainer.data.annotations.formats import read_raw
    from trainer.data.annotations.video import extract, left_out, sessions_of, videos_of
    from trainer.data.crops import read_crops
    from trainer.labelling.cut import CutOptions, cut_crops, read_visible
    from trainer.labelling.summary import describe, describe_skipped
    from trainer.progress import progress_bar, show_warnings

    filmed = options.video is not None
    wanted = CutOptions(
        jitter=options.jitter,
        copies=options.copies,
        margin=options.margin,
        # Of a video only the frames that are wanted are taken.
        every=1 if filmed else options.every,
        least_px=options.least_px,
        least_visible=options.least_visible,
        most_covered=options.most_covered,
        seed=options.seed,
        prefix=options.prefix,
    )
    if filmed and options.images is not None:
        raise UsageError("--images and --video exclude each other: frames are taken anew")
    if options.out.exists() or options.out.is_symlink():
        raise UsageError(f"{options.out}: exists already; choose another --out")
    console = Console(stderr=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".frames.", dir=options.out.parent) as frames:
        if filmed:
            raw = read_raw(options.source, options.format, every=options.every)
            videos = videos_of(options.video, sessions_of(raw))
            unused = left_out(raw, videos)
            with progress_bar("taking frames", console) as report:
                raw = extract(raw, videos, Path(frames), report)
        else:
            raw = read_raw(options.source, options.format, options.images)
            unused = left_out(raw)
        visible = read_visible(raw)
        with (
            new_directory(options.out) as folder,
            progress_bar("cutting crops", console) as report,
        ):
            skipped = cut_crops(visible, folder, wanted, report)
    show_warnings(console, unused)
    first, *more = describe(read_crops(options.out))
    print(f"crops {options.out}: {first}")
    for line in (describe_skipped(skipped), *more):
        if line:
            print(line)
    return 0

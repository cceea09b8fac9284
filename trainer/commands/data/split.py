"""`earmark-trainer data split`: frames into train and test, by whole sessions or days."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge.errors import UsageError
from trainer.commands.data.options import add_source, counted, positive, share
from trainer.commands.options import Commands, whole_number

_TEST_SHARE = 0.2


def add_parser(commands: Commands) -> None:
    """Add the command to those of `data`."""
    split = commands.add_parser(
        "split", help="write train.json and test.json (COCO); a session is never on both sides"
    )
    add_source(split)
    split.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for both")
    split.add_argument(
        "--test", type=share, metavar="SHARE", help=f"of the frames, about ({_TEST_SHARE})"
    )
    split.add_argument(
        "--by", choices=("session", "date"), help="what stays whole; dates are in sessions' names"
    )
    split.add_argument(
        "--every", type=positive, metavar="N", help="instead: every Nth file by name is the test"
    )
    split.add_argument(
        "--force",
        action="store_true",
        help="let --every put a session on both sides, or split frames whose names give none",
    )
    split.add_argument(
        "--seed", type=whole_number, default=0, metavar="S", help="which sessions (0)"
    )
    split.set_defaults(command=_split)


def _split(options: argparse.Namespace) -> int:
    from rich.console import Console

    from trainer.data.annotations import read_frames
    from trainer.data.annotations.formats import split_part
    from trainer.data.annotations.raw import whole
    from trainer.data.annotations.sessions import without_session
    from trainer.data.annotations.split import (
        BOTH_SIDES_WARNING,
        TEST_NAME,
        TRAIN_NAME,
        UNNAMED_WARNING,
        SplitBy,
        check_target,
        sessions_in_both,
        split_every,
        split_frames,
        write_split,
    )
    from trainer.progress import progress_bar, show_warnings

    if options.every is not None and (options.by or options.test):
        raise UsageError("--every chooses by name alone; leave out --by and --test")
    if options.force and options.by == "date":
        raise UsageError("--force is for --every and for --by session; dates need none")
    check_target(options.out)
    frames = read_frames(options.source, options.format, options.images)
    if options.every is not None:
        train, test = split_every(frames, options.every, force=options.force)
    else:
        by: SplitBy = options.by or "session"
        wanted = options.test or _TEST_SHARE
        train, test = split_frames(frames, wanted, options.seed, by, force=options.force)
    console = Console(stderr=True)
    path, _ = split_part(options.source)
    folder = options.images or (path if path.is_dir() else path.parent)
    with progress_bar("measuring images", console) as report:
        root = write_split(train, test, folder, options.out, report)
    warnings = [BOTH_SIDES_WARNING] if sessions_in_both(train, test) else []
    if options.by != "date" and without_session(frames):
        warnings.append(UNNAMED_WARNING)
    show_warnings(console, warnings)
    for name, part in ((TRAIN_NAME, train), (TEST_NAME, test)):
        boxes = sum(map(len, part.boxes))
        print(
            f"{options.out / name}: {counted(len(part), 'frame')} of "
            f"{counted(len(set(part.sessions)), 'session')}, {counted(boxes, 'box')}"
        )
    if whole(options.out) != root:
        print(f"names of images are relative to {root}: read them with --images {root}")
    return 0

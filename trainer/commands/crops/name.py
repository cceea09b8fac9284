"""`earmark-trainer crops name`: named tracklets become crops of animals."""

from __future__ import annotations

import argparse
from pathlib import Path

from trainer.commands.options import Commands, add_verbose


def add_parser(commands: Commands) -> None:
    """Add the command to those of `crops`."""
    name = commands.add_parser("name", help="make crops of animals from named tracklets")
    name.add_argument("proposal", type=Path, metavar="DIR", help="folder that `propose` made")
    name.add_argument(
        "--names", type=Path, required=True, metavar="FILE", help="names.csv, from the page"
    )
    name.add_argument("--out", type=Path, required=True, metavar="CROPS", help="crops folder")
    name.add_argument(
        "--merge", action="store_true", help="add to CROPS if it exists; nothing is overwritten"
    )
    name.add_argument(
        "--force", action="store_true", help="believe that two animals in one picture are one"
    )
    name.add_argument("--link", action="store_true", help="hard-link crops instead of copying them")
    add_verbose(name)
    name.set_defaults(command=_name)


def _name(options: argparse.Namespace) -> int:
    from rich.console import Console

    from trainer.data.crops import read_crops
    from trainer.labelling.name import name_crops
    from trainer.labelling.names import MARKS, check_names, read_names
    from trainer.labelling.summary import counted, describe
    from trainer.labelling.tracklets import load_proposal
    from trainer.progress import progress_bar

    proposal = load_proposal(options.proposal)
    names = read_names(options.names)
    animals = check_names(proposal, names, str(options.names), force=options.force)
    with progress_bar("writing crops", Console(stderr=True)) as report:
        named = name_crops(
            proposal,
            options.proposal,
            animals,
            options.out,
            merge=options.merge,
            link=options.link,
            report=report,
        )
    there = f", {named.there} were there already" if named.there else ""
    print(
        f"{counted(named.written, 'crop')} of {counted(len(animals), 'tracklet')} written to "
        f"{options.out}{there}"
    )
    marked = sum(names.get(tracklet.name) in MARKS for tracklet in proposal.tracklets)
    left = [tracklet.name for tracklet in proposal.tracklets if tracklet.name not in names]
    if marked:
        print(f"set aside: {counted(marked, 'tracklet')} marked as no animal, or as two")
    if left:
        shown = ", ".join(left[:5]) + (", …" if len(left) > 5 else "")
        print(f"without a name: {counted(len(left), 'tracklet')} ({shown})")
    first, *more = describe(read_crops(options.out))
    print(f"crops {options.out}: {first}")
    for line in more:
        print(line)
    return 0

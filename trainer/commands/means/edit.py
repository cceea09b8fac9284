"""`earmark-trainer means add | remove | merge`: the herd changes, the models do not."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from trainer.commands.means.options import add_place
from trainer.commands.options import Commands


def add_parsers(commands: Commands) -> None:
    """Add the commands to those of `means`."""
    add = commands.add_parser("add", help="enrol newcomers from crops, without retraining")
    add_place(add)
    add.add_argument(
        "--crops",
        type=Path,
        required=True,
        metavar="DIR",
        help="a folder with one folder of crops per newcomer; with --animal, one animal's crops",
    )
    add.add_argument("--animal", metavar="NAME", help="whose crops these are")
    add.add_argument(
        "--more", action="store_true", help="add to animals that are in the class means already"
    )
    add.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add.set_defaults(command=_add)

    remove = commands.add_parser("remove", help="take animals out of the class means")
    add_place(remove)
    remove.add_argument("animals", nargs="+", metavar="ANIMAL")
    remove.set_defaults(command=_remove)

    merge = commands.add_parser("merge", help="make one animal of several ids")
    add_place(merge)
    merge.add_argument("keep", metavar="KEEP", help="the id that stays")
    merge.add_argument("others", nargs="+", metavar="OTHER")
    merge.set_defaults(command=_merge)


def _add(options: argparse.Namespace) -> int:
    started = time.perf_counter()
    from dataclasses import asdict

    from edge.messaging.topics import check_animals
    from edge.release.bundle import load_bundle
    from trainer.commands.means.work import embed, embed_references, now, show_table, tell, warn
    from trainer.data.folders import read_animal, read_herd
    from trainer.means.edit import check_absent, check_present, enrol, extend
    from trainer.means.newcomers import look_at
    from trainer.means.storage import check_target, store

    check_target(options.bundle, options.out, [options.crops])
    if options.animal is None:
        crops = read_herd([options.crops])
    else:
        crops = read_animal(options.crops, options.animal)
    bundle = load_bundle(options.bundle)
    means = bundle.means
    if options.more:
        check_present(means, crops.animals)
    else:
        check_animals(crops.animals)
        check_absent(means, crops.animals)
    embedding = time.perf_counter()
    gallery, seen = embed_references(bundle, crops, "crops"), embed(bundle, crops, "as seen once")
    embed_s = time.perf_counter() - embedding
    change = extend if options.more else enrol
    for label, animal in enumerate(crops.animals):
        means = change(means, animal, gallery.of(label))
    # Only now: newcomers may look like each other.
    looks = [look_at(means, name, seen.of(label)) for label, name in enumerate(crops.animals)]
    stored = store(bundle, means, options.out, created=now())
    for look in looks:
        for text in look.warnings:
            warn(text)
    if options.json:
        report = {
            "path": str(stored.path),
            "bundle": stored.bundle_id,
            "means_seq": stored.seq,
            "animals_total": stored.animals,
            "animals": [asdict(look) for look in looks],
            "embed_s": embed_s,
            "seconds": time.perf_counter() - started,
        }
        print(json.dumps(report))
        return 0
    show_table(
        ("animal", "crops", "threshold", "beyond it, %", "nearest other", "distance"),
        [
            (
                look.animal,
                look.crops,
                look.threshold,
                round(100 * look.beyond),
                look.nearest,
                look.distance,
            )
            for look in looks
        ],
    )
    print(tell(stored))
    return 0


def _remove(options: argparse.Namespace) -> int:
    from edge.release.bundle import load_bundle
    from trainer.commands.means.work import now, tell
    from trainer.means.edit import remove
    from trainer.means.storage import check_target, store

    check_target(options.bundle, options.out)
    bundle = load_bundle(options.bundle)
    means = remove(bundle.means, options.animals)
    print(tell(store(bundle, means, options.out, created=now())))
    return 0


def _merge(options: argparse.Namespace) -> int:
    from edge.release.bundle import load_bundle
    from trainer.commands.means.work import now, tell
    from trainer.means.edit import merge
    from trainer.means.storage import check_target, store

    check_target(options.bundle, options.out)
    bundle = load_bundle(options.bundle)
    means = merge(bundle.means, options.keep, options.others)
    label = means.animals.index(options.keep)
    stored = store(bundle, means, options.out, created=now())
    prototypes = int((means.owner == label).sum())
    print(
        f"{options.keep}: {means.counts[label]} crops, {prototypes} "
        f"prototype{'' if prototypes == 1 else 's'}, threshold {means.threshold[label]:.2f}"
    )
    print(tell(stored))
    return 0

"""`earmark-trainer means build`: class means from scratch, from folders of crops."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.commands.means.options import add_crops, add_place, fraction, positive
from trainer.commands.options import Commands

if TYPE_CHECKING:
    from trainer.data.crops import CropSet

_HELD_OUT = 0.2


def add_parsers(commands: Commands) -> None:
    """Add the command to those of `means`."""
    build = commands.add_parser("build", help="make class means from folders of crops")
    add_place(build)
    add_crops(build)
    held_out = build.add_mutually_exclusive_group()
    held_out.add_argument(
        "--held-out",
        type=fraction,
        default=_HELD_OUT,
        metavar="F",
        help=f"share of the crops, by whole sessions, to calibrate thresholds on ({_HELD_OUT})",
    )
    held_out.add_argument(
        "--held-out-crops",
        type=Path,
        nargs="+",
        metavar="DIR",
        help="crops of other sessions to calibrate on instead",
    )
    build.add_argument(
        "--negatives",
        type=Path,
        metavar="DIR",
        help="images of none of the animals: strangers, half bodies, blur",
    )
    build.add_argument(
        "--precision", type=fraction, metavar="P", help="share of names that should be right"
    )
    build.add_argument(
        "--accept", type=fraction, metavar="A", help="least share of known crops to be named"
    )
    build.add_argument("--prototypes", type=positive, metavar="N", help="most for an animal")
    build.set_defaults(command=_build)


def _build(options: argparse.Namespace) -> int:
    from edge.messaging.topics import check_animals
    from edge.release.bundle import load_bundle
    from trainer.commands.means.work import embed, embed_references, now, show_table, tell
    from trainer.data.folders import read_herd, read_strangers
    from trainer.means.build import means_from_embeddings, with_held_out
    from trainer.means.prototypes import MeansOptions
    from trainer.means.storage import check_target, store

    check_target(options.bundle, options.out, _folders(options))
    train = read_herd(options.crops)
    check_animals(train.animals)
    train, held_out = _split(options, train)
    negatives = read_strangers(options.negatives) if options.negatives else None
    bundle = load_bundle(options.bundle)
    wanted: dict[str, Any] = {
        "precision": options.precision,
        "accept": options.accept,
        "prototypes_max": options.prototypes,
    }
    made = MeansOptions(
        letterbox_colour=bundle.embedder.letterbox_colour,
        **{name: value for name, value in wanted.items() if value is not None},
    )
    created = now()
    gallery = embed_references(bundle, train, "crops")
    joining = held_out is not None and not options.held_out_crops
    references = embed_references(bundle, held_out, "held-out references") if joining else None
    means, report = means_from_embeddings(
        gallery,
        embed(bundle, held_out, "held-out crops") if held_out else None,
        embedder_sha256=bundle.manifest.embedder.sha256,
        seq=bundle.means.header.seq,
        created=created,
        options=made,
        negatives=embed(bundle, negatives, "negatives") if negatives else None,
        seen_once=None if held_out else embed(bundle, train, "crops as seen once"),
        references=references,
    )
    dropped, counts = report.dropped, train.counts()
    if references is not None:
        # They have served to calibrate; as references they are worth more than as witnesses.
        means, dropped = with_held_out(means, gallery, references, made)
        counts = counts + references.crops.counts()
    stored = store(bundle, means, options.out, created=created)
    strays = [path.parent.name for path in dropped]
    crops = dict(zip(train.animals, counts.tolist(), strict=True))
    show_table(
        ("animal", "crops", "dropped", "prototypes", "threshold"),
        [
            (
                animal,
                crops[animal],
                strays.count(animal),
                int((means.owner == label).sum()),
                float(means.threshold[label]),
            )
            for label, animal in enumerate(means.animals)
        ],
    )
    print(calibration_line(report.calibration))
    print(tell(stored))
    return 0


def calibration_line(record: dict[str, Any]) -> str:
    """Return in words how thresholds were chosen and what they reached."""
    sources = {
        "held_out": "held-out sessions",
        "left_out_sessions": "the crops themselves, a session left out at a time",
    }
    source = str(record.get("source", "none"))
    words = [f"threshold {record['threshold']:.2f}", f"margin {record['margin']:.2f}"]
    if "precision" in record:
        words.append(f"precision {record['precision']:.3f}")
        if record["precision"] < record.get("precision_wanted", 0):
            words[-1] += f" ({record['precision_wanted']:g} wanted: not reached)"
    if "accepted" in record:
        words.append(f"{100 * record['accepted']:.1f} % of the rightly named accepted")
    if "strangers_refused" in record:
        words.append(f"{100 * record['strangers_refused']:.1f} % of strangers refused")
    if source not in sources:
        return f"not calibrated, no crop was named rightly: {', '.join(words)}"
    return f"calibrated on {sources[source]}: {', '.join(words)}"


def _folders(options: argparse.Namespace) -> list[Path]:
    """Return the folders that are read."""
    negatives = [options.negatives] if options.negatives else []
    return [*options.crops, *(options.held_out_crops or ()), *negatives]


def _split(options: argparse.Namespace, crops: CropSet) -> tuple[CropSet, CropSet | None]:
    from edge.errors import UsageError
    from trainer.commands.means.work import warn
    from trainer.data.folders import read_herd
    from trainer.data.splits import (
        no_session,
        shared_sessions,
        split_by_session,
        without_session,
    )

    unnamed = [] if options.held_out_crops else without_session(crops)
    if unnamed:
        warn(
            f"{no_session(unnamed)}; each counts as a session of its own: near-duplicate "
            "frames make the calibration too kind"
        )
    if options.held_out_crops:
        held_out = read_herd(options.held_out_crops)
        both = shared_sessions(crops, held_out)
        if both:
            warn(
                f"{len(both)} sessions of --held-out-crops are also in --crops ({both[0]}): "
                "near-duplicate frames make the calibration too kind"
            )
        return crops, held_out
    if options.held_out == 0:
        return crops, None
    if options.held_out == 1:
        raise UsageError("--held-out 1 leaves no crops for the means; use less, such as 0.2")
    kept, held_out = split_by_session(crops, options.held_out, seed=0)
    return kept, held_out if len(held_out) else None

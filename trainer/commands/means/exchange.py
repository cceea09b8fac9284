"""`earmark-trainer means import | export`: TensorBoard's projector pair, and loose means files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.commands.means.options import add_place
from trainer.commands.options import Commands, add_verbose

if TYPE_CHECKING:
    from edge.identity.means import ClassMeans
    from edge.release.bundle import Bundle


def add_parsers(commands: Commands) -> None:
    """Add the commands to those of `means`."""
    bring = commands.add_parser(
        "import", help="read vecs.tsv and meta.tsv, or a loose means file, in place of the means"
    )
    add_place(bring, required=False)
    source = bring.add_mutually_exclusive_group(required=True)
    source.add_argument("--vecs", type=Path, metavar="FILE", help="a vector a line (with --meta)")
    source.add_argument("--means", type=Path, metavar="FILE.npz", help="a loose class-means file")
    bring.add_argument("--meta", type=Path, metavar="FILE", help="an id a line")
    bring.add_argument("--column", metavar="NAME", help="column of --meta that holds the ids")
    bring.add_argument("--prefix", default="", metavar="TEXT", help="put before each id: pig-")
    bring.add_argument(
        "--join", action="store_true", help="keep the bundle's animals and add these to them"
    )
    bring.set_defaults(command=_import)

    give = commands.add_parser("export", help="write vecs.tsv and meta.tsv for TensorBoard")
    origin = give.add_mutually_exclusive_group(required=True)
    origin.add_argument("--bundle", type=Path, metavar="DIR")
    origin.add_argument("--means", type=Path, metavar="FILE.npz", help="a loose class-means file")
    give.add_argument("--out", type=Path, required=True, metavar="DIR")
    add_verbose(give)
    give.set_defaults(command=_export)


def _import(options: argparse.Namespace) -> int:
    from edge.errors import UsageError
    from edge.release.bundle import load_bundle
    from trainer.commands.means.work import now, tell, warn
    from trainer.means.edit import join
    from trainer.means.storage import check_target, store, store_loose

    if (options.vecs is None) != (options.meta is None):
        raise UsageError("a projector pair is two files: --vecs FILE --meta FILE")
    if options.means is not None and (options.prefix or options.column):
        raise UsageError("--prefix and --column are for a projector pair, not for --means")
    if options.bundle is None and (options.means is not None or options.join):
        raise UsageError("say which bundle's means these belong to: --bundle DIR")
    check_target(options.bundle, options.out)
    bundle = None if options.bundle is None else load_bundle(options.bundle)
    means = _read_pair(options, bundle) if options.means is None else _read_loose(options, bundle)
    _check_ids(means.animals, in_place=bundle is not None and options.out is None)
    if bundle is None:
        stored = store_loose(means, options.out, created=now())
    else:
        joined = join(bundle.means, means) if options.join else means
        stored = store(bundle, joined, options.out, created=now())
    print(tell(stored))
    if bundle is None:
        warn(
            f"{options.out} names no embedder, so a device refuses it; import the pair with "
            "--bundle DIR to use it"
        )
    return 0


def _read_pair(options: argparse.Namespace, bundle: Bundle | None) -> ClassMeans:
    from edge.errors import DataError
    from trainer.commands.means.work import warn
    from trainer.means.edit import usual_threshold
    from trainer.means.projector import UNCALIBRATED, Pair, means_of_pair, read_pair

    pair = read_pair(options.vecs, options.meta, options.column)
    pair = Pair(tuple(options.prefix + name for name in pair.ids), pair.vectors)
    if bundle is None:
        return means_of_pair(pair, threshold=UNCALIBRATED)
    wanted, found = bundle.embedder.dimension, pair.vectors.shape[1]
    if found != wanted:
        raise DataError(
            f"{options.vecs}: vectors of {found} numbers, the embedder of {options.bundle} gives "
            f"{wanted}; they are another embedder's"
        )
    threshold = usual_threshold(bundle.means)
    warn(
        f"{options.vecs}: taken to come from this bundle's embedder; the thresholds are the "
        f"herd's usual {threshold:.2f}, not calibrated on these animals"
    )
    return means_of_pair(pair, threshold=threshold, margin=bundle.means.margin)


def _read_loose(options: argparse.Namespace, bundle: Bundle | None) -> ClassMeans:
    from edge.errors import DataError
    from edge.identity.means import load_means
    from edge.release.compose import check_means

    means = load_means(options.means)
    if not means.header.embedder_sha256:
        raise DataError(
            f"{options.means}: names no embedder; import the vecs.tsv and meta.tsv it was made "
            "from with --bundle"
        )
    if bundle is not None:
        check_means(means, bundle.manifest, options.means)
    return means


def _check_ids(animals: tuple[str, ...], *, in_place: bool) -> None:
    """Refuse ids that nothing can show, and warn of those that no device would publish.

    in_place: they would make a bundle that runs into one that a device refuses; that is no warning.
    """
    from edge.errors import DataError, UsageError
    from edge.messaging.topics import check_animals
    from trainer.commands.means.work import warn

    for animal in animals:
        if not animal.isprintable():
            raise DataError(f"animal id {animal!r} holds characters that cannot be printed")
    try:
        check_animals(animals)
    except UsageError as error:
        text = f"{error}: a device cannot publish such ids; a --prefix such as pig- mends them"
        if in_place:
            raise UsageError(
                f"{text}; to keep them all the same, write them elsewhere: --out"
            ) from None
        warn(text)


def _export(options: argparse.Namespace) -> int:
    import numpy as np

    from edge.errors import UsageError
    from edge.identity.means import OUTLIERS, load_means
    from edge.release.bundle import load_bundle
    from trainer.commands.means.work import warn
    from trainer.means.projector import pair_of_means, write_pair

    if options.out.exists() and not options.out.is_dir():
        raise UsageError(f"{options.out}: is a file; name a folder")
    if options.bundle is not None:
        means = load_bundle(options.bundle).means
    else:
        means = load_means(options.means)
    pair = pair_of_means(means)
    vectors, meta = write_pair(pair, options.out)
    several = int((np.bincount(means.owner[means.owner != OUTLIERS]) > 1).sum())
    if several or (means.owner == OUTLIERS).any():
        warn("a projector pair holds one mean an animal: prototypes beyond that are not in it")
    print(f"{len(pair.ids)} animals of {pair.vectors.shape[1]} numbers: {vectors}, {meta}")
    return 0

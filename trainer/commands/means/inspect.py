"""`earmark-trainer means inspect`: doubtful images, as a list and pictures to act on."""

from __future__ import annotations

import argparse
from pathlib import Path

from trainer.commands.means.options import add_crops, positive
from trainer.commands.options import Commands, add_verbose

_MOST = 100


def add_parsers(commands: Commands) -> None:
    """Add the command to those of `means`."""
    inspect = commands.add_parser("inspect", help="list images that may show another animal")
    inspect.add_argument("--bundle", type=Path, required=True, metavar="DIR")
    add_crops(inspect)
    inspect.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to make")
    inspect.add_argument(
        "--most", type=positive, default=_MOST, metavar="N", help=f"images to list ({_MOST})"
    )
    inspect.add_argument("--json", action="store_true", help="print what doubtful.json holds")
    add_verbose(inspect)
    inspect.set_defaults(command=_inspect)


def _inspect(options: argparse.Namespace) -> int:
    import msgspec

    from edge.files import new_directory
    from edge.release.bundle import load_bundle
    from trainer.commands.means.work import embed, embed_references, show_table
    from trainer.data.folders import read_herd
    from trainer.means.doubtful import inspect_crops
    from trainer.means.doubtful_page import PAGE_NAME, Findings, as_record, write_findings

    check_out(options.out, options.crops)
    crops = read_herd(options.crops)
    bundle = load_bundle(options.bundle)
    embedded = embed(bundle, crops, "crops")
    references = embed_references(bundle, crops, "as references")
    inspection = inspect_crops(embedded, references.embeddings, bundle.means)
    findings = Findings(embedded.crops, inspection, bundle.manifest.id, options.most)
    with new_directory(options.out) as folder:
        write_findings(findings, folder)
    if options.json:
        print(msgspec.json.encode(as_record(findings)).decode())
        return 0
    show_table(
        ("animal", "crops", "sessions", "doubtful", "spread", "nearest other", "distance"),
        [
            (
                row.animal,
                row.crops,
                row.sessions,
                row.doubtful,
                row.spread,
                row.nearest,
                row.nearest_distance,
            )
            for row in inspection.animals
        ],
    )
    page = options.out / PAGE_NAME
    print(f"{len(inspection.doubts)} doubtful of {len(crops)} crops: {page}")
    return 0


def check_out(out: Path, roots: list[Path]) -> None:
    """Raise UsageError for a folder that holds something else, or lies in a bundle or the crops."""
    from edge.errors import UsageError
    from trainer.means.doubtful_page import JSON_NAME, NAMES
    from trainer.places import check_place

    check_place(out, roots)
    if not out.exists():
        return
    names = {path.name for path in out.iterdir()} if out.is_dir() else {""}
    if names and (JSON_NAME not in names or not names <= NAMES):
        raise UsageError(f"{out}: exists and is not an inspection; choose another --out")

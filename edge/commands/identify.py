"""`earmark-edge identify`: name the animals of crops."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from edge.capture.images import find_images, read_image
from edge.commands.options import Commands, add_verbose
from edge.errors import SourceError, UsageError


def add_parser(commands: Commands) -> None:
    """Add the command to those of `earmark-edge`."""
    identify = commands.add_parser("identify", help="name the animals of crops")
    identify.add_argument(
        "images", nargs="+", type=Path, metavar="IMAGE", help="crop of one animal, or a folder"
    )
    identify.add_argument("--bundle", type=Path, required=True, metavar="DIR")
    identify.add_argument("--json", action="store_true", help="one JSON line an image")
    add_verbose(identify)
    identify.set_defaults(run=_identify)


def _identify(options: argparse.Namespace) -> int:
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    from edge.identity.matching import Matcher
    from edge.release.bundle import load_bundle
    from edge.vision.geometry import letterbox

    paths = list(_images(options.images))
    bundle = load_bundle(options.bundle)
    size = (bundle.embedder.size, bundle.embedder.size)
    matcher = Matcher(bundle.means)
    table = Table("image", "animal", "distance", "margin", "reason")
    unreadable: list[SourceError] = []
    for path in paths:
        try:
            image = read_image(path)
        except SourceError as error:
            unreadable.append(error)
            continue
        crop = letterbox(image, size, bundle.embedder.letterbox_colour)[0]
        match = matcher.match(bundle.embedder.embed(np.asarray(crop)[None]))[0]
        distance, margin = round(match.distance, 4), round(match.margin, 4)
        if options.json:
            row = {
                "image": str(path),
                "animal": match.animal,
                "distance": distance,
                "margin": margin if np.isfinite(margin) else None,
                "reason": match.reason,
            }
            print(json.dumps(row))
        else:
            name, reason = match.animal or "-", match.reason or ""
            table.add_row(str(path), name, f"{distance:.3f}", f"{margin:.3f}", reason)
    if not options.json and table.row_count:
        Console().print(table)
    if unreadable:
        more = len(unreadable) - 1
        raise SourceError(f"{unreadable[0]}" + (f" (and {more} more like it)" if more else ""))
    return 0


def _images(given: Sequence[Path]) -> Iterator[Path]:
    """Yield the image files; a folder gives those in it and below, in order."""
    for path in given:
        if path.is_dir():
            inside = find_images(path)
            if not inside:
                raise UsageError(f"{path}: no images in this folder")
            yield from inside
        elif not path.exists():
            raise UsageError(f"{path}: no such image")
        else:
            yield path

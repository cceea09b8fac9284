"""Folds to tune a recipe on without its test crops.

    python benchmarks/folds.py --crops DIR --out DIR
    earmark-trainer run models/recipes/opencows.yaml --data DIR/fold0 --out ...

Of a folder of training crops, makes `fold0` and `fold1`, each laid out as recipes want it (train,
test, newcomer_gallery, newcomer_query; links, no copies). Of the animals with several sessions
every other one is left out whole, as newcomers; of the rest every other session, the largest kept,
is the test.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

from edge.errors import UsageError
from trainer.data.crops import CropSet, read_crops

_FOLDS = 2


def main() -> None:
    """Make the folds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crops", type=Path, required=True, help="a folder of training crops")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    options = parser.parse_args()
    if options.out.exists():
        raise UsageError(f"{options.out}: exists; choose another --out")
    crops = read_crops(options.crops.resolve())
    for number in range(_FOLDS):
        make_fold(crops, number, options.out / f"fold{number}")


def make_fold(crops: CropSet, number: int, out: Path) -> None:
    """Link one fold's crops into `out`."""
    sessions: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for path, animal, session in zip(crops.paths, crops.names(), crops.sessions, strict=True):
        sessions[animal][session].append(path)
    several = [animal for animal, own in sessions.items() if len(own) > 1]
    newcomers = set(several[number::_FOLDS])
    for animal, own in sessions.items():
        seen, asked = ("train", "test")
        if animal in newcomers:
            seen, asked = ("newcomer_gallery", "newcomer_query")
        largest_first = sorted(own, key=lambda session, own=own: -len(own[session]))
        for place, session in enumerate(largest_first):
            folder = out / (asked if place % 2 else seen) / animal
            folder.mkdir(parents=True, exist_ok=True)
            for path in own[session]:
                (folder / path.name).symlink_to(path)


if __name__ == "__main__":
    main()

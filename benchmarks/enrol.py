"""What it takes to enrol a newcomer: python benchmarks/enrol.py [--crops 30] [--bundle DIR].

Runs `earmark-trainer means add` on a copy of a bundle, as often as asked, and prints the seconds
of the whole process, from its start to its end, and of the embedding in it. The crops are the
bundle's own self-test pictures, a little lighter each time, as JPEG files.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

_DEMO = Path(__file__).parents[1] / "models" / "demo" / "bundle"
_COMMAND = (sys.executable, "-c", "from trainer.cli import entry; entry()", "means", "add")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=_DEMO)
    parser.add_argument("--crops", type=int, default=30)
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        draw(options.bundle, work / "crops", options.crops)
        rows = np.array(
            [enrol(options.bundle, work, number) for number in range(options.times)], np.float64
        )
    print(f"{options.crops} crops, {options.times} times{'':14} median      max")
    for what, seconds in zip(("whole process", "embedding"), rows.T, strict=True):
        print(f"{what:34} {np.median(seconds):6.3f} s {seconds.max():6.3f} s")


def draw(bundle: Path, folder: Path, count: int) -> None:
    """Write the crops of one animal."""
    folder.mkdir()
    with np.load(bundle / "selftest.npz") as archive:
        crop = archive["crops"][0]
    for number in range(count):
        lighter = np.clip(crop.astype(int) + number, 0, 255).astype(np.uint8)
        path = folder / f"t{number // 10}_{number:04}.jpg"
        cv2.imwrite(str(path), cv2.cvtColor(lighter, cv2.COLOR_RGB2BGR))


def enrol(bundle: Path, work: Path, number: int) -> tuple[float, float]:
    """Return the seconds of one process and of its embedding."""
    copy = Path(shutil.copytree(bundle, work / f"bundle{number}"))
    arguments = ("--bundle", copy, "--crops", work / "crops", "--animal", "newcomer", "--json")
    started = time.perf_counter()
    done = subprocess.run(
        [*_COMMAND, *map(str, arguments)],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - started, json.loads(done.stdout)["embed_s"]


if __name__ == "__main__":
    main()

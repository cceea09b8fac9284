"""The edge code on an emulated 64-bit ARM board, held against this machine.

For each TFLite runtime and processor: the demo bundle's load with its golden self-test,
`earmark-edge identify` on animals of the clip's first frame, and some frames of the clip through
the agent's pipeline, all under `qemu-aarch64-static -L`. Exit code 0 when every pair answers as
this machine does, else 1.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from arm_root import (
    PROJECT,
    find_program,
    make_packages,
    make_root,
    make_runtime,
    pinned_runtime,
)
from rich.console import Console
from rich.table import Table

from edge.console import run_command
from edge.demo.truth import load_truth
from edge.errors import EarmarkError
from edge.vision.geometry import iou_matrix

DEMO = PROJECT / "models" / "demo"
BUNDLE = DEMO / "bundle"
PROCESSORS = ("cortex-a72", "cortex-a76", "max")
LIMIT_S = 600
# Versions of the runtime round a little differently: 0.9997 was measured between them.
LEAST_COSINE, LEAST_IOU = 0.99, 0.9


@dataclass(frozen=True, slots=True)
class Pictures:
    """Folders of what is shown: animals, one a picture, by name; and frames, `fps` a second."""

    crops: Path
    frames: Path
    fps: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """It did not answer: its exit code (of a signal, negative) and its last line."""

    exit_code: int
    line: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one runtime did on one processor.

    line: of the refusal, or None, and then the figures are there. machine: what the interpreter
    says it runs on. load_s: to verify, load and self-test the bundle. names: crops, tracks: those
    of every frame, how many of how many are as on this machine. named: animals that have a name in
    the last frame. cosine, iou: the lowest of a golden crop and of a track's box.
    """

    runtime: str
    processor: str
    exit_code: int = 0
    line: str | None = None
    machine: str = ""
    load_s: float = 0.0
    frame_s: float = 0.0
    names: tuple[int, int] = (0, 0)
    tracks: tuple[int, int] = (0, 0)
    named: int = 0
    cosine: float = 0.0
    iou: float = 0.0

    @property
    def right(self) -> bool:
        """Whether it answers as this machine does."""
        same = self.names[0] == self.names[1] > 0 and self.tracks[0] == self.tracks[1] > 0
        return self.line is None and same and self.cosine >= LEAST_COSINE and self.iou >= LEAST_IOU


def main(arguments: Sequence[str]) -> int:
    """Make what is missing, ask every pair, print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, prog="emulate")
    parser.add_argument("--runtime", nargs="+", metavar="VERSION", help="default: the pinned one")
    parser.add_argument("--cpu", nargs="+", default=PROCESSORS, help="default: %(default)s")
    parser.add_argument("--emulator", default="qemu-aarch64-static", metavar="PROGRAM")
    parser.add_argument("--frames", type=int, default=16, help="of the demo clip")
    parser.add_argument("--work", type=Path, default=PROJECT / "out" / "arm64", help="cache")
    parser.add_argument("--mirror", default="http://deb.debian.org/debian")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--verbose", action="store_true", help="tracebacks")
    options = parser.parse_args(arguments)

    emulator = find_program(options.emulator, "qemu-user-static")
    options.work.mkdir(parents=True, exist_ok=True)
    root = make_root(options.work, options.mirror)
    packages = make_packages(options.work)
    verdicts = []
    with tempfile.TemporaryDirectory(prefix="earmark-arm64-") as folder:
        pictures = write_pictures(Path(folder), options.frames)
        here = ask([sys.executable], [PROJECT], pictures)
        if isinstance(here, Refusal):
            raise EarmarkError(f"this machine itself does not answer: {here.line}")
        for runtime in options.runtime or [pinned_runtime()]:
            places = [make_runtime(options.work, runtime), packages, PROJECT]
            for processor in options.cpu:
                board = [emulator, "-cpu", processor, "-L", str(root)]
                there = ask([*board, str(root / "usr/bin/python3")], places, pictures)
                verdicts.append(compare(runtime, processor, there, here))
    version = emulator_version(emulator)
    if options.json:
        print(json.dumps({"emulator": version, "verdicts": [asdict(row) for row in verdicts]}))
    else:
        print_table(version, verdicts)
    return 0 if all(verdict.right for verdict in verdicts) else 1


def write_pictures(folder: Path, frames: int) -> Pictures:
    """Write the clip's first frames, and each animal that is wholly seen in the first of them.

    Frames are decoded here, once: decoders of two processors differ by 1 or 2 of 255, and then
    what is compared would not be the runtime.
    """
    truth = load_truth(DEMO / "truth.json")
    pictures = Pictures(folder / "crops", folder / "frames", truth.fps)
    pictures.crops.mkdir()
    pictures.frames.mkdir()
    clip = cv2.VideoCapture(str(DEMO / truth.video))
    for index in range(frames):
        readable, image = clip.read()
        if not readable:
            raise EarmarkError(f"{DEMO / truth.video}: its frame {index} cannot be decoded")
        cv2.imwrite(str(pictures.frames / f"{index:04}.png"), image)
        for frame, animal, x1, y1, x2, y2, seen in truth.boxes:
            if frame == index == 0 and seen == 100:
                name = f"{truth.animals[animal]}.png"
                cv2.imwrite(str(pictures.crops / name), image[y1:y2, x1:x2])
    clip.release()
    return pictures


def ask(
    python: Sequence[str], places: Sequence[Path], pictures: Pictures
) -> dict[str, Any] | Refusal:
    """Return what `answers.py` prints, and `names`: what `identify` calls each crop.

    python: the interpreter's command line. places: its PYTHONPATH.
    """
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": os.pathsep.join(str(place) for place in places),
        "PYTHONNOUSERSITE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    entry = ["-c", "from edge.cli import entry; entry()"]
    script = str(Path(__file__).with_name("answers.py"))
    outputs = []
    for arguments in (
        [*entry, "identify", str(pictures.crops), "--bundle", str(BUNDLE), "--json"],
        [script, str(BUNDLE), str(pictures.frames), str(pictures.fps)],
    ):
        done = subprocess.run(
            [*python, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        if done.returncode < 0:
            return Refusal(done.returncode, signal.strsignal(-done.returncode) or "killed")
        if done.returncode > 0:
            return Refusal(done.returncode, (done.stderr.strip().splitlines() or ["?"])[-1])
        outputs.append(done.stdout)
    rows = [json.loads(line) for line in outputs[0].splitlines()]
    answers: dict[str, Any] = json.loads(outputs[1])
    answers["names"] = {Path(row["image"]).stem: row["animal"] for row in rows}
    return answers


def compare(
    runtime: str, processor: str, there: dict[str, Any] | Refusal, here: dict[str, Any]
) -> Verdict:
    """Hold what one pair answered against this machine's answers."""
    if isinstance(there, Refusal):
        return Verdict(runtime, processor, there.exit_code, there.line)
    cosines = np.sum(np.array(there["embeddings"]) * np.array(here["embeddings"]), axis=1)
    names = sum(there["names"].get(crop) == name for crop, name in here["names"].items())
    overlaps, same, tracks = [], 0, 0
    for theirs, ours in zip(there["frames"], here["frames"], strict=True):
        found = {track["id"]: track for track in theirs}
        # One too many is as wrong as one too few.
        tracks += max(len(theirs), len(ours))
        for track in ours:
            twin = found.get(track["id"])
            if twin is None:
                overlaps.append(0.0)
                continue
            same += twin["animal"] == track["animal"]
            boxes = np.array([twin["box"], track["box"]], np.float32)
            overlaps.append(float(iou_matrix(boxes[:1], boxes[1:])[0, 0]))
    return Verdict(
        runtime,
        processor,
        machine=there["machine"],
        load_s=there["load_s"],
        frame_s=there["frame_s"],
        names=(names, len(here["names"])),
        tracks=(same, tracks),
        named=sum(track["animal"] is not None for track in there["frames"][-1]),
        cosine=float(cosines.min()),
        iou=min(overlaps, default=0.0),
    )


def emulator_version(emulator: str) -> str:
    """Return the emulator's name and version."""
    done = subprocess.run([emulator, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0]


def print_table(version: str, verdicts: Sequence[Verdict]) -> None:
    """Print what came of every pair, and what those said that did not answer."""
    table = Table(box=None)
    for title in ("runtime", "cpu", "", "exit", "cosine", "IoU", "crops", "tracks", "named"):
        table.add_column(title)
    table.add_column("load s", justify="right")
    table.add_column("frame s", justify="right")
    for row in verdicts:
        figures = ("",) * 7
        if row.line is None:
            figures = (
                f"{row.cosine:.4f}",
                f"{row.iou:.3f}",
                "{} of {}".format(*row.names),
                "{} of {}".format(*row.tracks),
                str(row.named),
                f"{row.load_s:.1f}",
                f"{row.frame_s:.2f}",
            )
        verdict = "right" if row.right else "WRONG" if row.line is None else "no answer"
        table.add_row(row.runtime, row.processor, verdict, str(row.exit_code), *figures)
    console = Console(width=max(100, Console().width))
    console.print(f"{version}\n", highlight=False)
    console.print(table)
    for row in verdicts:
        if row.line is not None:
            print(f"{row.runtime} on {row.processor}: {row.line}")


if __name__ == "__main__":
    sys.exit(run_command(main, "emulate"))

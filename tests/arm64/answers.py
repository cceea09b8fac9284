"""What this machine answers: python answers.py BUNDLE PICTURES FPS, as one JSON object.

Runs natively and under emulation, on nothing but the extra `edge`. An error is one line and its
exit code, as `earmark-edge` gives them.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.capture import SourceOptions, open_source
from edge.console import run_command
from edge.pipeline import Pipeline
from edge.release.bundle import SELFTEST_NAME, load_bundle
from edge.release.selftest import load_self_test


def main(arguments: Sequence[str]) -> int:
    """Load a bundle, self-test included; embed its golden crops, and follow a clip's animals."""
    folder, pictures, fps = Path(arguments[0]), arguments[1], float(arguments[2])
    started = time.monotonic()
    bundle = load_bundle(folder)
    load_s = time.monotonic() - started
    if bundle.detector is None:
        raise SystemExit("a bundle that only names crops has nothing to do with frames")
    embeddings = bundle.embedder.embed(load_self_test(folder / SELFTEST_NAME).crops)
    pipeline = Pipeline(bundle.detector, bundle.embedder, bundle.means)
    followed: list[list[dict[str, Any]]] = []
    started = time.monotonic()
    for frame in open_source(pictures, "pen", SourceOptions(fps=fps)).frames():
        tracks = pipeline.process(frame).tracks
        followed.append([{"id": t.id, "animal": t.animal, "box": t.box.tolist()} for t in tracks])
    answers = {
        "machine": platform.machine(),
        "backend": bundle.backend,
        "load_s": load_s,
        "frame_s": (time.monotonic() - started) / max(1, len(followed)),
        "embeddings": embeddings.tolist(),
        "frames": followed,
    }
    print(json.dumps(answers))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, "answers"))

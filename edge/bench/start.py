"""How long a fresh process takes from its start to the first name: run by the bench itself."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from edge.capture import SourceOptions, open_source
from edge.errors import UsageError
from edge.pipeline import Pipeline
from edge.serving import serve_bundle


def main() -> None:
    """Print seconds to the first frame's result and to the first named track.

    Arguments: bundle, source, threads, and `time.monotonic` at the start:
    one clock for all processes of a machine.
    """
    bundle, source, threads, begun = sys.argv[1:5]
    serving = serve_bundle(Path(bundle), threads=int(threads))
    opened = open_source(source, "bench", SourceOptions())
    try:
        if serving.bundle.detector is None:
            raise UsageError(f"{bundle}: has no detector; nothing to measure")
        pipeline = Pipeline(serving.bundle.detector, serving.bundle.embedder, serving.bundle.means)
        first_s = None
        for frame in opened.frames():
            result = pipeline.process(frame)
            now_s = time.monotonic() - float(begun)
            first_s = first_s if first_s is not None else now_s
            if any(track.animal for track in result.tracks):
                print(first_s, now_s)
                return
        print("nan" if first_s is None else first_s, "nan")
    finally:
        opened.close()
        serving.inference.close()


if __name__ == "__main__":
    main()

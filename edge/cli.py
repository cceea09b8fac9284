"""`earmark-edge`: what runs on a barn device."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edge import __version__
from edge.agent import Agent, Observer
from edge.config import AgentConfig, check_config, load_config, reference_config
from edge.console import run_command
from edge.errors import UsageError
from edge.pipeline import FrameResult
from edge.vision.types import Frame

PROG = "earmark-edge"
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO if options.verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    code: int = options.run(options)
    return code


def entry() -> None:
    """Console script."""
    sys.exit(run_command(main, PROG))


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--verbose", action="store_true", help="say what happens; show tracebacks")
    parser = argparse.ArgumentParser(
        prog=PROG, description="Names the animals that a barn's cameras see, and says so over MQTT."
    )
    parser.add_argument("--version", action="version", version=f"{PROG} {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", parents=[common], help="watch cameras and publish sightings")
    run.add_argument("--config", type=Path, metavar="FILE", help="agent.yaml; options below win")
    run.add_argument("--bundle", metavar="DIR", help="bundle to run")
    run.add_argument(
        "--source", metavar="URL", help="one camera: rtsp://…, /dev/video0, a video, a folder"
    )
    run.add_argument("--camera", metavar="ID", default=None, help="its id in topics (camera-1)")
    run.add_argument("--realtime", action="store_true", help="play a file at its own speed")
    run.add_argument("--broker", metavar="URL", help="mqtt://HOST[:1883] or mqtts://HOST[:8883]")
    run.add_argument("--device", metavar="ID", help="this device's id in topics")
    run.add_argument("--state", metavar="DIR", help="folder for the outbox")
    run.add_argument("--annotate", metavar="FILE.mp4", help="write an annotated video")
    run.set_defaults(run=_run)

    identify = commands.add_parser("identify", parents=[common], help="name the animals of crops")
    identify.add_argument(
        "images", nargs="+", type=Path, metavar="IMAGE", help="crop of one animal, or a folder"
    )
    identify.add_argument("--bundle", type=Path, required=True, metavar="DIR")
    identify.add_argument("--json", action="store_true", help="one JSON line an image")
    identify.set_defaults(run=_identify)

    config = commands.add_parser("config", parents=[common], help="print a commented agent.yaml")
    config.set_defaults(run=_config)

    demo = commands.add_parser("demo", parents=[common], help="name the animals of the demo clip")
    demo.add_argument("--out", type=Path, default=Path("out/demo"), metavar="DIR")
    demo.add_argument(
        "--broker",
        metavar="URL",
        default=os.environ.get("EARMARK_BROKER"),
        help="broker to use instead of one of the demo's own (or EARMARK_BROKER)",
    )
    demo.add_argument("--assets", type=Path, metavar="DIR", help="folder with bundle, clip, truth")
    demo.set_defaults(run=_demo)
    return parser


def _run(options: argparse.Namespace) -> int:
    config = _run_config(options)
    observers: list[Observer] = []
    video = None
    if config.annotate is not None:
        video = _AnnotatedVideo(Path(config.annotate), config.cameras[0].fps)
        observers.append(video)
    agent = Agent(config, observers=observers, say=_say)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: agent.stop())
    try:
        summary = agent.run()
    finally:
        if video is not None:
            video.close()
    if video is not None:
        print(f"annotated video {config.annotate}")
    fps = summary.frames / summary.busy_s if summary.busy_s else 0.0
    print(f"{summary.frames} frames, {fps:.1f} a second; {summary.dropped} dropped")
    return 0


def _run_config(options: argparse.Namespace) -> AgentConfig:
    """Return the settings of the config file with what the command line says instead."""
    if options.config is None:
        missing = [name for name in ("bundle", "source", "broker") if not getattr(options, name)]
        if missing:
            raise UsageError(f"give --config FILE, or --{', --'.join(missing)} as well")
        raw: dict[str, Any] = {}
    else:
        import msgspec

        raw = msgspec.to_builtins(load_config(options.config))
        raw = {name: value for name, value in raw.items() if value is not None}
    for name, key in (("bundle", "bundle"), ("device", "device"), ("state", "state_dir")):
        if getattr(options, name):
            raw[key] = getattr(options, name)
    if options.annotate:
        raw["annotate"] = options.annotate
    if options.broker:
        raw["broker"] = {**raw.get("broker", {}), "url": options.broker}
    if options.source:
        raw["cameras"] = [
            {
                "name": options.camera or "camera-1",
                "source": options.source,
                "realtime": options.realtime,
            }
        ]
    elif options.camera or options.realtime:
        raise UsageError("--camera and --realtime belong to --source")
    return check_config(raw, "settings")


class _AnnotatedVideo:
    """Draws every frame of one camera into a video."""

    def __init__(self, path: Path, fps: float | None) -> None:
        self._path = path
        self._fps = fps or 12.0
        self._writer: Any = None

    def __call__(self, frame: Frame, result: FrameResult) -> None:
        from edge.draw import annotate
        from edge.video import VideoWriter

        if self._writer is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = VideoWriter(self._path, self._fps)
        height, width = (side - side % 2 for side in frame.image.shape[:2])
        self._writer.write(annotate(frame.image, result.tracks)[:height, :width])

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _identify(options: argparse.Namespace) -> int:
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    from edge.capture.images import read_image
    from edge.identity.matching import Matcher
    from edge.release.bundle import load_bundle
    from edge.vision.geometry import letterbox

    paths = list(_images(options.images))
    bundle = load_bundle(options.bundle)
    size = (bundle.embedder.size, bundle.embedder.size)
    matcher = Matcher(bundle.means)
    table = Table("image", "animal", "distance", "margin", "reason")
    for path in paths:
        crop = letterbox(read_image(path), size, bundle.embedder.letterbox_colour)[0]
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
    if not options.json:
        Console().print(table)
    return 0


def _images(given: Sequence[Path]) -> Iterator[Path]:
    """Yield the image files; a folder gives those in it and below, in order."""
    for path in given:
        if path.is_dir():
            inside = sorted(
                file
                for file in path.rglob("*")
                if file.suffix.lower() in _SUFFIXES and not file.name.startswith(".")
            )
            if not inside:
                raise UsageError(f"{path}: no images in this folder")
            yield from inside
        elif not path.exists():
            raise UsageError(f"{path}: no such image")
        else:
            yield path


def _config(options: argparse.Namespace) -> int:
    print(reference_config(), end="")
    return 0


def _demo(options: argparse.Namespace) -> int:
    from edge.demo.run import find_assets, run_demo

    assets = options.assets or find_assets()
    return run_demo(assets, options.out, options.broker)


def _say(text: str) -> None:
    print(f"{PROG}: {text}", file=sys.stderr)

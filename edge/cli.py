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
from edge.capture.images import find_images, read_image
from edge.config import AgentConfig, BrokerConfig, check_config, read_config, reference_config
from edge.console import run_command
from edge.errors import SourceError, UsageError
from edge.pipeline import FrameResult
from edge.vision.types import Frame, Image

PROG = "earmark-edge"
# How many frames' times tell the rate of an annotated video.
_RATE_FRAMES = 12


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
    run.add_argument("--fps", type=float, metavar="N", help="at most so many frames a second")
    run.add_argument("--realtime", action="store_true", help="play a file at its own speed")
    run.add_argument("--broker", metavar="URL", help="mqtt://HOST[:1883] or mqtts://HOST[:8883]")
    _add_login(run)
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
        default=os.environ.get("EARMARK_BROKER") or None,
        help="broker to use instead of one of the demo's own (or EARMARK_BROKER)",
    )
    _add_login(demo)
    demo.add_argument("--assets", type=Path, metavar="DIR", help="folder with bundle, clip, truth")
    demo.set_defaults(run=_demo)
    return parser


def _add_login(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--username", metavar="U", help="user name at the broker")
    parser.add_argument(
        "--password-file", metavar="F", help="file with the password and nothing else"
    )
    parser.add_argument("--ca-file", metavar="F", help="CA certificate of an mqtts broker, PEM")


def _login(options: argparse.Namespace) -> dict[str, str]:
    names = ("username", "password_file", "ca_file")
    return {name: getattr(options, name) for name in names if getattr(options, name)}


def _run(options: argparse.Namespace) -> int:
    config = _run_config(options)
    observers: list[Observer] = []
    video = None
    if config.annotate is not None:
        video = _AnnotatedVideo(Path(config.annotate))
        observers.append(video)
    agent = Agent(config, observers=observers, say=_say)

    def stop(number: int, _: object) -> None:
        agent.stop()
        # Whoever asks twice means at once.
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
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
        raw = read_config(options.config)
    for name, key in (("bundle", "bundle"), ("device", "device"), ("state", "state_dir")):
        if getattr(options, name):
            raw[key] = getattr(options, name)
    if options.annotate:
        raw["annotate"] = options.annotate
    broker = {**({"url": options.broker} if options.broker else {}), **_login(options)}
    if broker:
        raw["broker"] = {**raw.get("broker", {}), **broker}
    if options.source:
        camera = {"name": options.camera or "camera-1", "source": options.source}
        fps = {} if options.fps is None else {"fps": options.fps}
        raw["cameras"] = [{**camera, **fps, "realtime": options.realtime}]
    elif options.camera or options.realtime or options.fps is not None:
        raise UsageError("--camera, --fps and --realtime belong to --source")
    return check_config(raw, str(options.config or "settings"))


class _AnnotatedVideo:
    """Draws every frame of one camera into a video of the rate at which the first ones come."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: Any = None
        self._waiting: list[tuple[float, Image]] = []

    def __call__(self, frame: Frame, result: FrameResult) -> None:
        from edge.draw import annotate

        height, width = (side - side % 2 for side in frame.image.shape[:2])
        picture = annotate(frame.image, result.tracks)[:height, :width]
        if self._writer is not None:
            self._writer.write(picture)
            return
        self._waiting.append((frame.monotonic_s, picture))
        if len(self._waiting) == _RATE_FRAMES:
            self._begin()

    def close(self) -> None:
        """Finish the file; a run without frames leaves none."""
        if self._writer is None and self._waiting:
            self._begin()
        if self._writer is not None:
            self._writer.close()

    def _begin(self) -> None:
        from edge.video import VideoWriter

        self._path.parent.mkdir(parents=True, exist_ok=True)
        times, pictures = zip(*self._waiting, strict=True)
        self._waiting.clear()
        taken_s = times[-1] - times[0]
        fps = (len(times) - 1) / taken_s if taken_s > 0 else 1.0
        self._writer = VideoWriter(self._path, round(min(max(fps, 0.1), 120.0), 3))
        for picture in pictures:
            self._writer.write(picture)


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


def _config(options: argparse.Namespace) -> int:
    print(reference_config(), end="")
    return 0


def _demo(options: argparse.Namespace) -> int:
    from edge.demo.run import find_assets, run_demo

    if options.broker is None and _login(options):
        raise UsageError("--username, --password-file and --ca-file belong to --broker")
    assets = options.assets or find_assets()
    if options.broker is None:
        return run_demo(assets, options.out)
    broker = BrokerConfig(
        url=options.broker,
        username=options.username,
        password_file=options.password_file,
        ca_file=options.ca_file,
    )
    return run_demo(assets, options.out, broker)


def _say(text: str) -> None:
    print(f"{PROG}: {text}", file=sys.stderr)

"""`earmark-edge run`: watch cameras and publish sightings."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge.agent import Agent, Observer
from edge.commands.options import Commands, add_login, add_verbose, login, say
from edge.config import AgentConfig, check_config, read_config
from edge.console import in_one_line
from edge.errors import EarmarkError, UsageError
from edge.health import set_up_logs
from edge.pipeline import FrameResult
from edge.vision.types import Frame, Image

LOG = logging.getLogger("earmark")
# How many frames' times tell the rate of an annotated video.
_RATE_FRAMES = 12
# `EX_TEMPFAIL`: a command asked for a restart; systemd does so whatever `Restart=` is set to, but
# for `no`, and with `RestartForceExitStatus=75` even then.
RESTART_EXIT = 75


def add_parser(commands: Commands) -> None:
    """Add the command to those of `earmark-edge`."""
    run = commands.add_parser("run", help="watch cameras and publish sightings")
    run.add_argument("--config", type=Path, metavar="FILE", help="agent.yaml; options below win")
    run.add_argument("--bundle", metavar="DIR", help="bundle to run")
    run.add_argument(
        "--source", metavar="URL", help="one camera: rtsp://…, /dev/video0, a video, a folder"
    )
    run.add_argument("--camera", metavar="ID", default=None, help="its id in topics (camera-1)")
    run.add_argument("--fps", type=float, metavar="N", help="at most so many frames a second")
    run.add_argument("--realtime", action="store_true", help="play a file at its own speed")
    run.add_argument("--broker", metavar="URL", help="mqtt://HOST[:1883] or mqtts://HOST[:8883]")
    add_login(run)
    run.add_argument("--device", metavar="ID", help="this device's id in topics")
    run.add_argument("--state", metavar="DIR", help="folder for the outbox")
    run.add_argument("--annotate", metavar="FILE.mp4", help="write an annotated video")
    add_verbose(run)
    run.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    config = _run_config(options)
    level = "info" if options.verbose else config.log.level
    # journald knows the time of every line by itself.
    set_up_logs(config.log.format, level, journal="JOURNAL_STREAM" in os.environ)

    def reread() -> AgentConfig:
        return _run_config(options)

    if config.log.format != "json":
        return _work(config, say, reread)
    try:
        return _work(config, LOG.warning, reread)
    except (EarmarkError, OSError) as error:
        text, code = in_one_line(error)
        LOG.error(text, exc_info=options.verbose)
        return code


def _work(
    config: AgentConfig, tell: Callable[[str], None], reread: Callable[[], AgentConfig]
) -> int:
    observers: list[Observer] = []
    video = None
    if config.annotate is not None:
        video = _AnnotatedVideo(Path(config.annotate))
        observers.append(video)
    agent = Agent(config, observers=observers, say=tell, reread=reread)

    def stop(number: int, _: object) -> None:
        agent.stop()
        # Whoever asks twice means at once.
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    try:
        summary = agent.run()
    except BaseException:
        # What ended the run is told, and the video so far is kept if it can be.
        if video is not None:
            with contextlib.suppress(EarmarkError, OSError):
                video.close()
        raise
    if video is not None:
        video.close()
        print(f"annotated video {config.annotate}")
    fps = summary.frames / summary.busy_s if summary.busy_s else 0.0
    print(f"{summary.frames} frames, {fps:.1f} a second; {summary.dropped} dropped")
    return RESTART_EXIT if summary.restart else 0


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
    broker = {**({"url": options.broker} if options.broker else {}), **login(options)}
    given = raw.get("broker")
    # Anything else than a section is refused below, in words.
    if broker and (given is None or isinstance(given, dict)):
        raw["broker"] = {**(given or {}), **broker}
    if options.source:
        camera = {"name": options.camera or "camera-1", "source": options.source}
        fps = {} if options.fps is None else {"fps": options.fps}
        raw["cameras"] = [{**camera, **fps, "realtime": options.realtime}]
    elif options.camera or options.realtime or options.fps is not None:
        raise UsageError("--camera, --fps and --realtime belong to --source")
    return check_config(raw, str(options.config or "settings"))


class _AnnotatedVideo:
    """Draws every frame of one camera into a video of the rate at which the first ones come.

    UsageError where the file cannot be written: better told now than after hours of watching. A
    failure later, such as a full disk, is raised once, and `close` says that there is no video.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: Any = None
        self._waiting: list[tuple[float, Image]] = []
        self._failed = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise UsageError(f"{path}: is a folder; give the name of a video, such as seen.mp4")
            with tempfile.TemporaryFile(dir=path.parent):
                pass
        except OSError as error:
            raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from error

    def __call__(self, frame: Frame, result: FrameResult) -> None:
        try:
            self._draw(frame, result)
        except Exception:
            self._failed = True
            raise

    def _draw(self, frame: Frame, result: FrameResult) -> None:
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
        """Finish the file; a run without frames leaves none. EarmarkError for one that failed."""
        if self._failed:
            if self._writer is not None:
                self._writer.discard()
            raise EarmarkError(f"{self._path}: there is no annotated video; why was told before")
        if self._writer is None and self._waiting:
            self._begin()
        if self._writer is not None:
            self._writer.close()

    def _begin(self) -> None:
        from edge.video import VideoWriter

        times, pictures = zip(*self._waiting, strict=True)
        self._waiting.clear()
        taken_s = times[-1] - times[0]
        fps = (len(times) - 1) / taken_s if taken_s > 0 else 1.0
        self._writer = VideoWriter(self._path, round(min(max(fps, 0.1), 120.0), 3))
        for picture in pictures:
            self._writer.write(picture)

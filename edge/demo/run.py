"""Clip, broker, agent and subscriber in one process, and what came of it."""

from __future__ import annotations

import json
import queue
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import cv2
import msgspec
from rich.console import Console
from rich.live import Live
from rich.table import Table

from edge.agent import Agent, RunSummary
from edge.config import AgentConfig, BrokerConfig, CameraConfig, SightingsConfig
from edge.demo.score import Score
from edge.demo.subscriber import Subscriber, subscribed
from edge.demo.truth import TruthIndex, load_truth
from edge.draw import annotate
from edge.errors import BrokerError, UsageError
from edge.files import write_atomically
from edge.messaging import Sighting, Topics
from edge.messaging.events import Availability
from edge.messaging.local_broker import local_broker
from edge.pipeline import FrameResult
from edge.video import VideoWriter
from edge.vision.types import Frame, Image

DEVICE = "demo"
TOPICS = Topics(DEVICE)
_UPDATE_EVERY_S = 5.0
_HEAR_S = 5.0
_LINES_EVERY_S = 5.0


def find_assets() -> Path:
    """Return the demo's folder in this checkout; UsageError outside one."""
    assets = Path(__file__).resolve().parents[2] / "models" / "demo"
    if not assets.is_dir():
        raise UsageError("the demo's clip and bundle are not here; give --assets DIR")
    return assets


def run_demo(assets: Path, out: Path, broker: BrokerConfig | None = None) -> int:
    """Name the animals of the clip in `assets`, write `out`, and return the exit code.

    broker: one to use; None for mosquitto, else an embedded one, on this machine.
    """
    started = time.monotonic()
    console = Console()
    truth = load_truth(assets / "truth.json")
    clip = assets / truth.video
    if not clip.is_file():
        raise UsageError(f"{clip}: no such video; the demo's clip is missing")
    out.mkdir(parents=True, exist_ok=True)
    score = Score(TruthIndex(truth))
    pictures = _Pictures(out, truth.fps, score)
    with (
        tempfile.TemporaryDirectory(prefix="earmark-demo-") as state,
        _broker(broker) as (settings, name),
        pictures,
    ):
        console.print(f"broker: {name} at {settings.url}", soft_wrap=True)
        config = AgentConfig(
            bundle=str(assets / "bundle"),
            cameras=[CameraConfig(name=truth.camera, source=str(clip), realtime=True)],
            device=DEVICE,
            state_dir=state,
            broker=settings,
            sightings=SightingsConfig(update_every_s=_UPDATE_EVERY_S),
            # Somebody sits in front of this machine.
            clock="system",
        )
        agent = Agent(
            config,
            observers=[pictures],
            say=lambda text: console.print(f"note: {text}", soft_wrap=True),
        )
        with subscribed(settings.options(), (TOPICS.sighting, TOPICS.availability)) as subscriber:
            done = _follow(agent, subscriber, score, console)
    if not score.sightings:
        raise BrokerError("the agent worked, but no sighting came back from the broker")
    summary = {
        **score.summary(),
        "fps": done.frames / done.busy_s if done.busy_s else 0.0,
        "frames": done.frames,
        "clip_s": done.frames / truth.fps,
        "wall_s": time.monotonic() - started,
        "broker": name,
        "mqtt": {5: "5", 4: "3.1.1"}.get(done.protocol or 0),
    }
    write_atomically(out / "summary.json", (json.dumps(summary, indent=1) + "\n").encode())
    _print_summary(summary, score, out, console)
    return 0


@contextmanager
def _broker(wanted: BrokerConfig | None) -> Iterator[tuple[BrokerConfig, str]]:
    """Yield settings and name of the broker: the one that was asked for, or one of our own."""
    if wanted is not None:
        yield wanted, "the configured broker"
    else:
        with local_broker() as own:
            yield BrokerConfig(url=own.url), own.name


def _follow(agent: Agent, subscriber: Subscriber, score: Score, console: Console) -> RunSummary:
    """Run the agent in a thread of its own and show what the subscriber hears."""
    result: list[RunSummary] = []
    failure: list[Exception] = []

    def work() -> None:
        try:
            result.append(agent.run())
        except Exception as error:
            failure.append(error)

    thread = threading.Thread(target=work, name="agent")
    board = _Board()
    told_s = time.monotonic()
    thread.start()
    try:
        with Live(board.table(), console=console, refresh_per_second=4, transient=True) as live:
            while thread.is_alive():
                if _hear(subscriber, score, board):
                    live.update(board.table())
                if not console.is_terminal and time.monotonic() - told_s >= _LINES_EVERY_S:
                    told_s = time.monotonic()
                    console.print(f"{score.sightings} sightings, {len(score.found)} animals named")
    finally:
        agent.stop()
        thread.join()
    if failure:
        raise failure[0]
    # The agent has its PUBACKs; the broker may still be handing the last events on.
    deadline = time.monotonic() + _HEAR_S
    while time.monotonic() < deadline and not board.stopped:
        _hear(subscriber, score, board)
    console.print(board.table())
    return result[0]


def _hear(subscriber: Subscriber, score: Score, board: _Board) -> bool:
    """Take in the next message, if one comes soon; return whether the table changed."""
    try:
        topic, payload = subscriber.messages.get(timeout=0.25)
    except queue.Empty:
        return False
    if topic == TOPICS.availability:
        board.stopped = msgspec.json.decode(payload, type=Availability).status == "stopped"
        return False
    event = msgspec.json.decode(payload, type=Sighting)
    if board.show(event):
        score.hear(event)
    return True


class _Board:
    """The live table: who was last seen where."""

    def __init__(self) -> None:
        self._rows: dict[str, Sighting] = {}
        self._seqs: set[tuple[str, int]] = set()
        # The agent's last word: every sighting came before it.
        self.stopped = False

    def show(self, event: Sighting) -> bool:
        """Take one event in; return False for one that was delivered before."""
        key = (event.stream, event.seq)
        if key in self._seqs:
            return False
        self._seqs.add(key)
        self._rows[event.animal or f"({event.reason})"] = event
        return True

    def table(self) -> Table:
        """Return the table as it stands."""
        table = Table("camera", "animal", "confidence", "last seen", title="sightings over MQTT")
        for name, event in sorted(self._rows.items()):
            table.add_row(event.camera, name, f"{100 * event.confidence:.0f} %", _local(event))
        return table


def _local(event: Sighting) -> str:
    if event.last_seen is None:
        return f"{event.monotonic:.1f} s"
    return f"{datetime.fromisoformat(event.last_seen).astimezone():%H:%M:%S}"


class _Pictures:
    """Draws the annotated video, and keeps the frame with most right names for the still."""

    def __init__(self, out: Path, fps: float, score: Score) -> None:
        self.video = out / "annotated.mp4"
        self.still = out / "still.jpg"
        self._writer = VideoWriter(self.video, fps)
        self._score = score
        self._most = 0
        self._best: Image | None = None

    def __call__(self, frame: Frame, result: FrameResult) -> None:
        picture = annotate(frame.image, result.tracks)
        worth = self._score.look(frame.index, result.tracks)
        self._writer.write(picture)
        if worth > self._most:
            self._most, self._best = worth, picture

    def __enter__(self) -> _Pictures:
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        """Write video and still; nothing of a run that failed."""
        if kind is not None:
            self._writer.discard()
            return
        self._writer.close()
        if self._best is not None:
            bgr = cv2.cvtColor(self._best, cv2.COLOR_RGB2BGR)
            _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 88])
            write_atomically(self.still, bytes(data))


def _print_summary(
    summary: dict[str, int | float | str | None], score: Score, out: Path, console: Console
) -> None:
    def percent(name: str) -> str:
        value = summary[name]
        return f"{100 * value:.1f} %" if isinstance(value, float) else "-"

    console.print(
        f"animals named: {summary['animals_named']} of {summary['animals_total']}\n"
        f"sightings: {summary['sightings']}, {percent('name_accuracy')} with the true name\n"
        f"boxes frame by frame: {percent('frame_accuracy')} with the true name\n"
        f"frames per second: {summary['fps']:.1f} (the clip plays at its own speed)\n"
        f"MQTT {summary['mqtt']}, {summary['wall_s']:.0f} s in all",
        highlight=False,
    )
    for mistake in score.mistakes[:5]:
        console.print(f"not right: {mistake}", style="dim", soft_wrap=True, highlight=False)
    for what, name in (
        ("annotated video", "annotated.mp4"),
        ("still picture", "still.jpg"),
        ("summary", "summary.json"),
    ):
        console.print(f"{what}: {out / name}", soft_wrap=True, highlight=False)

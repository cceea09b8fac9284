"""Does the agent live through a bad day? python benchmarks/soak.py [--minutes 20] [--out out/soak].

The agent, a process of its own, watches the demo's clip from a real RTSP server (GStreamer), in a
loop. The camera is killed five times and brought back, and so is the inference process, in turn.
For each: seconds from the kill to the alarm at a subscriber, and from the camera's return (or the
kill of the inference) to the first sighting that comes afterwards. Memory is taken once a second.
Prints a table, writes `soak.json` and `memory.png`. Exit status 1: something did not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import matplotlib
import numpy as np

from edge.capture.local_camera import LocalCamera
from edge.demo.subscriber import Subscriber, subscribed
from edge.errors import EarmarkError
from edge.memory import family, resident_mb
from edge.messaging.broker import BrokerOptions
from edge.messaging.events import Alarm, Availability, Sighting, decode
from edge.messaging.local_broker import free_port, local_broker

matplotlib.use("Agg")
import matplotlib.pyplot as plt

DEMO = Path(__file__).resolve().parents[1] / "models" / "demo"
MOST_S = 15.0
MOST_GROWTH = 0.05
INFERENCE = "edge.inference.child"
_START = "from edge.cli import entry; entry()"
_ALARMS = {"camera": "camera-lost", "inference": "inference-restarted"}
_FIRST_S = 90.0
_GIVE_UP_S = 90.0
_STOP_S = 60.0
_LOOK_S = 0.05

Victim = Literal["camera", "inference"]


@dataclass(frozen=True, slots=True)
class Interruption:
    """One kill. at_s: since the agent's start. None: it did not happen in time."""

    victim: Victim
    at_s: float
    alarm_s: float | None
    recovery_s: float | None

    @property
    def held(self) -> bool:
        """Whether it was told and mended in time."""
        return all(s is not None and s <= MOST_S for s in (self.alarm_s, self.recovery_s))


@dataclass(frozen=True, slots=True)
class Memory:
    """One look, in MB. agent: its process alone, RSS. all: with inference and ffmpeg, PSS."""

    at_s: float
    agent: float
    all: float


class Soak:
    """An agent under watch: hears what it says, takes its memory, looks for its children."""

    def __init__(self, agent: subprocess.Popen[bytes], subscriber: Subscriber) -> None:
        self.memory: list[Memory] = []
        self.availabilities: list[str] = []
        self.boots: set[str] = set()
        self.alarms: list[tuple[float, str]] = []
        self.sightings: list[float] = []
        self.begun_s = time.monotonic()
        self._agent = agent
        self._messages = subscriber.messages

    def wait(self, condition: Callable[[], object], limit_s: float) -> bool:
        """Go on until the condition is true; False when `limit_s` have passed."""
        until_s = time.monotonic() + limit_s
        while not condition():
            if time.monotonic() >= until_s:
                return False
            if self._agent.poll() is not None:
                raise EarmarkError(f"the agent ended by itself, exit code {self._agent.returncode}")
            self._look()
        return True

    def since(self, moment_s: float, times: Sequence[float]) -> float | None:
        """Return how long after a moment the first of `times` (rising) comes."""
        return next((round(at - moment_s, 2) for at in times if at >= moment_s), None)

    def interrupt(self, victim: Victim, camera: LocalCamera, away_s: float) -> Interruption | None:
        """Kill one of the two; None where there is no inference process to be killed."""
        pid = self.child(INFERENCE)
        if victim == "inference" and pid is None:
            return None
        killed_s = time.monotonic()
        if victim == "camera":
            camera.kill()
        elif pid is not None:
            os.kill(pid, signal.SIGKILL)

        def alarms() -> list[float]:
            return [at for at, kind in self.alarms if kind == _ALARMS[victim]]

        self.wait(lambda: self.since(killed_s, alarms()) is not None, _GIVE_UP_S)
        alarm_s = self.since(killed_s, alarms())
        back_s = killed_s if alarm_s is None else killed_s + alarm_s
        if victim == "camera":
            self.wait(lambda: False, max(0.0, killed_s + away_s - time.monotonic()))
            camera.start()
            back_s = time.monotonic()
        self.wait(lambda: self.since(back_s, self.sightings) is not None, _GIVE_UP_S)
        whence_s = back_s if victim == "camera" else killed_s
        found_s = self.since(back_s, self.sightings)
        recovery_s = None if found_s is None else round(back_s + found_s - whence_s, 2)
        return Interruption(victim, round(killed_s - self.begun_s, 1), alarm_s, recovery_s)

    def child(self, words: str) -> int | None:
        """Return the agent's child whose command line holds `words`."""
        for pid in family(self._agent.pid)[1:]:
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
            except OSError:
                continue
            if words.encode() in command:
                return pid
        return None

    def hear(self) -> None:
        """Take in what was published."""
        while True:
            try:
                topic, payload = self._messages.get_nowait()
            except queue.Empty:
                return
            now_s = time.monotonic()
            if topic.endswith("/alarm"):
                self.alarms.append((now_s, decode(payload, Alarm).kind))
            elif topic.endswith("/sighting"):
                # The end of a sighting is no sign that anything is seen.
                if decode(payload, Sighting).type != "end":
                    self.sightings.append(now_s)
            elif topic.endswith("/availability"):
                word = decode(payload, Availability)
                self.availabilities.append(word.status)
                self.boots.add(word.boot)

    def _look(self) -> None:
        self.hear()
        at_s = time.monotonic() - self.begun_s
        if not self.memory or at_s - self.memory[-1].at_s >= 1:
            agent = _resident_mb(self._agent.pid)
            shared, _ = resident_mb(self._agent.pid)
            self.memory.append(Memory(round(at_s, 1), agent, shared))
        time.sleep(_LOOK_S)


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--kills", type=int, default=5, help="of the camera, and of inference")
    parser.add_argument("--away", type=float, default=5.0, help="seconds the camera is away")
    parser.add_argument("--warm-up", type=float, default=60.0, help="seconds before memory counts")
    parser.add_argument("--bundle", type=Path, default=DEMO / "bundle")
    parser.add_argument("--clip", type=Path, default=DEMO / "pen.mp4")
    parser.add_argument("--out", type=Path, default=Path("out/soak"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        return run(options)
    except EarmarkError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1


def run(options: argparse.Namespace) -> int:
    """Start broker, camera, subscriber and agent, disturb them, and say what came of it."""
    interruptions: list[Interruption] = []
    with ExitStack() as stack:
        state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="earmark-soak-")))
        broker = stack.enter_context(local_broker("mosquitto"))
        camera = stack.enter_context(LocalCamera(options.clip, free_port()))
        subscriber = stack.enter_context(subscribed(BrokerOptions(broker.url), ["earmark/v1/#"]))
        config = state / "agent.yaml"
        config.write_text(settings(options.bundle.resolve(), camera.url, broker.url))
        log = stack.enter_context((options.out / "agent.log").open("wb"))
        agent = subprocess.Popen(
            [sys.executable, "-c", _START, "run", "--config", str(config)],
            stdout=log,
            stderr=log,
        )
        stack.callback(_end, agent)
        soak = Soak(agent, subscriber)
        if not soak.wait(lambda: soak.sightings, _FIRST_S):
            raise EarmarkError(f"no sighting within {_FIRST_S:g} s; see {options.out}/agent.log")
        print(f"first sighting after {soak.sightings[0] - soak.begun_s:.1f} s", flush=True)
        whole_s = options.minutes * 60
        warm_s = min(options.warm_up, whole_s / 4)
        step_s = (whole_s - warm_s) / (2 * options.kills + 1)
        for number in range(2 * options.kills):
            due_s = soak.begun_s + warm_s + (number + 1) * step_s
            soak.wait(lambda: False, max(0.0, due_s - time.monotonic()))
            victim: Victim = "inference" if number % 2 else "camera"
            done = soak.interrupt(victim, camera, options.away)
            if done is None:
                print(f"no child process {INFERENCE} of the agent: none killed", flush=True)
                continue
            interruptions.append(done)
            print(describe(done), flush=True)
        soak.wait(lambda: False, max(0.0, soak.begun_s + whole_s - time.monotonic()))
        agent.send_signal(signal.SIGTERM)
        code = agent.wait(_STOP_S)
        until_s = time.monotonic() + _STOP_S
        while "stopped" not in soak.availabilities and time.monotonic() < until_s:
            soak.hear()
            time.sleep(_LOOK_S)
    return report(options, soak, interruptions, warm_s, code)


def report(
    options: argparse.Namespace,
    soak: Soak,
    interruptions: Sequence[Interruption],
    warm_s: float,
    code: int,
) -> int:
    """Print and write what was found; return the exit status."""
    growth = {}
    for name in ("agent", "all"):
        start, end = ends(soak.memory, name, warm_s)
        growth[name] = {"start_mb": start, "end_mb": end, "growth": round(end / start - 1, 4)}
        words = "agent alone" if name == "agent" else "with inference and ffmpeg"
        print(
            f"memory, {words:26} {start:6.1f} MB → {end:6.1f} MB, {100 * (end / start - 1):+.1f} %"
        )
    one_agent = soak.availabilities == ["online", "stopped"] and len(soak.boots) == 1
    print(
        f"restarts of the agent: {'none' if one_agent else soak.availabilities}; exit code {code}"
    )
    missed = []
    if any(figures["growth"] >= MOST_GROWTH for figures in growth.values()):
        missed.append(f"memory grew by {MOST_GROWTH:.0%} or more")
    if len(interruptions) < 2 * options.kills or not all(one.held for one in interruptions):
        missed.append(f"not every kill was alarmed and mended within {MOST_S:g} s")
    if not one_agent or code != 0:
        missed.append("the agent did not live through it")
    print("held" if not missed else f"missed: {'; '.join(missed)}")
    figures = {
        "minutes": options.minutes,
        "memory": growth,
        "interruptions": [asdict(one) for one in interruptions],
        "agent_restarts": max(0, len(soak.boots) - 1),
        "sightings": len(soak.sightings),
        "held": not missed,
    }
    (options.out / "soak.json").write_text(json.dumps(figures, indent=1) + "\n")
    draw(soak.memory, interruptions, options.out / "memory.png")
    print(f"{options.out}/soak.json, memory.png, agent.log")
    return 1 if missed else 0


def describe(one: Interruption) -> str:
    """Return one interruption as a line."""
    alarm, recovery = (
        "never" if seconds is None else f"{seconds:.1f} s"
        for seconds in (one.alarm_s, one.recovery_s)
    )
    return f"{one.at_s:7.1f} s  {one.victim:9} killed: alarm after {alarm}, mended after {recovery}"


def ends(memory: Sequence[Memory], name: str, warm_s: float) -> tuple[float, float]:
    """Return the median memory in MB after the warm-up and at the end, of 20 s or a tenth each."""
    warm = [getattr(look, name) for look in memory if look.at_s >= warm_s]
    count = max(1, min(20, len(warm) // 10))
    return float(np.median(warm[:count])), float(np.median(warm[-count:]))


def draw(memory: Sequence[Memory], kills: Sequence[Interruption], path: Path) -> None:
    """Draw memory over time, with the kills in it."""
    figure, axes = plt.subplots(figsize=(9, 4), dpi=110)
    minutes = [look.at_s / 60 for look in memory]
    axes.plot(minutes, [look.all for look in memory], label="agent, inference, ffmpeg (PSS)")
    axes.plot(minutes, [look.agent for look in memory], label="agent alone (RSS)")
    for victim, colour in (("camera", "tab:red"), ("inference", "tab:purple")):
        times = [kill.at_s / 60 for kill in kills if kill.victim == victim]
        for number, at in enumerate(times):
            label = f"{victim} killed" if number == 0 else None
            axes.axvline(at, color=colour, lw=0.8, ls=":", label=label)
    axes.set(xlabel="minutes", ylabel="memory, MB", ylim=(0, None))
    axes.legend(loc="lower right", fontsize=8)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def settings(bundle: Path, camera: str, broker: str) -> str:
    """Return agent.yaml; names are told every two seconds, so that a silence is seen soon."""
    return json.dumps(
        {
            "bundle": str(bundle),
            "device": "soak",
            "state_dir": "state",
            "cameras": [{"name": "pen", "source": camera}],
            "broker": {"url": broker},
            "sightings": {"update_every_s": 2.0},
        }
    )


def _resident_mb(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGESIZE") / (1 << 20)


def _end(agent: subprocess.Popen[bytes]) -> None:
    agent.kill()
    agent.wait()


if __name__ == "__main__":
    sys.exit(main())

"""An agent on a looped RTSP camera that is killed again and again: python benchmarks/soak.py.

The camera is a GStreamer server (tests/edge/capture/rtsp_server.py) that plays the demo's clip. It
loses power five times, and the agent's inference process is killed five times. Printed, and
written to OUT/soak.json: how long until each was alarmed and frames went on, and how memory grew;
OUT/soak.png draws memory over time. Exit code 1 when the agent restarted, memory grew by 5 % or
more, or anything took longer than 15 seconds.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import yaml

from edge.demo.subscriber import Subscriber, subscribed
from edge.memory import family, resident_mb
from edge.messaging.broker import BrokerOptions
from edge.messaging.local_broker import free_port, local_broker

ROOT = Path(__file__).resolve().parents[1]
SERVER = ROOT / "tests" / "edge" / "capture" / "rtsp_server.py"
CLIP = ROOT / "models" / "demo" / "pen.mp4"
MOST_GROWTH = 0.05
MOST_S = 15.0
_WARM_UP_S = 40.0


def main() -> int:
    """Run, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--kills", type=int, default=5, help="of the camera, and of inference")
    parser.add_argument("--fps", type=float, default=4.0)
    parser.add_argument("--out", type=Path, default=Path("out/soak"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, local_broker() as broker:
        camera = Camera()
        agent = Agent(Path(folder), camera.url, broker.url, options.fps)
        try:
            with subscribed(BrokerOptions(broker.url), ["earmark/v1/+/up/alarm"]) as subscriber:
                report = soak(agent, camera, subscriber, options.minutes * 60, options.kills)
        finally:
            report_code = agent.stop()
            camera.kill()
    report["exit_code"] = report_code
    (options.out / "soak.json").write_text(json.dumps(report, indent=1) + "\n")
    draw(report, options.out / "soak.png")
    return show(report)


class Camera:
    """A real RTSP server on one port."""

    def __init__(self) -> None:
        self._port = free_port()
        self.url = f"rtsp://127.0.0.1:{self._port}/pen"
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        """Switch it on."""
        self._process = subprocess.Popen(
            ["/usr/bin/python3", str(SERVER), str(CLIP), str(self._port)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            sys.exit("no RTSP server: apt-get install gir1.2-gst-rtsp-server-1.0 python3-gi")

    def kill(self) -> None:
        """Pull its plug."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class Agent:
    """`earmark-edge run` in a process of its own."""

    def __init__(self, folder: Path, source: str, broker: str, fps: float) -> None:
        self._port = free_port()
        settings = {
            "bundle": str(ROOT / "models" / "demo" / "bundle"),
            "device": "soak",
            "cameras": [{"name": "pen", "source": source, "fps": fps}],
            "state_dir": str(folder / "state"),
            "broker": {"url": broker},
            "health": {"listen": f"127.0.0.1:{self._port}"},
        }
        config = folder / "agent.yaml"
        config.write_text(yaml.safe_dump(settings))
        code = "from edge.cli import entry; entry()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, "run", "--config", str(config)],
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    @property
    def running(self) -> bool:
        """Whether it is the process it was."""
        return self._process.poll() is None

    def frames(self) -> float:
        """Return how many frames it has worked through, NaN while it does not say."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self._port}/metrics", timeout=5
            ) as page:
                for line in page.read().decode().splitlines():
                    if line.startswith("earmark_frames_total"):
                        return float(line.rsplit(" ", 1)[1])
        except OSError:
            pass
        return math.nan

    def inference(self) -> int | None:
        """Return the process id of its inference."""
        for pid in family(self._process.pid)[1:]:
            try:
                if b"edge.inference.child" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
            except OSError:
                continue
        return None

    def memory_mb(self) -> float:
        """Return resident memory of the agent and its inference; ffmpeg belongs to the camera.

        RSS: the share of pages that processes share changes with whatever else runs here.
        """
        child = self.inference()
        others = [pid for pid in family(self._process.pid)[1:] if pid != child]
        whole = resident_mb(self._process.pid)[1]
        return whole - sum(resident_mb(pid)[1] for pid in others)

    def stop(self) -> int:
        """End it cleanly; return its exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=60)


def soak(
    agent: Agent, camera: Camera, subscriber: Subscriber, seconds: float, kills: int
) -> dict[str, object]:
    """Let it run with interruptions spread evenly; return what happened."""
    wait(lambda: agent.frames() > 0, 60)
    begun_s = time.monotonic()
    while time.monotonic() - begun_s < _WARM_UP_S:
        time.sleep(1)
    memory: list[tuple[float, float]] = []
    interruptions: list[dict[str, object]] = []
    plan = [kind for _ in range(kills) for kind in ("camera", "inference")]
    every_s = seconds / (len(plan) + 1)
    begun_s = time.monotonic()
    while (now_s := time.monotonic() - begun_s) < seconds and agent.running:
        memory.append((now_s, agent.memory_mb()))
        if len(interruptions) < len(plan) and now_s > every_s * (len(interruptions) + 1):
            interruptions.append(interrupt(plan[len(interruptions)], agent, camera, subscriber))
        time.sleep(2)
    tenth = max(1, len(memory) // 10)
    first, last = (
        sorted(mb for _, mb in part)[len(part) // 2] for part in (memory[:tenth], memory[-tenth:])
    )
    return {
        "minutes": seconds / 60,
        "frames": agent.frames(),
        "running": agent.running,
        "memory_first_mb": first,
        "memory_last_mb": last,
        "growth": last / first - 1,
        "interruptions": interruptions,
        "memory": memory,
    }


def interrupt(kind: str, agent: Agent, camera: Camera, subscriber: Subscriber) -> dict[str, object]:
    """Kill something; return how long until it was alarmed and until frames went on."""
    while not subscriber.messages.empty():
        subscriber.messages.get()
    if kind == "camera":
        camera.kill()
    else:
        child = agent.inference()
        assert child is not None
        os.kill(child, signal.SIGKILL)
    alarmed_s = wait(lambda: not subscriber.messages.empty(), 60)
    if kind == "camera":
        camera.start()  # it can be seen again from here on
    before = agent.frames()
    recovered_s = wait(lambda: agent.frames() > before, 90)
    return {"kind": kind, "alarmed_s": alarmed_s, "recovered_s": recovered_s}


def wait(condition: Callable[[], bool], most_s: float) -> float:
    """Return how long a condition took to come true, infinity for longer than `most_s`."""
    begun_s = time.monotonic()
    while not condition():
        if time.monotonic() - begun_s > most_s:
            return math.inf
        time.sleep(0.1)
    return time.monotonic() - begun_s


def draw(report: dict[str, object], path: Path) -> None:
    """Draw memory over time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 4))
    memory = report["memory"]
    assert isinstance(memory, list)
    axes.plot([s / 60 for s, _ in memory], [mb for _, mb in memory])
    axes.set(xlabel="minutes", ylabel="MB, agent and inference", ylim=(0, None))
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def show(report: dict[str, object]) -> int:
    """Print the report and return the exit code."""
    interruptions = report["interruptions"]
    assert isinstance(interruptions, list)
    for one in interruptions:
        print(
            f"{one['kind']:10} alarmed after {one['alarmed_s']:5.1f} s, "
            f"frames again after {one['recovered_s']:5.1f} s"
        )
    growth = float(str(report["growth"]))
    print(
        f"{report['minutes']} minutes, {report['frames']:.0f} frames; memory "
        f"{report['memory_first_mb']:.1f} MB, in the end {report['memory_last_mb']:.1f} MB "
        f"({growth:+.1%}); the agent {'ran on' if report['running'] else 'ENDED'}"
    )
    slow = [one for one in interruptions if max(one["alarmed_s"], one["recovered_s"]) > MOST_S]
    kept = report["running"] and report["exit_code"] == 0 and growth < MOST_GROWTH and not slow
    print("kept" if kept else "MISSED")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())

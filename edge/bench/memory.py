"""What a running agent takes of a device's memory: its process, the models' and ffmpeg's.

Run as a program it is that agent; `agent_memory` starts it beside a camera and reads its answer.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edge.agent import Agent
from edge.capture.opening import is_live
from edge.capture.stream import ffmpeg_path
from edge.config import AgentConfig, BrokerConfig, CameraConfig, InferenceConfig
from edge.errors import BrokerError, EarmarkError, SourceError
from edge.memory import family, memory_kb, resident_mb
from edge.messaging.local_broker import free_port
from edge.pipeline import FrameResult
from edge.vision.types import Frame

# Buffers have their full size and animals their names by then.
_FRAMES = 100
_LIMIT_S = 180.0


@dataclass(frozen=True, slots=True)
class AgentMemory:
    """Megabytes of an agent with one network camera after so many frames; size: of the frames.

    alone_mb: of all its processes, memory that they share counted once: what it takes of a device.
    pss_mb, rss_mb: proportional and resident set sizes of all, added; what other programs share
    makes the first smaller, and what these processes share makes the second larger. The rest:
    resident set size of each process.
    """

    alone_mb: float
    pss_mb: float
    rss_mb: float
    agent_rss_mb: float
    inference_rss_mb: float
    ffmpeg_rss_mb: float
    size: tuple[int, int]


def agent_memory(
    bundle: Path, source: str, *, accelerator: str = "auto", threads: int = 2, frames: int = _FRAMES
) -> AgentMemory:
    """Run an agent on a network camera until it has worked through `frames`, and measure it.

    source: a camera's address, or a video file that an ffmpeg plays as one, over and over. Events
    go to the disk, since no broker answers. Raises EarmarkError for an agent that does not run, and
    SourceError without ffmpeg.
    """
    with contextlib.ExitStack() as stack:
        camera = source if is_live(source) else stack.enter_context(_played(source))
        state = stack.enter_context(tempfile.TemporaryDirectory())
        command = [
            *(sys.executable, "-m", "edge.bench.memory", str(bundle), camera, state),
            *(accelerator, str(threads), str(frames)),
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S)
        except subprocess.TimeoutExpired as error:
            raise EarmarkError(
                f"{source}: fewer than {frames} frames within {_LIMIT_S:g} s"
            ) from error
    if done.returncode != 0:
        words = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise EarmarkError(f"the agent whose memory was to be measured ended: {words[-1]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return AgentMemory(**{**found, "size": tuple(found["size"])})


@contextlib.contextmanager
def _played(video: str) -> Iterator[str]:
    """Play a video in its own time, over and over, and give the address at which it is seen."""
    url = f"http://127.0.0.1:{free_port()}/pen.ts"
    command = [
        *(ffmpeg_path(), "-nostdin", "-v", "error", "-re", "-stream_loop", "-1", "-i", video),
        *("-map", "0:v:0", "-c", "copy", "-f", "mpegts", "-listen", "1", url),
    ]
    camera = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield url
    finally:
        camera.kill()
        camera.wait()


def measure(pid: int, size: tuple[int, int], proc: Path = Path("/proc")) -> AgentMemory:
    """Return the memory of an agent's process and all below it; size: of its frames."""
    processes = family(pid, proc)
    pss_mb, rss_mb = resident_mb(pid, proc)
    parts = {"agent": 0.0, "inference": 0.0, "ffmpeg": 0.0}
    for one in processes:
        parts[_part(one, pid, proc)] += memory_kb(proc / str(one))[1] / 1024
    return AgentMemory(
        alone_mb=alone_mb(processes, proc),
        pss_mb=pss_mb,
        rss_mb=rss_mb,
        agent_rss_mb=parts["agent"],
        inference_rss_mb=parts["inference"],
        ffmpeg_rss_mb=parts["ffmpeg"],
        size=size,
    )


def alone_mb(pids: Sequence[int], proc: Path = Path("/proc")) -> float:
    """Return megabytes of processes as if no others ran: files that several map count once.

    PSS would count less of a library that any other program has open as well.
    """
    anonymous_kb = 0
    files: dict[tuple[str, str], int] = {}
    for pid in pids:
        for place, rss_kb, own_kb in _mappings(proc / str(pid) / "smaps"):
            anonymous_kb += own_kb
            files[place] = max(files.get(place, 0), rss_kb - own_kb)
    return (anonymous_kb + sum(files.values())) / 1024


def _mappings(smaps: Path) -> Iterator[tuple[tuple[str, str], int, int]]:
    """Yield of each mapping its file and offset, and kB: resident, and thereof of no file."""
    try:
        lines = smaps.read_text(errors="replace").splitlines()
    except OSError:  # it has ended meanwhile
        return
    place, rss_kb = ("", ""), 0
    for line in lines:
        words = line.split()
        if not words[0].endswith(":"):
            # 7f12-7f34 r-xp 00001000 08:01 1234  /usr/lib/libx.so
            place = (" ".join(words[3:]), words[2])
        elif words[0] == "Rss:":
            rss_kb = int(words[1])
        elif words[0] == "Anonymous:":
            yield place, rss_kb, int(words[1])


def _part(pid: int, agent: int, proc: Path) -> str:
    if pid == agent:
        return "agent"
    try:
        program = (proc / str(pid) / "cmdline").read_bytes().split(b"\0")[0]
    except OSError:
        program = b""
    return "ffmpeg" if b"ffmpeg" in program.rpartition(b"/")[2] else "inference"


class _Sampler:
    """An observer of frames: measures the agent at the last of so many, then stops it."""

    def __init__(self, frames: int, stop: Callable[[], None]) -> None:
        self.found: AgentMemory | None = None
        self._left, self._stop = frames, stop

    def __call__(self, frame: Frame, result: FrameResult) -> None:
        self._left -= 1
        if self._left == 0:
            height, width = frame.image.shape[:2]
            self.found = measure(os.getpid(), (width, height))
            self._stop()


def main() -> None:
    """Be an agent with one camera; print its memory as JSON after so many frames.

    Arguments: bundle, address, state folder, accelerator, threads, frames.
    """
    bundle, camera, state, accelerator, threads, frames = sys.argv[1:7]
    config = AgentConfig(
        bundle=bundle,
        cameras=[CameraConfig(name="bench", source=camera)],
        device="bench",
        state_dir=state,
        threads=int(threads),
        inference=InferenceConfig(accelerator=accelerator),
        broker=BrokerConfig(url=f"mqtt://127.0.0.1:{free_port()}"),
    )
    sampler = _Sampler(int(frames), lambda: agent.stop())
    agent = Agent(config, observers=[sampler], say=lambda text: print(text, file=sys.stderr))
    try:
        agent.run()
    except BrokerError:
        # Its events were for the disk, which is thrown away with the state folder.
        if sampler.found is None:
            raise
    if sampler.found is None:
        raise SourceError(f"{camera}: ended before {frames} frames")
    print(json.dumps(asdict(sampler.found)))


if __name__ == "__main__":
    main()

"""Fault table, the power cut: what was committed is there, whatever instant it fails at.

An ext4 file system in a file is copied while a process writes events to it: each copy is what a
disk would hold whose power failed then. It is mounted, as after a reboot, and opened.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.messaging.events import Sighting, decode, encode
from edge.messaging.outbox import Outbox

pytestmark = pytest.mark.slow
INSTANTS = 50
# A copy that takes longer than the pause between two commits is of no instant.
PAUSE_S = 0.05
LIMIT_S = 1.0

WRITER = """
import sys, threading, time
from pathlib import Path
import msgspec
from edge.messaging.events import Sighting
from edge.messaging.intake import Intake
from edge.messaging.outbox import Outbox

event = msgspec.convert(msgspec.json.decode(sys.argv[2]), Sighting)
outbox = Outbox(Path(sys.argv[1]) / "state" / "outbox.db", limit_rows=600)
append = outbox.append

def telling(events):
    stored = append(events)
    print(*[f"stored {one.stream} {one.seq} {one.track} {time.monotonic()}" for one in stored],
          sep="\\n", flush=True)
    # What goes is part of what a power cut meets.
    if outbox.last_seq % 3 == 0:
        outbox.delivered([outbox.first])
        print(f"gone {outbox.first - 1}", flush=True)
    return stored

outbox.append = telling
intake = Intake(outbox, lambda: None, print, gather_s=float(sys.argv[3]))
for track in range(1_000_000):
    print(f"put {track} {time.monotonic()}", flush=True)
    intake.put([msgspec.structs.replace(event, track=track)])
    time.sleep(float(sys.argv[3]))
"""


@pytest.fixture
def image(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """The file and the place where it is mounted; in memory, where copying takes milliseconds."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    if shutil.which("mkfs.ext4") is None or shutil.which("mount") is None:
        pytest.skip("mkfs.ext4 and mount are not installed")
    shared = Path("/dev/shm")
    folder = shared / f"earmark-power-{os.getpid()}" if shared.is_dir() else tmp_path
    folder.mkdir(exist_ok=True)
    file, place = folder / "disk.img", tmp_path / "disk"
    place.mkdir()
    try:
        with file.open("wb") as stream:
            stream.truncate(16 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-J", "size=4", str(file)], check=True)
        with mounted(file, place):
            yield file, place
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def mounted(file: Path, place: Path) -> Iterator[None]:
    run = subprocess.run(
        ["mount", "-o", "loop,data=ordered", str(file), str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        pytest.skip(f"a file system may not be mounted here: {run.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


class Writer:
    """The process that writes events, and what it said and when it was heard."""

    def __init__(self, folder: Path, event: Sighting, pause_s: float) -> None:
        self.stream = ""
        self.put: dict[int, float] = {}
        self.stored: dict[int, tuple[int, float]] = {}
        self.gone: set[int] = set()
        self._process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder), encode(event).decode(), str(pause_s)],
            stdout=subprocess.PIPE,
            text=True,
        )
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            match line.split():
                case ["put", track, at]:
                    self.put[int(track)] = float(at)
                case ["stored", stream, seq, track, at]:
                    self.stream = stream
                    self.stored[int(seq)] = (int(track), float(at))
                case ["gone", seq]:
                    self.gone.add(int(seq))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.mark.timeout(600)
def test_every_event_of_more_than_a_second_ago_survives_a_power_cut(
    image, make_event, tmp_path, wait_until
):
    file, place = image
    rng = random.Random(50)
    writer = Writer(place, make_event(id="0" * 26, seq=1, stream="0" * 32), PAUSE_S)
    cuts: list[tuple[Path, float]] = []
    try:
        wait_until(lambda: len(writer.stored) >= 30, 60)
        while len(cuts) < INSTANTS:
            time.sleep(rng.uniform(0.0, 2 * PAUSE_S))
            copy = file.with_name(f"cut-{len(cuts)}.img")
            at_s = time.monotonic()
            shutil.copyfile(file, copy)
            if time.monotonic() - at_s < PAUSE_S:
                cuts.append((copy, at_s))
            else:
                copy.unlink()
    finally:
        writer.close()
    assert len(writer.stored) > INSTANTS
    again = tmp_path / "again"
    again.mkdir()
    for copy, at_s in cuts:
        with mounted(copy, again), Outbox(again / "state" / "outbox.db", limit_rows=600) as outbox:
            assert (outbox.moved_aside, outbox.stream) == (None, writer.stream)
            found = {
                row.seq: decode(row.payload, Sighting).track for row in outbox.pending(100_000)
            }
            lost = {seq for gap in outbox.gaps for seq in range(gap.first, gap.last + 1)}
            # Committed before the cut: there, delivered, or counted.
            committed = {
                seq: track for seq, (track, stored_s) in writer.stored.items() if stored_s < at_s
            }
            assert committed.keys() <= found.keys() | writer.gone | lost
            assert committed.items() >= {
                (seq, track) for seq, track in found.items() if seq in committed
            }
            # Handed over more than a second before it: committed.
            early = {track for track, put_s in writer.put.items() if put_s < at_s - LIMIT_S}
            numbers = {track: seq for seq, (track, _) in writer.stored.items()}
            assert all(numbers[track] <= outbox.last_seq for track in early)
            # Numbers that were given out are never given out again.
            assert outbox.append([make_event()])[0].seq > max(committed, default=0)
        copy.unlink()


def test_without_the_flush_the_rig_would_notice(image, make_event, tmp_path, wait_until):
    """What `synchronous=OFF` leaves after a cut, so that the test above means something."""
    file, place = image
    outbox = Outbox(place / "state" / "outbox.db")
    outbox.append([make_event()] * 3)
    outbox._file.connection.execute("PRAGMA synchronous=OFF")
    outbox._file._durable = True
    outbox.append([make_event()] * 3)
    copy = file.with_name("cut.img")
    shutil.copyfile(file, copy)
    outbox.close()
    again = tmp_path / "again"
    again.mkdir()
    with mounted(copy, again), Outbox(again / "state" / "outbox.db") as found:
        assert found.last_seq == 3

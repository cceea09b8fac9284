"""Memory of an agent: of a made-up machine, and of a real agent at work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edge.bench.memory import agent_memory, alone_mb, measure
from edge.errors import EarmarkError

DEMO = Path(__file__).parents[3] / "models" / "demo"


def mapping(name: str, rss: int, anonymous: int, offset: str = "00000000") -> str:
    return (
        f"7f00a000-7f00b000 r-xp {offset} {name}\n"
        f"Size: 9999 kB\nRss: {rss} kB\nPss: 1 kB\nAnonymous: {anonymous} kB\nVmFlags: rd ex\n"
    )


def process(proc: Path, pid: int, parent: int, program: str, *mappings: str) -> None:
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "stat").write_text(f"{pid} (x) S {parent} 1 1 0")
    (folder / "cmdline").write_bytes(program.encode() + b"\0-i\0x\0")
    (folder / "smaps").write_text("".join(mappings))
    rss = sum(int(row.split()[1]) for text in mappings for row in text.splitlines() if "Rss" in row)
    (folder / "smaps_rollup").write_text(f"Rss: {rss} kB\nPss: {rss // 2} kB\n")


LIBRARY = "08:01 77 /usr/lib/libx y.so"


def test_what_processes_share_counts_once(tmp_path: Path) -> None:
    process(
        tmp_path, 10, 1, "/usr/bin/python3",
        mapping("00:00 0", 4096, 4096), mapping(LIBRARY, 2048, 0), mapping(LIBRARY, 64, 64, "0800"),
    )  # fmt: skip
    process(
        tmp_path, 11, 10, "/usr/bin/python3",
        mapping("00:00 0", 1024, 1024), mapping(LIBRARY, 3072, 0), mapping(LIBRARY, 64, 64, "0800"),
    )  # fmt: skip
    process(tmp_path, 12, 10, "/usr/bin/ffmpeg", mapping("00:00 0", 512, 512))
    # kB: what belongs to each, and of the library's pages as many as one of them has touched.
    alone = (4096 + 64 + 1024 + 64 + 512 + 3072) / 1024
    assert alone_mb([10, 11, 12], tmp_path) == pytest.approx(alone)
    found = measure(10, (1280, 720), tmp_path)
    assert found.alone_mb == pytest.approx(alone)
    parts = (found.agent_rss_mb, found.inference_rss_mb, found.ffmpeg_rss_mb)
    assert parts == pytest.approx((6208 / 1024, 4160 / 1024, 0.5))
    assert found.rss_mb == pytest.approx(sum(parts))
    assert found.size == (1280, 720)


def test_a_process_that_ended_meanwhile_counts_nothing(tmp_path: Path) -> None:
    process(tmp_path, 10, 1, "python3", mapping("00:00 0", 1024, 1024))
    assert alone_mb([10, 99], tmp_path) == 1


@pytest.mark.slow
def test_an_agent_that_does_not_run_says_why(tmp_path: Path) -> None:
    with pytest.raises(EarmarkError, match=f"ended: .*{re.escape(str(tmp_path))}"):
        agent_memory(tmp_path, str(DEMO / "pen.mp4"), accelerator="cpu", frames=1)

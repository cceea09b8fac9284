from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from edge.release.heartbeat import Heartbeat, heartbeat_path, read_heartbeat, write_heartbeat

BEAT = Heartbeat(
    pid=7,
    boot="b7",
    release="0123456789ab-7",
    trial=True,
    since_s=3.5,
    frames=80,
    named=2,
    unknown=1,
    backend="cpu",
    degraded=False,
    error=None,
    at_monotonic_s=812.25,
)


def test_what_is_written_is_read_and_the_last_word_counts(tmp_path: Path) -> None:
    assert read_heartbeat(tmp_path) is None
    write_heartbeat(tmp_path, BEAT)
    assert read_heartbeat(tmp_path) == BEAT
    later = msgspec.structs.replace(BEAT, frames=90, error="no such accelerator")
    write_heartbeat(tmp_path, later)
    assert read_heartbeat(tmp_path) == later
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["agent.json"]


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xfe", b"[" * 10_000, b'{"a":' * 3_000, b"x" * (1 << 20)],
)
def test_what_is_no_heartbeat_is_none(tmp_path: Path, data: bytes) -> None:
    write_heartbeat(tmp_path, BEAT)
    heartbeat_path(tmp_path).write_bytes(data)
    assert read_heartbeat(tmp_path) is None


@pytest.mark.parametrize("change", [{"schema": 2}, {"news": 1}, {"pid": "x"}])
def test_a_heartbeat_of_another_kind_is_none(tmp_path: Path, change: dict[str, object]) -> None:
    write_heartbeat(tmp_path, BEAT)
    path = heartbeat_path(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_bytes()) | change))
    assert read_heartbeat(tmp_path) is None

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edge.messaging.events import PayloadError, UpdateReport, decode, encode
from edge.messaging.topics import Address, Topics, parse_topic
from edge.release.report import read_report, report_path, write_report

REPORT = UpdateReport(
    schema=1,
    device="barn-7",
    rev=12,
    phase="rolled_back",
    release="0123456789ab-6",
    assignment=7,
    means=40,
    candidate="ba9876543210-7",
    channel="https://updates.example",
    reason="died-twice",
    text="ba9876543210-7 ended twice before it had named anything",
    at="2026-11-24T04:31:07.120Z",
    clock="synced",
)


def test_what_is_written_is_read_and_is_the_payload(tmp_path: Path) -> None:
    assert read_report(tmp_path) is None
    write_report(tmp_path, REPORT)
    assert read_report(tmp_path) == REPORT
    assert decode(report_path(tmp_path).read_bytes(), UpdateReport) == REPORT
    fresh = msgspec.structs.replace(REPORT, rev=13, phase="idle", release=None, at=None)
    write_report(tmp_path, fresh)
    assert read_report(tmp_path) == fresh
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["update.json"]


@pytest.mark.parametrize("data", [b"", b"null", b"\xff", b"[" * 50_000, b"x" * (1 << 20)])
def test_what_is_no_report_is_none(tmp_path: Path, data: bytes) -> None:
    write_report(tmp_path, REPORT)
    report_path(tmp_path).write_bytes(data)
    assert read_report(tmp_path) is None


@pytest.mark.parametrize(
    "change", [{"device": "Barn 7"}, {"release": "latest"}, {"text": "x" * 501}, {"rev": -1}]
)
def test_what_nobody_could_read_is_not_written(tmp_path: Path, change: dict[str, object]) -> None:
    with pytest.raises(PayloadError):
        write_report(tmp_path, msgspec.structs.replace(REPORT, **change))
    assert not report_path(tmp_path).exists()


def test_the_phase_is_one_that_the_state_machine_has(tmp_path: Path) -> None:
    data = encode(REPORT).replace(b"rolled_back", b"asleep")
    with pytest.raises(PayloadError, match="Invalid enum value 'asleep'"):
        decode(data, UpdateReport)


def test_it_is_said_on_up_update() -> None:
    assert Topics("barn-7").update == "earmark/v1/barn-7/up/update"
    assert parse_topic(Topics("barn-7").update) == Address("barn-7", "update")

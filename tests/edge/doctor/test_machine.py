from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge.doctor import machine
from edge.doctor.verdict import Host, Verdict


def host(root: Path, files: dict[str, str], said: dict[str, str] | None = None) -> Host:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run(command: Sequence[str]) -> str | None:
        return (said or {}).get(command[0])

    return Host(root, run)


def levels(verdicts: Sequence[Verdict]) -> list[tuple[str, str]]:
    return [(verdict.level, verdict.topic) for verdict in verdicts]


def test_what_runs_here(tmp_path: Path) -> None:
    files = {
        "etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
        "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
    }
    (verdict,) = machine.versions(host(tmp_path, files))
    assert verdict.level == "ok"
    assert "earmark 0." in verdict.text
    assert "Debian GNU/Linux 12 (bookworm)" in verdict.text
    assert verdict.text.endswith("Raspberry Pi 5 Model B Rev 1.0")


@pytest.mark.parametrize(
    ("free", "level"), [("8000000 kB", "ok"), ("150000 kB", "warn"), ("much", "warn")]
)
def test_memory(tmp_path: Path, free: str, level: str) -> None:
    files = {"proc/meminfo": f"MemTotal: 8000000 kB\nMemFree: 1 kB\nMemAvailable: {free}\n"}
    (verdict,) = machine.memory(host(tmp_path, files))
    assert verdict.level == level


def test_a_slow_governor_is_told(tmp_path: Path) -> None:
    assert levels(list(machine.processor(host(tmp_path, {})))) == [("ok", "processor")]
    files = {"sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n"}
    assert levels(list(machine.processor(host(tmp_path, files)))) == [("warn", "processor")]


@pytest.mark.parametrize(
    ("throttled", "expected"),
    [
        ("throttled=0x0", [("ok", "temperature"), ("ok", "power")]),
        ("throttled=0x50005", [("ok", "temperature"), ("fail", "power"), ("fail", "power")]),
        ("throttled=0x10000", [("ok", "temperature"), ("warn", "power")]),
        ("nonsense", [("ok", "temperature")]),
    ],
)
def test_heat_and_power(tmp_path: Path, throttled: str, expected: list[tuple[str, str]]) -> None:
    there = host(
        tmp_path, {"sys/class/thermal/thermal_zone0/temp": "48300\n"}, {"vcgencmd": throttled}
    )
    assert levels(list(machine.heat(there))) == expected


def test_a_hot_box_is_told_and_one_without_a_thermometer_is_not(tmp_path: Path) -> None:
    assert list(machine.heat(host(tmp_path, {}))) == []
    (verdict,) = machine.heat(host(tmp_path, {"sys/class/thermal/thermal_zone0/temp": "81000"}))
    assert (verdict.level, verdict.text) == ("warn", "81 °C")


@pytest.mark.parametrize(
    ("believed", "kernel", "level", "words"),
    [
        (True, True, "ok", "synchronised"),
        (False, False, "warn", "not synchronised: events carry no time of day"),
        (True, False, "ok", "set since the machine started"),
        (True, None, "ok", "does not say"),
        (False, None, "warn", "not synchronised"),
    ],
)
def test_the_clock(believed: bool, kernel: bool | None, level: str, words: str) -> None:
    time = datetime(2026, 3, 5, tzinfo=UTC) if believed else None
    (verdict,) = machine.clock("ntp", lambda: time, lambda: kernel)
    assert verdict.level == level
    assert words in verdict.text


def test_a_clock_that_somebody_vouches_for_is_believed() -> None:
    (verdict,) = machine.clock("system", lambda: None, lambda: False)
    assert (verdict.level, verdict.text) == ("ok", "believed as it is (clock: system)")


def test_the_slow_runtime_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.vision.runtime.runtime_name", lambda: "tflite-runtime 2.14.0")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    verdict = next(iter(machine.runtime()))
    assert verdict.level == "warn"
    assert "thirty times slower" in verdict.text
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert next(iter(machine.runtime())).level == "ok"

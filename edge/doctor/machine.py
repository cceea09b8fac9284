"""The machine: versions, processor, memory, heat, power, clock."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from importlib import metadata

import cv2
import numpy as np

from edge import __version__
from edge.capture.clock import ClockTrust, kernel_synchronised, wall_time
from edge.doctor.verdict import Host, Verdict

_HOT_C = 75.0
_LEAST_FREE_MB = 200.0
# Bits of `vcgencmd get_throttled`: now, and since the machine was switched on.
_UNDER_VOLTAGE, _THROTTLED = 0x1, 0x4
_SINCE_BOOT = 16


def versions(host: Host) -> Iterator[Verdict]:
    """Say what runs here."""
    system = host.read("/etc/os-release") or ""
    names = dict(line.split("=", 1) for line in system.splitlines() if "=" in line)
    name = names.get("PRETTY_NAME", platform.system()).strip('"')
    board = host.read("/proc/device-tree/model") or ""
    where = f"{name}, {platform.machine()}" + (f", {board}" if board else "")
    yield Verdict(
        "ok",
        "versions",
        f"earmark {__version__}, Python {platform.python_version()}, numpy {np.__version__}, "
        f"OpenCV {cv2.__version__}; {where}",
    )
    if sys.maxsize <= 2**32:
        yield Verdict(
            "fail", "versions", "this is a 32-bit system", "install a 64-bit one (aarch64)"
        )


def processor(host: Host) -> Iterator[Verdict]:
    """Say whether the processor may run at its full speed."""
    governor = host.read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor == "powersave":
        yield Verdict(
            "warn",
            "processor",
            "is kept slow (governor powersave)",
            "set it to ondemand, schedutil or performance",
        )
    else:
        yield Verdict("ok", "processor", f"governor {governor}" if governor else "no governor")


def memory(host: Host) -> Iterator[Verdict]:
    """Say whether there is memory left."""
    rows = dict(
        line.split(":", 1)
        for line in (host.read("/proc/meminfo") or "").splitlines()
        if ":" in line
    )
    try:
        total, free = (int(rows[key].split()[0]) / 1024 for key in ("MemTotal", "MemAvailable"))
    except (KeyError, ValueError, IndexError):
        yield Verdict("warn", "memory", "the system does not say how much there is")
        return
    text = f"{free:.0f} of {total:.0f} MB available"
    if free < _LEAST_FREE_MB:
        yield Verdict("warn", "memory", text, "end other programs, or give the agent a bigger box")
    else:
        yield Verdict("ok", "memory", text)


def heat(host: Host) -> Iterator[Verdict]:
    """Say how hot it is, and whether heat or a weak power supply slow it down."""
    degrees = host.number("/sys/class/thermal/thermal_zone0/temp")
    if degrees is not None:
        hot = degrees / 1000 >= _HOT_C
        yield Verdict(
            "warn" if hot else "ok",
            "temperature",
            f"{degrees / 1000:.0f} °C",
            "give it air, a heat sink or a fan" if hot else "",
        )
    said = host.run(["vcgencmd", "get_throttled"])
    if said is None:
        return
    try:
        bits = int(said.partition("=")[2], 16)
    except ValueError:
        return
    for bit, what, advice in (
        (_UNDER_VOLTAGE, "too little voltage", "use the official power supply and a short cable"),
        (_THROTTLED, "slowed down by heat", "give it air, a heat sink or a fan"),
    ):
        if bits & bit:
            yield Verdict("fail", "power", f"{what}, now", advice)
        elif bits & (bit << _SINCE_BOOT):
            yield Verdict("warn", "power", f"{what}, at times since it was switched on", advice)
    if not bits:
        yield Verdict("ok", "power", "no trouble since it was switched on")


def clock(
    trust: ClockTrust = "ntp",
    now: Callable[[], datetime | None] = wall_time,
    synchronised: Callable[[], bool | None] = kernel_synchronised,
) -> Iterator[Verdict]:
    """Say whether events get true times, by the agent's own judgement."""
    if trust == "system":
        yield Verdict("ok", "clock", "believed as it is (clock: system)")
        return
    believed, kernel = now() is not None, synchronised()
    if not believed:
        yield Verdict(
            "warn",
            "clock",
            "not synchronised: events carry no time of day until it is",
            "check the network and the time server (timedatectl timesync-status); where something "
            "else keeps the clock right, say `clock: system` in agent.yaml",
        )
    elif kernel is None:
        yield Verdict("ok", "clock", "this system does not say whether it is synchronised")
    elif kernel:
        yield Verdict("ok", "clock", "synchronised")
    else:
        yield Verdict("ok", "clock", "set since the machine started, though not synchronised now")


def runtime() -> Iterator[Verdict]:
    """Say which TFLite runtime there is, and whether it is the slow one."""
    from edge.vision.runtime import runtime_name

    name = runtime_name()
    if name.startswith("tflite-runtime") and platform.machine() == "x86_64":
        yield Verdict(
            "warn",
            "runtime",
            f"{name}: int8 is some thirty times slower here than with ai-edge-litert",
            "pip install 'earmark[edge]' instead of earmark[tflite-runtime]",
        )
    else:
        yield Verdict("ok", "runtime", name)
    installed = {dist.metadata["Name"] for dist in metadata.distributions()}
    if "opencv-python" in installed and "opencv-python-headless" in installed:
        yield Verdict(
            "warn",
            "runtime",
            "opencv-python lies over opencv-python-headless",
            "uninstall both, then install opencv-python-headless",
        )

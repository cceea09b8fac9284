"""Accelerators: what is plugged in, whether its library is there, and whether we may use it."""

from __future__ import annotations

import ctypes.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from edge.doctor.verdict import Host, Verdict
from edge.inference import coral_present, parse_accelerator
from edge.inference.accelerator import EDGETPU_LIBRARY

_IDS = {("1a6e", "089a"): "not yet used since it was plugged in", ("18d1", "9302"): "in use"}


def coral(
    host: Host,
    accelerator: str,
    *,
    compiled: bool,
    find_library: Callable[[str], str | None] = ctypes.util.find_library,
    access: Callable[[Path, int], bool] = os.access,
) -> Iterator[Verdict]:
    """Say whether a Coral is there and can be used, if one is wanted or seen.

    accelerator: the setting. compiled: whether the bundle has files for one. find_library, access:
    as the functions of the standard library.
    """
    wanted = parse_accelerator(accelerator)
    present = coral_present(host.root)
    asked = wanted.kind == "edgetpu"
    if not (asked or present or (compiled and wanted.kind == "auto")):
        yield Verdict("ok", "accelerator", f"{accelerator}: no Coral here, the CPU serves")
        return
    level = "fail" if asked else "warn"
    if not present:
        yield Verdict(
            level,  # type: ignore[arg-type]
            "accelerator",
            "no Coral is plugged in (USB ids 1a6e:089a, 18d1:9302; /dev/apex_*)",
            "plug it into a USB 3 port, by its own cable; or set accelerator: cpu",
        )
    for node, state in _nodes(host):
        where = "/" + str(node.relative_to(host.root))
        if access(node, os.R_OK | os.W_OK):
            yield Verdict("ok", "accelerator", f"Coral at {where}, {state}")
        else:
            group = "apex" if "apex" in node.name else "plugdev"
            yield Verdict(
                "fail",
                "accelerator",
                f"Coral at {where}: this user may not use it",
                f"add the user to the group {group}, and install the udev rules of libedgetpu",
            )
    if find_library("edgetpu") is None:
        yield Verdict(
            level,  # type: ignore[arg-type]
            "accelerator",
            f"{EDGETPU_LIBRARY} is not installed",
            "install libedgetpu1-std of the community's build; Google's own crashes with new "
            "runtimes",
        )
    if not compiled:
        yield Verdict(
            "warn",
            "accelerator",
            "the bundle has no files compiled for it, so it would do nothing",
            "make the bundle where edgetpu_compiler is installed, see docs/edge-tpu.md",
        )


def _nodes(host: Host) -> Iterator[tuple[Path, str]]:
    """Yield a Coral's device nodes and how it is."""
    for node in sorted(host.root.glob("dev/apex_[0-9]*")):
        yield node, "PCIe"
    for vendor in sorted(host.root.glob("sys/bus/usb/devices/*/idVendor")):
        folder = vendor.parent

        def read(name: str, folder: Path = folder) -> str:
            return host.read(str((folder / name).relative_to(host.root))) or ""

        state = _IDS.get((read("idVendor"), read("idProduct")))
        if state and read("busnum").isdigit() and read("devnum").isdigit():
            place = f"dev/bus/usb/{int(read('busnum')):03d}/{int(read('devnum')):03d}"
            slow = read("speed") in ("12", "480")
            yield host.root / place, state + (", on a slow USB 2 port" if slow else "")

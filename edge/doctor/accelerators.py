"""Accelerators: what is plugged in, whether we may use it, and what serves in the end."""

from __future__ import annotations

import ctypes.util
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from edge.config import AgentConfig
from edge.doctor.storage import agent_runs
from edge.doctor.verdict import Host, Verdict
from edge.errors import BundleError, EarmarkError, SelfTestError
from edge.inference import coral_present, parse_accelerator
from edge.inference.accelerator import EDGETPU_LIBRARY
from edge.serving import Serving, serve_bundle

_IDS = {("1a6e", "089a"): "not yet used since it was plugged in", ("18d1", "9302"): "in use"}


def coral(
    host: Host,
    accelerator: str,
    *,
    compiled: bool,
    find_library: Callable[[str], str | None] = ctypes.util.find_library,
    access: Callable[[Path, int], bool] = os.access,
) -> Iterator[Verdict]:
    """Say whether a Coral is there and can be used, if one is wanted or seen; else nothing.

    accelerator: the setting. compiled: whether the bundle has files for one. find_library, access:
    as the functions of the standard library.
    """
    wanted = parse_accelerator(accelerator)
    present = coral_present(host.root)
    asked = wanted.kind == "edgetpu"
    if not (asked or present or (compiled and wanted.kind == "auto")):
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


def backend(config: AgentConfig, serve: Callable[..., Serving] = serve_bundle) -> Iterator[Verdict]:
    """Load the bundle as the agent would, in a child on what is asked for; say what serves.

    A bundle that no backend would have is another probe's matter. serve: as `serve_bundle`.
    """
    wanted, told = config.inference, []
    begun_s = time.monotonic()
    try:
        serving = serve(
            Path(config.bundle),
            accelerator=wanted.accelerator,
            require=wanted.require,
            threads=config.threads,
            stuck_s=wanted.stuck_s,
            listener=lambda event, text: told.append(text),
        )
    except EarmarkError as error:
        if isinstance(error, BundleError) and not isinstance(error, SelfTestError):
            return
        yield Verdict("fail", "accelerator", f"the agent would not start: {error}", _advice(config))
        return
    serving.inference.close()
    took_s = time.monotonic() - begun_s
    name = serving.inference.backend
    if serving.inference.degraded:
        yield Verdict(
            "warn", "accelerator", f"{told[-1]}; {name}, ready in {took_s:.1f} s", _advice(config)
        )
    elif told:
        text = f"{name} serves, but: {told[-1]}"
        yield Verdict("warn", "accelerator", text, "look at its cable, power and cooling")
    else:
        yield Verdict(
            "ok", "accelerator", f"{name} serves, golden answers through it, in {took_s:.1f} s"
        )


def _advice(config: AgentConfig) -> str:
    advice = "mend that, or set accelerator: cpu"
    if config.inference.require:
        advice = "mend that, or set require: false to let the CPU serve"
    if agent_runs(config.state_folder()):
        # Most accelerators serve one process at a time.
        return f"an agent runs and may hold it: stop that and ask again; {advice}"
    return advice


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

"""Which accelerator to use, from a setting and from what the device has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl

from edge.errors import UsageError
from edge.vision.runtime import Delegate

Kind = Literal["auto", "cpu", "edgetpu", "gpu", "delegate"]

EDGETPU_LIBRARY = "libedgetpu.so.1"
# A Coral's USB ids: before its first inference, and once its firmware is loaded.
_CORAL_USB = {("1a6e", "089a"), ("18d1", "9302")}
_EDGETPU_DEVICE = re.compile(r"(?:usb|pci)(?::\d{1,3})?")
_FORMS = "auto, cpu, edgetpu, edgetpu:usb, edgetpu:pci:0, gpu, or delegate:/path/lib.so?key=value"


@dataclass(frozen=True, slots=True)
class Accelerator:
    """What the settings ask for. library, options: of a delegate; `device` for an Edge TPU."""

    kind: Kind
    library: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Backend:
    """One thing that models can run on.

    compiled: whether it wants the files compiled for an Edge TPU. delegate: None for the CPU and
    for a GPU.
    """

    kind: Kind
    delegate: Delegate | None = None

    @property
    def compiled(self) -> bool:
        """Whether it runs the files that were compiled for an Edge TPU."""
        return self.kind == "edgetpu"

    @property
    def name(self) -> str:
        """What people read of it."""
        return self.delegate.name if self.delegate else self.kind


CPU = Backend("cpu")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is tried, in this order.

    backends: the CPU comes last, unless an accelerator is required. expected: whether to run on the
    last one, the CPU, means that an accelerator is missing.
    """

    backends: tuple[Backend, ...]
    expected: bool


def parse_accelerator(text: str) -> Accelerator:
    """Read the setting `accelerator`; UsageError for what it cannot be."""
    if text in ("auto", "cpu", "gpu"):
        return Accelerator(text)  # type: ignore[arg-type]
    kind, _, rest = text.partition(":")
    if kind == "edgetpu" and (text == kind or _EDGETPU_DEVICE.fullmatch(rest)):
        return Accelerator("edgetpu", EDGETPU_LIBRARY, {"device": rest} if rest else {})
    if kind == "delegate" and rest:
        library, _, query = rest.partition("?")
        options = dict(parse_qsl(query, keep_blank_values=True))
        if library and len(options) == (query.count("&") + 1 if query else 0) == query.count("="):
            return Accelerator("delegate", library, options)
    raise UsageError(f"accelerator {text!r}: give {_FORMS}")


def plan_backends(accelerator: Accelerator, *, require: bool, compiled: bool, coral: bool) -> Plan:
    """Return what to try.

    require: without the accelerator do nothing at all. compiled: whether the bundle has files for
    an Edge TPU. coral: whether one is plugged in. With `auto` an Edge TPU is tried if either says
    that there ought to be one; a device without a Coral simply runs on its CPU.
    """
    if accelerator.kind == "cpu":
        return Plan((CPU,), expected=False)
    if accelerator.kind == "auto":
        if not compiled and not coral and not require:
            return Plan((CPU,), expected=False)
        accelerator = Accelerator("edgetpu", EDGETPU_LIBRARY)
    name = {"edgetpu": "Edge TPU", "delegate": "delegate"}.get(accelerator.kind, "")
    delegate = Delegate(accelerator.library, accelerator.options, name) if name else None
    wanted = Backend(accelerator.kind, delegate)
    return Plan((wanted,) if require else (wanted, CPU), expected=True)


def coral_present(root: Path = Path("/")) -> bool:
    """Say whether a Coral is plugged in: by its USB ids or its PCIe device node.

    root: of the file system that has `sys` and `dev`.
    """
    if any(root.glob("dev/apex_[0-9]*")):
        return True
    for vendor in root.glob("sys/bus/usb/devices/*/idVendor"):
        try:
            ids = (vendor.read_text().strip(), (vendor.parent / "idProduct").read_text().strip())
        except OSError:  # unplugged in between
            continue
        if ids in _CORAL_USB:
            return True
    return False

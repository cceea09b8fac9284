"""What a device is: its Python, its processor, its C library."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec

from deploy.fleet.requirements import Machine
from deploy.fleet.ssh import DeviceError
from deploy.fleet.target import Target

_ASK = """
import json, os, platform, struct, sys
print(json.dumps({"arch": os.uname().machine, "bits": struct.calcsize("P") * 8,
    "python": platform.python_version(), "libc": platform.libc_ver(),
    "implementation": sys.implementation.name}))
"""
_OLDEST, _NEWEST = (3, 11), (3, 13)


class _Told(msgspec.Struct):
    arch: Annotated[str, msgspec.Meta(max_length=32)]
    bits: int
    python: Annotated[str, msgspec.Meta(pattern=r"^[0-9.]{3,16}")]
    libc: tuple[str, str]
    implementation: Literal["cpython"]


async def ask_machine(target: Target) -> tuple[str, Machine]:
    """Return a device's Python program and what wheels must suit; DeviceError for one that cannot.

    What the inventory says of architecture and Python must be so.
    """
    device = target.device
    program = f"python{device.python}" if device.python else "python3"
    answer = await target.ask('exec "$1" -c "$2"', program, _ASK)
    if answer.code != 0:
        raise DeviceError(
            f"{target.where}: {program}: {answer.error or 'does not run'}; it needs Python 3.11 to "
            f"3.13 (Debian: apt-get install {program})"
        )
    try:
        told = msgspec.json.decode(answer.out, type=_Told)
    except msgspec.DecodeError as error:
        raise DeviceError(f"{target.where}: {program}: is no Python that earmark knows") from error
    version = tuple(int(part) for part in re.findall(r"[0-9]+", told.python)[:2])
    if not _OLDEST <= version <= _NEWEST:
        raise DeviceError(f"{target.where}: {program} is {told.python}; earmark needs 3.11 to 3.13")
    if told.bits != 64 or told.arch not in ("x86_64", "aarch64"):
        raise DeviceError(
            f"{target.where}: {told.arch} with {told.bits} bits: there are no packages for it; "
            "install a 64-bit system"
        )
    if told.libc[0] != "glibc":
        raise DeviceError(f"{target.where}: its C library is not glibc; use the container instead")
    if device.arch not in (None, told.arch):
        raise DeviceError(
            f"{target.where}: is {told.arch}, and {device.arch} in the inventory; which is wrong?"
        )
    return program, Machine(told.arch, told.python, told.libc[1])

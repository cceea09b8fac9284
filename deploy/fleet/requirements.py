"""Which packages a device needs: earmark's own metadata followed down, versions as pinned.

pip's resolver cannot be asked for another machine: it reads environment markers, such as
`platform_machine == 'aarch64'`, of the machine that it runs on. Pinned versions need none.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from edge.errors import EarmarkError, UsageError

_METADATA_LIMIT_BYTES = 4 << 20


class WheelhouseError(EarmarkError):
    """Packages for a device that cannot be gathered."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What wheels must suit: `aarch64`, Python `3.11.2`, glibc `2.36`."""

    arch: str
    python: str
    glibc: str

    @property
    def minor(self) -> str:
        """Python's version as `3.11`."""
        return ".".join(self.python.split(".")[:2])

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platform tags whose wheels run there, newest first."""
        major, _, minor = self.glibc.partition(".")
        newest = int(minor) if major == "2" and minor.isdigit() else 17
        tags = [f"manylinux_2_{n}_{self.arch}" for n in range(newest, 16, -1)]
        older = [f"manylinux2014_{self.arch}"]
        if self.arch == "x86_64":
            older += [
                "manylinux_2_12_x86_64",
                "manylinux2010_x86_64",
                "manylinux_2_5_x86_64",
                "manylinux1_x86_64",
            ]
        return (*tags, *older, f"linux_{self.arch}")

    def environment(self) -> dict[str, str]:
        """Return the values of environment markers there (PEP 508)."""
        return {
            "implementation_name": "cpython",
            "implementation_version": self.python,
            "os_name": "posix",
            "platform_machine": self.arch,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": self.python,
            "python_version": self.minor,
            "sys_platform": "linux",
        }


def read_pins(path: Path, machine: Machine) -> dict[str, str]:
    """Return the versions that constraints.txt pins for a machine, by normalised name."""
    environment = machine.environment()
    pins: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        try:
            pin = Requirement(text)
        except InvalidRequirement as error:
            raise UsageError(f"{path}:{number}: not a constraint: {text}") from error
        versions = [one.version for one in pin.specifier if one.operator == "=="]
        if len(versions) != 1:
            raise UsageError(f"{path}:{number}: {text}: pin one version with ==")
        if pin.marker is None or pin.marker.evaluate(environment):
            pins[canonicalize_name(pin.name)] = versions[0]
    return pins


Fetch = Callable[[Sequence[str]], Mapping[str, Path]]


def closure(
    own: Path, extras: Iterable[str], machine: Machine, pins: Mapping[str, str], fetch: Fetch
) -> list[Path]:
    """Return the wheels that `own[extras]` needs on a machine, itself first.

    fetch: returns the wheels of `name==version` entries, by normalised name. WheelhouseError for a
    package that is not pinned, or pinned to what somebody does not want.
    """
    environment = machine.environment()
    name = canonicalize_name(own.name.partition("-")[0])
    wheels: dict[str, Path] = {name: own}
    asked: set[tuple[str, str]] = set()
    waiting = [(name, extra) for extra in ("", *extras)]
    while waiting:
        needed: list[Requirement] = []
        for package, extra in waiting:
            asked.add((package, extra))
            for requirement in _requirements(wheels[package]):
                marker = requirement.marker
                if marker is None:
                    wanted = not extra
                else:
                    wanted = marker.evaluate({**environment, "extra": extra})
                if wanted:
                    needed.append(requirement)
        missing = {}
        for requirement in needed:
            package = canonicalize_name(requirement.name)
            if package not in wheels:
                missing[package] = f"{package}=={_pinned(requirement, pins)}"
        if missing:
            wheels.update(fetch(sorted(missing.values())))
        waiting = [
            pair
            for requirement in needed
            for pair in (
                (canonicalize_name(requirement.name), extra) for extra in ("", *requirement.extras)
            )
            if pair not in asked
        ]
        waiting = list(dict.fromkeys(waiting))
    return list(wheels.values())


def _pinned(requirement: Requirement, pins: Mapping[str, str]) -> str:
    version = pins.get(canonicalize_name(requirement.name))
    if version is None:
        raise WheelhouseError(
            f"{requirement.name}: is needed and not pinned in constraints.txt; make lock pins it"
        )
    if not requirement.specifier.contains(version, prereleases=True):
        raise WheelhouseError(
            f"{requirement.name}: {version} is pinned and {requirement.specifier} is needed; make "
            "lock pins anew"
        )
    return version


def _requirements(wheel: Path) -> list[Requirement]:
    """Return what a wheel's metadata says it needs."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [
                info
                for info in archive.infolist()
                if info.filename.endswith(".dist-info/METADATA") and info.filename.count("/") == 1
            ]
            if len(names) != 1 or names[0].file_size > _METADATA_LIMIT_BYTES:
                raise WheelhouseError(f"{wheel}: not a wheel; remove it and run again")
            metadata = BytesHeaderParser().parsebytes(archive.read(names[0]))
        return [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    except (zipfile.BadZipFile, InvalidRequirement) as error:
        raise WheelhouseError(f"{wheel}: {error}; remove it and run again") from error

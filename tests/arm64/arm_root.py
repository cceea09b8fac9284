"""What an emulated 64-bit ARM board is made of: a Debian root, and wheels unpacked beside it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

from edge.errors import EarmarkError, UsageError

PROJECT = Path(__file__).resolve().parents[2]
RUNTIME = "ai-edge-litert"
SUITE = "bookworm"
PYTHON = "3.11"
# The suite's glibc is 2.36; pip wants to be told each that a wheel may be tagged with.
_GLIBC_MINORS = range(17, 37)
_ARM = {
    "platform_machine": "aarch64",
    "platform_system": "Linux",
    "platform_python_implementation": "CPython",
    "sys_platform": "linux",
    "os_name": "posix",
    "implementation_name": "cpython",
    "python_version": PYTHON,
    "python_full_version": f"{PYTHON}.2",
}


def find_program(name: str, package: str) -> str:
    """Return the program's path; UsageError, with the Debian package, when there is none."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if found is None:
        raise UsageError(f"{name} is not here; on Debian: apt-get install {package}")
    return found


def make_root(work: Path, mirror: str) -> Path:
    """Return an arm64 Debian root with Python in it; the first call makes it, which wants root."""
    root = work / f"root-{SUITE}"
    if root.is_dir():
        return root
    debootstrap = find_program("debootstrap", "debootstrap")
    if os.geteuid() != 0:
        raise UsageError(f"{root}: debootstrap works for root only; run this once with sudo")
    part = _fresh(root)
    _run(
        *(debootstrap, "--foreign", "--force-check-gpg", "--arch=arm64", "--variant=minbase"),
        *("--include=python3", SUITE, part, mirror),
    )
    # The first stage unpacks what every Debian has, and only fetches the rest. The second stage
    # would want binfmt and chroot.
    fetched = part / "debootstrap"
    rest = set((fetched / "base").read_text().split())
    for line in (fetched / "debpaths").read_text().splitlines():
        name, deb = line.split(" ", 1)
        if name in rest:
            _unpack(part / deb.lstrip("/"), part)
    shutil.rmtree(part / "var" / "cache" / "apt")
    return part.rename(root)


def make_packages(work: Path) -> Path:
    """Return a folder with the aarch64 wheels of the extra `edge`, at the versions we pin."""
    lines = (PROJECT / "constraints.txt").read_text().splitlines()
    pins = _for_arm([line for line in lines if line[:1].isalpha()])
    return _install(work, _edge_requirements(), pins)


def make_runtime(work: Path, version: str) -> Path:
    """Return a folder with the aarch64 wheel of one version of the runtime, and nothing else."""
    return _install(work, [f"{RUNTIME}=={version}"], [], "--no-deps")


def pinned_runtime() -> str:
    """Return the runtime's version that pyproject.toml asks for on aarch64."""
    for text in _edge_requirements():
        requirement = Requirement(text)
        if requirement.name == RUNTIME:
            return str(requirement.specifier).removeprefix("==")
    raise EarmarkError(f"pyproject.toml: the extra edge names no {RUNTIME} for aarch64")


def _edge_requirements() -> list[str]:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]

    def followed(extra: str) -> Iterator[str]:
        for text in extras[extra]:
            requirement = Requirement(text)
            if requirement.name == project["name"]:
                for other in sorted(requirement.extras):
                    yield from followed(other)
            else:
                yield text

    return _for_arm([*project["dependencies"], *followed("edge")])


def _for_arm(requirements: list[str]) -> list[str]:
    """Return those that hold on the root, without their markers: pip would ask this machine's."""
    kept = []
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate(_ARM):
            requirement.marker = None
            kept.append(str(requirement))
    return kept


def _install(work: Path, wanted: list[str], pins: list[str], *options: str) -> Path:
    """Return a folder of wheels for the root's Python, made when it is not there."""
    key = hashlib.sha256("\n".join([*wanted, *pins]).encode()).hexdigest()[:12]
    folder = work / f"wheels-{key}"
    if folder.is_dir():
        return folder
    part = _fresh(folder)
    constraints = work / "constraints.txt"
    constraints.write_text("".join(f"{pin}\n" for pin in pins))
    _run(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *("--target", part, "--only-binary=:all:", f"--python-version={PYTHON}"),
        *(f"--platform=manylinux_2_{minor}_aarch64" for minor in _GLIBC_MINORS),
        *("--platform=manylinux2014_aarch64", "-c", constraints, *options, *wanted),
    )
    return part.rename(folder)


def _unpack(deb: Path, root: Path) -> None:
    """Unpack a Debian package; unlike `dpkg-deb -x`, which would put a folder in place of /lib."""
    with tempfile.TemporaryFile() as tar:
        subprocess.run(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=tar, check=True)
        tar.seek(0)
        subprocess.run(
            ["tar", "-x", "--keep-directory-symlink", "-C", str(root)], stdin=tar, check=True
        )


def _fresh(folder: Path) -> Path:
    """Return a place for what becomes `folder` by rename, without what a killed call left."""
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    return part


def _run(*command: str | Path) -> None:
    words = [str(part) for part in command]
    print(" ".join(words[:3]), "…", file=sys.stderr, flush=True)
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["it said nothing"]
        raise EarmarkError(f"{Path(words[0]).name} failed: {lines[-1]}")

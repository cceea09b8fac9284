"""All packages of a device's Python environment, gathered here: the device needs no network."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from deploy.fleet.requirements import Machine, WheelhouseError, closure, read_pins
from deploy.fleet.ssh import last_line
from edge.errors import UsageError
from edge.files import expanded, sha256_file

_PROJECT = ("edge", "trainer", "deploy", "pyproject.toml", "README.md", "LICENSE")
# The same sources give the same wheel, byte for byte: 1980 is the first year that a ZIP knows.
_EPOCH = "315532800"

Run = Callable[[Sequence[str]], None]


@dataclass(frozen=True, slots=True)
class Wheel:
    """One package's file."""

    path: Path
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Wheelhouse:
    """wheels: earmark and all that it needs. pip: the wheel of pip that installs them there."""

    machine: Machine
    wheels: tuple[Wheel, ...]
    pip: Wheel

    @property
    def id(self) -> str:
        """12 hex digits that stand for exactly these packages and this Python."""
        text = "\n".join([self.machine.minor, *sorted(wheel.sha256 for wheel in self.wheels)])
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def files(self) -> tuple[Wheel, ...]:
        """Everything that has to be on the device."""
        return (*self.wheels, self.pip)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where packages come from.

    constraints: pinned versions. project: folder of earmark's sources; or wheel: earmark, built.
    cache: folder in which wheels are kept.
    """

    constraints: Path
    cache: Path
    project: Path | None = None
    wheel: Path | None = None


def default_sources(wheel: Path | None = None, constraints: Path | None = None) -> Sources:
    """Return the sources that this program itself runs from; UsageError where there are none."""
    project = Path(__file__).resolve().parents[2]
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    cache = expanded(home) / "earmark" / "wheels"
    has_sources = (project / "pyproject.toml").is_file()
    if wheel is None and not has_sources:
        raise UsageError("earmark's sources are not here; give its wheel: --wheel earmark-….whl")
    if constraints is None:
        constraints = project / "constraints.txt"
        if not constraints.is_file():
            raise UsageError("constraints.txt is not here; give it: --constraints FILE")
    return Sources(constraints, cache, project if wheel is None else None, wheel)


def gather(
    sources: Sources, machine: Machine, extras: Sequence[str], run: Run | None = None
) -> Wheelhouse:
    """Return every package that `earmark[edge]` with `extras` needs on a machine.

    What is in the cache is not loaded again. run: runs pip; WheelhouseError when it fails.
    """
    run = run or run_pip
    own = sources.wheel or _own_wheel(sources, run)
    pins = read_pins(sources.constraints, machine)
    folder = sources.cache / f"{machine.arch}-py{machine.minor}-glibc{machine.glibc}"
    folder.mkdir(parents=True, exist_ok=True)

    def fetch(wanted: Sequence[str]) -> Mapping[str, Path]:
        return download(wanted, machine, folder, run)

    paths = closure(own, ["edge", *extras], machine, pins, fetch)
    [pip] = fetch([f"pip=={metadata.version('pip')}"]).values()
    return Wheelhouse(machine, tuple(_wheel(path) for path in paths), _wheel(pip))


def download(wanted: Sequence[str], machine: Machine, folder: Path, run: Run) -> dict[str, Path]:
    """Return the wheels of `name==version` entries by normalised name, loading what is missing."""
    missing = [one for one in wanted if one not in _found(folder)]
    if missing:
        # A download that is cut off must not leave half a wheel under its name.
        with tempfile.TemporaryDirectory(dir=folder) as place:
            run(download_arguments(missing, machine, Path(place)))
            for path in Path(place).glob("*.whl"):
                path.replace(folder / path.name)
    found = _found(folder)
    if lacking := [one for one in wanted if one not in found]:
        raise WheelhouseError(f"{', '.join(lacking)}: pip has loaded no wheel of it")
    return {one.partition("==")[0]: found[one] for one in wanted}


def download_arguments(wanted: Sequence[str], machine: Machine, place: Path) -> list[str]:
    """Return pip's arguments that load wheels for another machine."""
    arguments = ["download", "--no-deps", "--only-binary=:all:", "--implementation", "cp"]
    arguments += ["--python-version", machine.minor]
    for platform in machine.platforms:
        arguments += ["--platform", platform]
    return [*arguments, "--dest", str(place), *wanted]


def run_pip(arguments: Sequence[str]) -> None:
    """Run pip of this environment; WheelhouseError with its last words."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    result = subprocess.run(
        [*command, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "SOURCE_DATE_EPOCH": _EPOCH},
    )
    if result.returncode != 0:
        raise WheelhouseError(f"pip {arguments[0]}: {last_line(result.stderr)}")


def _own_wheel(sources: Sources, run: Run) -> Path:
    """Build earmark's wheel, or take it from the cache when the sources are the same."""
    assert sources.project is not None
    with tempfile.TemporaryDirectory() as place:
        # A copy: what setuptools leaves in the sources would find its way into later wheels.
        copy = Path(place) / "earmark"
        copy.mkdir()
        for name in _PROJECT:
            source = sources.project / name
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
                shutil.copytree(source, copy / name, ignore=ignored)
            else:
                shutil.copy(source, copy / name)
        folder = sources.cache / "own" / _fingerprint(copy)
        built = sorted(folder.glob("earmark-*.whl"))
        if not built:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent) as out:
                run(["wheel", "--no-deps", *_isolation(), "--wheel-dir", out, str(copy)])
                folder.mkdir(exist_ok=True)
                for path in Path(out).glob("earmark-*.whl"):
                    path.replace(folder / path.name)
            built = sorted(folder.glob("earmark-*.whl"))
    if not built:
        raise WheelhouseError("pip wheel: has made no wheel of earmark")
    return built[0]


def _isolation() -> list[str]:
    """Without a network setuptools cannot be loaded; one that is here and new enough will do."""
    try:
        new_enough = int(metadata.version("setuptools").partition(".")[0]) >= 77
    except (metadata.PackageNotFoundError, ValueError):
        return []
    return ["--no-build-isolation"] if new_enough else []


def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder)}\0{sha256_file(path)}\n".encode())
    return digest.hexdigest()[:16]


def _found(folder: Path) -> dict[str, Path]:
    """Return the wheels in a folder by `name==version`."""
    found = {}
    for path in sorted(folder.glob("*.whl")):
        try:
            name, version, _, _ = parse_wheel_filename(path.name)
        except InvalidWheelFilename:
            continue
        found[f"{canonicalize_name(name)}=={version}"] = path
    return found


def _wheel(path: Path) -> Wheel:
    return Wheel(path, sha256_file(path), path.stat().st_size)

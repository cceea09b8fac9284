"""INVENTORY.yaml: which devices there are and how they are reached. It holds no secrets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
import yaml

from edge.errors import UsageError
from edge.files import expanded
from edge.messaging.topics import ID_PATTERN

# Some thousand devices; more is somebody's mistake, and YAML can be made to grow.
_LIMIT_BYTES = 4 * 1024 * 1024
_ID_IN_WORDS = "an id: 2 to 48 of a-z, 0-9 and '-', not beginning with '-'"

Id = Annotated[str, msgspec.Meta(pattern=ID_PATTERN)]
# What goes into a shell's command line or a unit's file stays free of quotes and spaces.
_ABSOLUTE = r"^/[A-Za-z0-9._/+@-]*$(?!\n)"
RemotePath = Annotated[str, msgspec.Meta(pattern=_ABSOLUTE)]
Word = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]+$(?!\n)")]
Arch = Literal["x86_64", "aarch64"]
Extra = Literal["metrics"]


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every section: immutable, unknown keys refused."""


class BrokerEntry(_Section, frozen=True):
    """The broker that a device talks to; every file is one of this machine.

    kit: a folder of `earmark-deploy broker init`, which holds the device's certificate; or
    ca_file, cert_file and key_file by themselves. password_file: beside username.
    """

    url: str = ""
    kit: str = ""
    username: str = ""
    password_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""


class Device(_Section, frozen=True):
    """One device. key, known_hosts: files of this machine; without, as `ssh` would have it.

    user: root, or somebody who may `sudo` without a password. root: below which folder of the host
    everything lies; other than `/` it is a device for trying out, without systemd.
    arch, python: as the device has them; left out, it is asked. environment: a Python environment
    that is there already, with earmark in it. config: the device's agent.yaml, or settings of it.
    """

    host: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._:-]+$(?!\n)")]
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 22
    user: Word = "root"
    root: RemotePath = "/"
    key: str = ""
    known_hosts: str = ""
    groups: list[Id] = []
    arch: Arch | None = None
    python: Annotated[str, msgspec.Meta(pattern=r"^3\.[0-9]{1,2}$(?!\n)")] | None = None
    environment: RemotePath | None = None
    extras: list[Extra] = []
    config: str | dict[str, Any] = {}
    broker: BrokerEntry = BrokerEntry()

    @property
    def address(self) -> str:
        """`user@host:port`, for messages."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}:{self.port}"


class _File(_Section, frozen=True):
    devices: dict[Id, dict[str, Any]]
    defaults: dict[str, Any] = {}


# Keys whose values are files of this machine, relative to the inventory.
_FILES = ("key", "known_hosts")
_BROKER_FILES = ("kit", "password_file", "ca_file", "cert_file", "key_file")


def load_inventory(path: Path) -> dict[str, Device]:
    """Read an inventory; UsageError names the file, the device and the key that is wrong."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such inventory; docs/flash.md shows one") from error
    if len(data) > _LIMIT_BYTES:
        raise UsageError(f"{path}: {len(data)} bytes; an inventory has at most {_LIMIT_BYTES}")
    try:
        raw = yaml.safe_load(data)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: not valid YAML: {error}") from error
    return read_inventory(raw, str(path), path.resolve().parent)


def read_inventory(raw: object, where: str, folder: Path) -> dict[str, Device]:
    """Return the devices of an inventory, by id in its order.

    where: its name in errors. folder: what relative files in it are relative to.
    """
    file = _convert(raw, _File, where)
    if not file.devices:
        raise UsageError(f"{where}: no devices in it; docs/flash.md shows how they are written")
    devices: dict[str, Device] = {}
    taken: dict[tuple[str, int, PurePosixPath], str] = {}
    for name, entry in file.devices.items():
        place = f"{where}: {name}"
        device = _convert(_with_files(_merged(file.defaults, entry), folder), Device, place)
        _check(device, place)
        spot = (device.host, device.port, PurePosixPath(device.root))
        if spot in taken:
            raise UsageError(
                f"{place}: the same place as {taken[spot]}; give it another host, port or root"
            )
        taken[spot] = name
        devices[name] = device
    return devices


def choose(devices: Mapping[str, Device], only: Iterable[str]) -> dict[str, Device]:
    """Return those that `only` names by id or by group, in the inventory's order; without, all."""
    wanted = list(only)
    if not wanted:
        return dict(devices)
    chosen = set()
    for name in wanted:
        found = {name} if name in devices else {i for i, d in devices.items() if name in d.groups}
        if not found:
            raise UsageError(f"--only {name}: no device and no group of the inventory")
        chosen |= found
    return {name: device for name, device in devices.items() if name in chosen}


def _convert(raw: object, kind: type[Any], where: str) -> Any:
    try:
        return msgspec.convert(raw, type=kind)
    except msgspec.ValidationError as error:
        what, _, place = str(error).partition(" - at `")
        what = what.replace(f"`str` matching regex {ID_PATTERN!r}", _ID_IN_WORDS)
        key = place.rstrip("`").removeprefix("$").removeprefix("key in ").lstrip(".")
        text = f"{key}: {what[:1].lower()}{what[1:]}" if key else what
        raise UsageError(f"{where}: {text}") from error


def _merged(defaults: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return a device's keys over the defaults; sections are merged key by key."""
    merged = {**defaults, **entry}
    for key in ("broker", "config"):
        below, above = defaults.get(key), entry.get(key)
        if isinstance(below, dict) and isinstance(above, dict):
            merged[key] = {**below, **above}
    return merged


def _with_files(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    def resolved(value: object) -> object:
        return str(folder / expanded(value)) if isinstance(value, str) and value else value

    raw = {key: resolved(value) if key in _FILES else value for key, value in raw.items()}
    raw["config"] = resolved(raw.get("config", {}))
    if isinstance(raw.get("broker"), dict):
        raw["broker"] = {
            key: resolved(value) if key in _BROKER_FILES else value
            for key, value in raw["broker"].items()
        }
    return raw


def _check(device: Device, where: str) -> None:
    if ".." in PurePosixPath(device.root).parts:
        raise UsageError(f"{where}: root {device.root!r}: write it without '..'")
    broker = device.broker
    if broker.kit and (broker.ca_file or broker.cert_file or broker.key_file):
        raise UsageError(f"{where}: broker: give the kit, or the files, not both")
    if isinstance(device.config, dict):
        cameras = device.config.get("cameras")
        for camera in cameras if isinstance(cameras, list) else ():
            source = camera.get("source") if isinstance(camera, dict) else None
            if isinstance(source, str) and _has_password(source):
                raise UsageError(
                    f"{where}: config.cameras: a password stands in {source.partition(':')[0]}://…;"
                    " put these settings into a file of their own and name it: config: FILE"
                )


def _has_password(source: str) -> bool:
    try:
        return urlsplit(source).password is not None
    except ValueError:
        return False

"""What a device shall be, made and checked on this machine before any device is touched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploy.fleet.inventory import Device
from deploy.fleet.places import Places
from deploy.fleet.repository import Repository
from edge.config import check_config
from edge.errors import UsageError

_HEAD = "# Written by `earmark-deploy provision` from its inventory; changes belong there.\n"
# What a device's broker section names, and the file of the inventory that it comes from.
_FILES = {"ca_file": "ca.crt", "cert_file": "client.crt", "key_file": "client.key"}
_PASSWORD = "mqtt-password"
SECRETS = (*_FILES.values(), _PASSWORD)


@dataclass(frozen=True, slots=True)
class Plan:
    """One device's own files. settings: agent.yaml. secrets: by name, beside it.

    root: where its trust begins, None to leave that as it is. roots: what it may have instead,
    later roots of the same repository.
    """

    settings: bytes
    secrets: Mapping[str, bytes]
    root: bytes | None = None
    roots: frozenset[bytes] = frozenset()


def make_plan(name: str, device: Device, repository: Repository | None) -> Plan:
    """Return a device's plan; UsageError names the file or key that is wrong."""
    secrets = _secrets(name, device)
    settings = _settings(name, device, secrets)
    if repository is None:
        return Plan(settings, secrets)
    roots = [path.read_bytes() for path in (repository.folder / "metadata").glob("*.root.json")]
    return Plan(settings, secrets, repository.root_file.read_bytes(), frozenset(roots))


def _settings(name: str, device: Device, secrets: Mapping[str, bytes]) -> bytes:
    places = Places(device.root)
    raw, where = _given(name, device)
    raw["device"] = name
    raw["bundle"] = f"{places.store}/current"
    raw["state_dir"] = f"{places.store}/agent"
    # Unless something else is said, class means may come over the broker.
    raw["updates"] = {
        "channels": ["mqtt:"],
        **_section(raw, "updates", where),
        "store": places.store,
    }
    broker = _section(raw, "broker", where)
    for key in ("url", "username"):
        if value := getattr(device.broker, key):
            broker[key] = value
    for key, file in {**_FILES, "password_file": _PASSWORD}.items():
        if file in secrets:
            broker[key] = f"{places.secrets}/{file}"
    if broker:
        raw["broker"] = broker
    check_config(raw, where)
    text = yaml.safe_dump(raw, sort_keys=False, allow_unicode=True, default_flow_style=False)
    return (_HEAD + text).encode()


def _given(name: str, device: Device) -> tuple[dict[str, Any], str]:
    """Return the settings that the inventory gives, and what they are called in errors."""
    if isinstance(device.config, dict):
        return dict(device.config), f"{name}: config"
    path = Path(device.config)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such settings; correct `config` of {name}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise UsageError(f"{path}: no settings in it; `earmark-edge config` prints some")
    return raw, f"{path} ({name})"


def _section(raw: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    section = raw.get(key) or {}
    if not isinstance(section, dict):
        raise UsageError(f"{where}: {key}: expected settings, got {type(section).__name__}")
    return dict(section)


def _secrets(name: str, device: Device) -> dict[str, bytes]:
    broker = device.broker
    if broker.kit:
        folder = Path(broker.kit) / "clients" / name
        if not folder.is_dir():
            raise UsageError(
                f"{folder}: no certificate; make it: earmark-deploy broker device {name} --dir "
                f"{broker.kit}"
            )
        sources = {file: folder / file for file in _FILES.values()}
    else:
        sources = {
            file: Path(getattr(broker, key)) for key, file in _FILES.items() if getattr(broker, key)
        }
    if broker.password_file:
        sources[_PASSWORD] = Path(broker.password_file)
    secrets = {}
    for file, path in sources.items():
        try:
            secrets[file] = path.read_bytes()
        except OSError as error:
            raise UsageError(f"{path}: cannot be read ({error.strerror}); {name} needs it") from (
                error
            )
    return secrets

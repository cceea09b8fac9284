"""JSON Schema of what leaves a process, made from the structs themselves."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import msgspec

from edge.files import write_atomically
from edge.messaging.events import PAYLOADS
from edge.release.manifest import Manifest

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schemas() -> dict[str, dict[str, Any]]:
    """Return the schemas by name: one for each topic's payload, and `manifest`."""
    kinds: dict[str, Any] = {**PAYLOADS, "manifest": Manifest}
    return {
        name: {"$schema": _DIALECT, **msgspec.json.schema(kind)} for name, kind in kinds.items()
    }


def _tidy(value: Any) -> Any:
    """Take the docstrings' indentation out of the descriptions; Python 3.13 has none, 3.12 has."""
    if isinstance(value, list):
        return [_tidy(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: inspect.cleandoc(item)
        if key == "description" and isinstance(item, str)
        else _tidy(item)
        for key, item in value.items()
    }


def schema_bytes(schema: dict[str, Any]) -> bytes:
    """Return a schema as it stands in its file: indented JSON, keys sorted."""
    return msgspec.json.format(msgspec.json.encode(schema, order="sorted"), indent=2) + b"\n"


def write_schemas(directory: Path) -> list[Path]:
    """Write `<name>.schema.json` for each schema; return the paths."""
    paths = []
    for name, schema in schemas().items():
        path = directory / f"{name}.schema.json"
        write_atomically(path, schema_bytes(schema))
        paths.append(path)
    return paths

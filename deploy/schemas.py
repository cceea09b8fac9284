"""JSON Schema of what leaves a process, made from the structs themselves."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import msgspec

from deploy.asyncapi import asyncapi
from edge.files import write_atomically
from edge.messaging.events import INSTRUCTIONS, PAYLOADS
from edge.release.manifest import Manifest

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schemas() -> dict[str, dict[str, Any]]:
    """Return the schemas by name: one for each topic's payload, and `manifest`."""
    kinds: dict[str, Any] = {**PAYLOADS, **INSTRUCTIONS, "manifest": Manifest}
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
    text = msgspec.json.encode(_tidy(schema), order="sorted")
    return msgspec.json.format(text, indent=2) + b"\n"


def documents() -> dict[str, dict[str, Any]]:
    """Return everything that is written, by file name: the schemas, and `asyncapi.json`."""
    named = {f"{name}.schema.json": schema for name, schema in schemas().items()}
    return {**named, "asyncapi.json": asyncapi()}


def write_schemas(directory: Path) -> list[Path]:
    """Write all documents into a folder; return the paths."""
    paths = []
    for name, document in documents().items():
        write_atomically(directory / name, schema_bytes(document))
        paths.append(directory / name)
    return paths

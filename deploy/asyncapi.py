"""The MQTT interface of a device as an AsyncAPI 3.0 document, made from topics and structs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import msgspec

from edge import __version__
from edge.messaging.commands import COMMANDS
from edge.messaging.events import INSTRUCTIONS, PAYLOADS
from edge.messaging.topics import ID_PATTERN, Topics

VERSION = "3.0.0"
_SCHEMAS = "#/components/schemas/{name}"
_DEVICE, _ANIMAL = "a-device", "an-animal"
_RETAINED = frozenset({"availability", "animal", "state", "update", "ingest"})
_BINDING = "0.2.0"

Json = dict[str, Any]


def asyncapi() -> Json:
    """Return the document: what a device sends and receives, as the device sees it."""
    kinds = {**PAYLOADS, **INSTRUCTIONS}
    references, schemas = msgspec.json.schema_components(
        [*kinds.values(), *COMMANDS.values()], ref_template=_SCHEMAS
    )
    payloads = dict(zip([*kinds, *COMMANDS], references, strict=True))
    messages = {kind: _message(kind, kinds[kind], payloads[kind]) for kind in kinds}
    del messages["command"]
    messages |= {name: _command(name, payloads["command"], payloads[name]) for name in COMMANDS}
    return {
        "asyncapi": VERSION,
        "info": {
            "title": "earmark device",
            "version": __version__,
            "description": (
                "What a barn device says over MQTT, and what it may be told. Delivery is at least "
                "once: deduplicate sightings on (device, stream, seq)."
            ),
            "license": {
                "name": "Apache-2.0",
                "url": "https://www.apache.org/licenses/LICENSE-2.0",
            },
        },
        "defaultContentType": "application/json",
        "servers": {
            "farm": {
                "host": "broker.example:8883",
                "protocol": "secure-mqtt",
                "protocolVersion": "5",
                "description": "The farm's own broker; MQTT 3.1.1 is a fall-back.",
            }
        },
        "channels": {
            **{kind: _channel("up", kind, [kind]) for kind in PAYLOADS},
            "command": _channel("down", "command", list(COMMANDS)),
            "ingest": _channel("down", "ingest", ["ingest"]),
        },
        "operations": {
            **{f"send_{kind}": _operation("send", kind) for kind in PAYLOADS},
            "receive_command": {
                **_operation("receive", "command"),
                "reply": {
                    "channel": {"$ref": "#/channels/reply"},
                    "messages": [{"$ref": "#/channels/reply/messages/reply"}],
                },
            },
            "receive_ingest": _operation("receive", "ingest"),
        },
        "components": {
            "messages": messages,
            "schemas": {name: _draft_07(schema) for name, schema in sorted(schemas.items())},
        },
    }


def _message(kind: str, struct: type[msgspec.Struct], payload: Mapping[str, Any]) -> Json:
    text = inspect.getdoc(struct) or ""
    message: Json = {
        "name": kind,
        "title": struct.__name__,
        "summary": text.splitlines()[0],
        "contentType": "application/json",
        "payload": dict(payload),
    }
    if kind == "reply":
        message["correlationId"] = _correlation()
    return message


def _command(name: str, command: Mapping[str, Any], arguments: Mapping[str, Any]) -> Json:
    return {
        "name": name,
        "title": f"Command {name}",
        "summary": f"A command with the name {name} and its arguments.",
        "contentType": "application/json",
        "correlationId": _correlation(),
        "payload": {
            "allOf": [
                dict(command),
                {"properties": {"name": {"const": name}, "args": dict(arguments)}},
            ]
        },
    }


def _correlation() -> Json:
    return {"description": "The caller's id.", "location": "$message.payload#/id"}


def _channel(direction: str, kind: str, messages: list[str]) -> Json:
    parameters: Json = {
        "device": {"description": f"The device's id, {ID_PATTERN}", "examples": ["barn-7"]}
    }
    topics = Topics(_DEVICE)
    if kind == "animal":
        address = topics.animal(_ANIMAL).replace(_ANIMAL, "{animal}")
        text = Topics.animal.__doc__
        parameters["animal"] = {"description": "The animal's id.", "examples": ["cow004"]}
    else:
        address = getattr(topics, kind)
        text = getattr(Topics, kind).__doc__
    assert f"/{direction}/" in address
    return {
        "address": address.replace(_DEVICE, "{device}"),
        # What else a docstring says is for who calls it in Python.
        "description": inspect.cleandoc(text or "").split(". ")[0],
        "parameters": parameters,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
    }


def _operation(action: str, kind: str) -> Json:
    binding: Json = {"qos": 1, "retain": kind in _RETAINED, "bindingVersion": _BINDING}
    if kind == "command":
        # Required: without it the answer is `no-expiry`.
        binding["messageExpiryInterval"] = {"type": "integer", "minimum": 1}
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{kind}"},
        "bindings": {"mqtt": binding},
    }


def _draft_07(value: Any) -> Any:
    """Say tuples as JSON Schema draft 07 does, which is what AsyncAPI's own schemas extend."""
    if isinstance(value, list):
        return [_draft_07(item) for item in value]
    if not isinstance(value, dict):
        return value
    said = {key: _draft_07(item) for key, item in value.items() if key != "prefixItems"}
    if "prefixItems" in value:
        said["additionalItems"] = said.pop("items", True)
        said["items"] = _draft_07(value["prefixItems"])
    return said

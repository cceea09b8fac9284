"""The AsyncAPI document: its structure by the specification's rules, and that it tells the truth.

AsyncAPI's own JSON Schema (github.com/asyncapi/spec-json-schemas, 3.0.0, 360 kB) is not part of
this repository, so its rules for what is used here are checked one by one. Whoever has npm checks
the rest: `npx @asyncapi/cli validate docs/schemas/asyncapi.json`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.asyncapi import asyncapi
from edge.messaging.commands import COMMANDS
from edge.messaging.events import INSTRUCTIONS, PAYLOADS
from edge.messaging.topics import KINDS, Topics, parse_topic

ROOT = {
    "asyncapi",
    "id",
    "info",
    "servers",
    "defaultContentType",
    "channels",
    "operations",
    "components",
}
INFO = {
    "title",
    "version",
    "description",
    "termsOfService",
    "contact",
    "license",
    "tags",
    "externalDocs",
}
SERVER = {
    "host",
    "protocol",
    "protocolVersion",
    "pathname",
    "description",
    "title",
    "summary",
    "variables",
    "security",
    "tags",
    "externalDocs",
    "bindings",
}
CHANNEL = {
    "address",
    "messages",
    "title",
    "summary",
    "description",
    "servers",
    "parameters",
    "tags",
    "externalDocs",
    "bindings",
}
PARAMETER = {"enum", "default", "description", "examples", "location"}
OPERATION = {
    "action",
    "channel",
    "title",
    "summary",
    "description",
    "security",
    "tags",
    "externalDocs",
    "bindings",
    "traits",
    "messages",
    "reply",
}
MQTT_OPERATION = {"qos", "retain", "messageExpiryInterval", "bindingVersion"}
REPLY = {"address", "channel", "messages"}
MESSAGE = {
    "headers",
    "payload",
    "correlationId",
    "contentType",
    "name",
    "title",
    "summary",
    "description",
    "tags",
    "externalDocs",
    "bindings",
    "examples",
    "traits",
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return json.loads(json.dumps(asyncapi()))


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from nodes(item)
    elif isinstance(value, list):
        for item in value:
            yield from nodes(item)


def resolve(document: dict[str, Any], reference: str) -> Any:
    assert reference.startswith("#/")
    value: Any = document
    for part in reference[2:].split("/"):
        value = value[part.replace("~1", "/").replace("~0", "~")]
    return value


def test_every_object_has_what_the_specification_asks_for_and_nothing_else(
    document: dict[str, Any],
) -> None:
    assert document["asyncapi"] == "3.0.0"
    assert set(document) <= ROOT
    assert {"title", "version"} <= set(document["info"]) <= INFO
    for server in document["servers"].values():
        assert {"host", "protocol"} <= set(server) <= SERVER
    for channel in document["channels"].values():
        assert set(channel) <= CHANNEL
        used = set(re.findall(r"\{(\w+)\}", channel["address"]))
        assert used == set(channel["parameters"])
        assert all(set(one) <= PARAMETER for one in channel["parameters"].values())
        assert not re.search(r"[+#]", channel["address"])
    for operation in document["operations"].values():
        assert {"action", "channel"} <= set(operation) <= OPERATION
        assert operation["action"] in ("send", "receive")
        assert set(operation["bindings"]["mqtt"]) <= MQTT_OPERATION
        assert operation["bindings"]["mqtt"]["qos"] in (0, 1, 2)
        assert set(operation.get("reply", {})) <= REPLY
    for message in document["components"]["messages"].values():
        assert set(message) <= MESSAGE
        location = message.get("correlationId", {}).get("location", "$message.payload#/id")
        assert re.fullmatch(r"\$message\.(header|payload)#(/.*)?", location)
    for name in (
        *document["channels"],
        *document["operations"],
        *document["components"]["schemas"],
        *document["components"]["messages"],
    ):
        assert re.fullmatch(r"[\w.-]+", name)


def test_every_reference_leads_somewhere_of_the_right_kind(document: dict[str, Any]) -> None:
    references = [node["$ref"] for node in nodes(document) if "$ref" in node]
    assert len(references) > 40
    for reference in references:
        assert isinstance(resolve(document, reference), dict)
    for channel in document["channels"].values():
        for message in channel["messages"].values():
            assert message["$ref"].startswith("#/components/messages/")
    for operation in document["operations"].values():
        assert operation["channel"]["$ref"].startswith("#/channels/")
    reply = document["operations"]["receive_command"]["reply"]
    channel = resolve(document, reply["channel"]["$ref"])
    for message in reply["messages"]:
        assert message["$ref"].startswith(reply["channel"]["$ref"] + "/messages/")
        assert message["$ref"].rsplit("/", 1)[1] in channel["messages"]


def test_schemas_are_of_draft_07(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert not [node for node in nodes(schemas) if {"prefixItems", "$defs"} & set(node)]
    box = schemas["Sighting"]["properties"]["box"]
    assert [len(box["items"]), box["additionalItems"]] == [4, False]
    assert (box["minItems"], box["maxItems"]) == (4, 4)


def test_everything_that_is_said_and_heard_is_in_it(document: dict[str, Any]) -> None:
    channels = document["channels"]
    assert set(channels) == {*PAYLOADS, *INSTRUCTIONS}
    assert set(KINDS) == set(PAYLOADS)
    for kind in PAYLOADS:
        values = {"device": "barn-7", "animal": "cow004"}
        address = parse_topic(channels[kind]["address"].format(**values))
        assert address is not None
        assert (address.device, address.kind) == ("barn-7", kind)
        assert document["operations"][f"send_{kind}"]["action"] == "send"
    assert channels["command"]["address"].format(device="barn-7") == Topics("barn-7").command
    assert set(channels["command"]["messages"]) == set(COMMANDS)
    for name, kind in COMMANDS.items():
        command, own = document["components"]["messages"][name]["payload"]["allOf"]
        assert command == {"$ref": "#/components/schemas/Command"}
        assert own["properties"]["name"] == {"const": name}
        arguments = resolve(document, own["properties"]["args"]["$ref"])
        assert set(arguments["properties"]) == set(kind.__struct_fields__)
        assert arguments["additionalProperties"] is False


def test_what_is_retained_is_said_to_be(document: dict[str, Any]) -> None:
    retained = {
        name for name, one in document["operations"].items() if one["bindings"]["mqtt"]["retain"]
    }
    always = {"send_availability", "send_state", "send_animal", "send_update"}
    assert retained == always | {"receive_ingest"}
    for name in retained:
        channel = resolve(document, document["operations"][name]["channel"]["$ref"])
        assert channel["description"].startswith("Retained")

"""Home Assistant's discovery payload, field by field against the documented schema.

DOCUMENTED is written down from Home Assistant's documentation and the validators that it is made
of: home-assistant.io/integrations/mqtt (device discovery payload, availability, origin),
.../sensor.mqtt, .../binary_sensor.mqtt, .../event.mqtt (configuration variables), and
homeassistant/components/mqtt/schemas.py and discovery.py of home-assistant/core, read in the
versions around 2025.1 to 2026.7. What is not listed there is refused by Home Assistant at the top
level, and dropped silently in a component.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from edge.config import HomeAssistantConfig
from edge.messaging.discovery import (
    ALARM_KINDS,
    components,
    discovery_payload,
    discovery_topic,
    status_topic,
)
from edge.messaging.events import LastSeen, StateReport
from edge.messaging.topics import Topics

AVAILABILITY = {
    "availability",
    "availability_mode",
    "availability_template",
    "availability_topic",
    "payload_available",
    "payload_not_available",
}
ROOT_REQUIRED = {"device", "origin", "components"}
ROOT = ROOT_REQUIRED | AVAILABILITY | {"state_topic", "command_topic", "qos", "encoding"}
DEVICE = {
    "configuration_url",
    "connections",
    "hw_version",
    "identifiers",
    "manufacturer",
    "model",
    "model_id",
    "name",
    "serial_number",
    "suggested_area",
    "sw_version",
    "via_device",
}
ORIGIN = {"name", "sw_version", "support_url"}
ENTITY = AVAILABILITY | {
    "platform",
    "enabled_by_default",
    "encoding",
    "entity_category",
    "entity_picture",
    "icon",
    "json_attributes_template",
    "json_attributes_topic",
    "name",
    "object_id",
    "qos",
    "state_topic",
    "unique_id",
    "value_template",
}
PLATFORMS: dict[str, set[str]] = {
    "sensor": {
        "device_class",
        "expire_after",
        "force_update",
        "last_reset_value_template",
        "options",
        "state_class",
        "suggested_display_precision",
        "unit_of_measurement",
    },
    "binary_sensor": {
        "device_class",
        "expire_after",
        "force_update",
        "off_delay",
        "payload_off",
        "payload_on",
    },
    "event": {"device_class", "event_types"},
}
REQUIRED = {
    "sensor": {"state_topic"},
    "binary_sensor": {"state_topic"},
    "event": {"state_topic", "event_types"},
}
# Only those that are used here, of integrations/sensor and integrations/binary_sensor.
DEVICE_CLASSES = {
    "sensor": {"temperature", "timestamp"},
    "binary_sensor": {"connectivity", "problem"},
    "event": set(),
}
ENTITY_CATEGORIES = {"config", "diagnostic"}
STATE_CLASSES = {"measurement", "total", "total_increasing"}
TEMPERATURE_UNITS = {"°C", "°F", "K"}
# TOPIC_MATCHER of homeassistant/components/mqtt/discovery.py.
TOPIC = re.compile(r"(?P<component>\w+)/(?:[a-zA-Z0-9_-]+/)?(?P<object_id>[a-zA-Z0-9_-]+)/config")

TOPICS = Topics("barn-7")


def payload(**options: Any) -> dict[str, Any]:
    entities = components(
        TOPICS, options.pop("cameras", ["pen-3", "yard"]), options.pop("animals", ["cow004"])
    )
    return json.loads(discovery_payload(TOPICS, "0.1.0", entities, **options))


def test_the_topic_is_one_that_home_assistant_takes() -> None:
    prefix = HomeAssistantConfig().prefix
    topic = discovery_topic(prefix, "barn-7")
    assert topic == "homeassistant/device/barn-7/config"
    found = TOPIC.fullmatch(topic.removeprefix(f"{prefix}/"))
    assert found is not None
    assert (found["component"], found["object_id"]) == ("device", "barn-7")
    assert status_topic(prefix) == "homeassistant/status"


def test_the_top_level_has_what_is_required_and_nothing_unknown() -> None:
    said = payload()
    assert ROOT_REQUIRED <= set(said) <= ROOT
    assert not {"availability", "availability_topic"} <= set(said)
    assert set(said["device"]) <= DEVICE
    assert said["device"]["identifiers"] == ["earmark_barn-7"]
    assert set(said["origin"]) <= ORIGIN
    assert said["origin"]["name"] == "earmark"
    assert said["qos"] in (0, 1, 2)


@pytest.mark.parametrize("name", sorted(payload()["components"]))
def test_a_component_has_only_documented_fields_of_its_platform(name: str) -> None:
    said = payload()
    component = said["components"][name]
    platform = component["platform"]
    assert set(component) <= ENTITY | PLATFORMS[platform]
    # State topics are taken over from the top level.
    assert REQUIRED[platform] <= {*component, "state_topic"}
    assert component["unique_id"]
    assert component.get("device_class") in {None, *DEVICE_CLASSES[platform]}
    assert component.get("entity_category") in {None, *ENTITY_CATEGORIES}
    assert component.get("state_class") in {None, *STATE_CLASSES}
    if component.get("device_class") == "temperature":
        assert component["unit_of_measurement"] in TEMPERATURE_UNITS
    if component.get("device_class") == "timestamp":
        assert not {"unit_of_measurement", "state_class"} & set(component)
    if "icon" in component:
        assert re.fullmatch(r"mdi:[a-z-]+", component["icon"])
    assert re.fullmatch(r"[a-zA-Z0-9_-]+", name)


def test_unique_ids_are_unique_also_between_devices() -> None:
    mine = [one["unique_id"] for one in payload()["components"].values()]
    other = components(Topics("barn-8"), ["pen-3"], ["cow004"])
    theirs = [one["unique_id"] for one in other.values()]
    assert len(set(mine + theirs)) == len(mine) + len(theirs)


def test_every_topic_is_one_that_the_device_publishes() -> None:
    said = payload()
    assert said["availability_topic"] == "earmark/v1/barn-7/up/availability"
    assert said["state_topic"] == "earmark/v1/barn-7/up/state"
    topics = {one["state_topic"] for one in said["components"].values() if "state_topic" in one}
    assert topics == {"earmark/v1/barn-7/up/alarm", "earmark/v1/barn-7/up/animal/cow004"}


def test_templates_read_fields_that_the_payloads_have() -> None:
    fields = {
        "earmark/v1/barn-7/up/state": set(StateReport.__struct_fields__),
        "earmark/v1/barn-7/up/animal/cow004": set(LastSeen.__struct_fields__),
        "earmark/v1/barn-7/up/alarm": {"kind", "text", "at"},
    }
    said = payload()
    for component in said["components"].values():
        topic = component.get("state_topic", said["state_topic"])
        read = set(re.findall(r"value_json\.(\w+)", component["value_template"]))
        assert read
        assert read <= fields[topic]


def test_animals_are_asked_for_and_cameras_are_named() -> None:
    names = set(payload(animals=[])["components"])
    assert names == {
        "animals",
        "alarm",
        "degraded",
        "outbox",
        "temperature",
        "camera_pen-3",
        "camera_yard",
    }
    assert set(payload()["components"]) - names == {
        "animal_cow004_camera",
        "animal_cow004_last_seen",
    }


def test_an_alarm_of_another_kind_is_still_an_event_that_was_announced() -> None:
    alarm = payload()["components"]["alarm"]
    assert alarm["event_types"] == [*ALARM_KINDS, "other"]
    assert "'event_type'" in alarm["value_template"]
    assert all(f"'{kind}'" in alarm["value_template"] for kind in ALARM_KINDS)


def test_what_is_gone_is_named_with_its_platform_alone() -> None:
    gone = {"animal_cow009_camera": "sensor", "camera_yard": "binary_sensor"}
    said = payload(cameras=["pen-3"], gone=gone)["components"]
    assert said["animal_cow009_camera"] == {"platform": "sensor"}
    assert said["camera_yard"] == {"platform": "binary_sensor"}
    assert len(said["camera_pen-3"]) > 1
    back = payload(gone=gone)["components"]["camera_yard"]
    assert len(back) > 1


def test_a_herd_of_250_fits_the_usual_packet_limit() -> None:
    herd = [f"cow-{number:04}-of-farm" for number in range(250)]
    entities = components(TOPICS, ["pen-3"], herd)
    assert len(discovery_payload(TOPICS, "0.1.0", entities)) < 256 * 1024

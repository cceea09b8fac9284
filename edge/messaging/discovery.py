"""How this device appears in Home Assistant: its MQTT device discovery.

After the schema at home-assistant.io/integrations/mqtt (device discovery payload). Everything is
read from topics that are published anyhow; Home Assistant needs nothing but this one message.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from edge.messaging.topics import Topics

# Home Assistant refuses an event that it was not told of before.
ALARM_KINDS = (
    "accelerator-lost",
    "camera-lost",
    "disk-low",
    "inference-restarted",
    "outbox-damaged",
    "outbox-gap",
    "outbox-of-another",
    "outbox-passed-on",
    "refused-command",
    "update-failed",
    "updates-closed",
)
OTHER_ALARM = "other"

Component = dict[str, Any]


def discovery_topic(prefix: str, device: str) -> str:
    """Return where a device's components are announced, retained."""
    return f"{prefix}/device/{device}/config"


def status_topic(prefix: str) -> str:
    """Return where Home Assistant says `online` whenever it has started."""
    return f"{prefix}/status"


def components(
    topics: Topics, cameras: Iterable[str], animals: Iterable[str] = ()
) -> dict[str, Component]:
    """Return the device's entities by an id of their own.

    cameras, animals: ids. An animal has two: where it is, and when it was last seen. Names of
    entities come behind the device's, as Home Assistant puts them.
    """
    found = _of_device(topics)
    found |= {f"camera_{camera}": _camera(topics, camera) for camera in cameras}
    for animal in animals:
        found |= _animal(topics, animal)
    return found


def discovery_payload(
    topics: Topics,
    version: str,
    entities: Mapping[str, Component],
    gone: Mapping[str, str] | None = None,
) -> bytes:
    """Return the JSON of one device with all its components.

    gone: platforms of components that were announced earlier and are no more, by id: Home
    Assistant removes a component only when it is named with its platform and nothing else.
    """
    stubs = {name: {"platform": platform} for name, platform in (gone or {}).items()}
    return msgspec.json.encode(
        {
            "device": {
                "identifiers": [f"earmark_{topics.device}"],
                "name": topics.device,
                "manufacturer": "earmark",
                "model": "barn device",
                "sw_version": version,
            },
            "origin": {"name": "earmark", "sw_version": version},
            "availability_topic": topics.availability,
            # `stopped` is a word of ours; what is neither payload would leave the state as it was.
            "availability_template": (
                "{{ 'online' if value_json.status == 'online' else 'offline' }}"
            ),
            "payload_available": "online",
            "payload_not_available": "offline",
            "state_topic": topics.state,
            "qos": 1,
            "components": {**stubs, **entities},
        }
    )


def _of_device(topics: Topics) -> dict[str, Component]:
    kinds = list(ALARM_KINDS)
    diagnostic = {"entity_category": "diagnostic"}
    return {
        "animals": {
            "platform": "sensor",
            "unique_id": _unique(topics, "animals"),
            "name": "Animals in view",
            "icon": "mdi:cow",
            "value_template": "{{ value_json.animals }}",
            "state_class": "measurement",
        },
        "alarm": {
            "platform": "event",
            "unique_id": _unique(topics, "alarm"),
            "name": "Alarm",
            "icon": "mdi:alert",
            "state_topic": topics.alarm,
            "event_types": [*kinds, OTHER_ALARM],
            "value_template": (
                f"{{% set known = {kinds} %}}"
                "{{ {'event_type': value_json.kind if value_json.kind in known "
                f"else '{OTHER_ALARM}', 'kind': value_json.kind, 'text': value_json.text, "
                "'at': value_json.at} | tojson }}"
            ),
        },
        "degraded": {
            "platform": "binary_sensor",
            "unique_id": _unique(topics, "degraded"),
            "name": "Degraded",
            "device_class": "problem",
            "value_template": "{{ 'ON' if value_json.degraded else 'OFF' }}",
            **diagnostic,
        },
        "outbox": {
            "platform": "sensor",
            "unique_id": _unique(topics, "outbox"),
            "name": "Events waiting",
            "icon": "mdi:tray-full",
            "value_template": "{{ value_json.outbox.depth }}",
            "state_class": "measurement",
            **diagnostic,
        },
        "temperature": {
            "platform": "sensor",
            "unique_id": _unique(topics, "temperature"),
            "name": "Processor temperature",
            "device_class": "temperature",
            "unit_of_measurement": "°C",
            "value_template": "{{ value_json.temperature }}",
            "state_class": "measurement",
            **diagnostic,
        },
    }


def _camera(topics: Topics, camera: str) -> Component:
    return {
        "platform": "binary_sensor",
        "unique_id": _unique(topics, f"camera_{camera}"),
        "name": f"Camera {camera}",
        "device_class": "connectivity",
        "entity_category": "diagnostic",
        "value_template": (
            f"{{{{ 'ON' if (value_json.cameras['{camera}'] | default({{}})).status == 'up' "
            "else 'OFF' }}"
        ),
    }


def _animal(topics: Topics, animal: str) -> dict[str, Component]:
    """Not a device_tracker: those know zones on a map, and a pen is none."""
    place = {
        "platform": "sensor",
        "unique_id": _unique(topics, f"animal_{animal}_camera"),
        "name": f"{animal} camera",
        "icon": "mdi:cow",
        "state_topic": topics.animal(animal),
        "value_template": "{{ value_json.camera if value_json.present else 'away' }}",
        "json_attributes_topic": topics.animal(animal),
    }
    seen = {
        "platform": "sensor",
        "unique_id": _unique(topics, f"animal_{animal}_last_seen"),
        "name": f"{animal} last seen",
        "device_class": "timestamp",
        "state_topic": topics.animal(animal),
        "value_template": "{{ value_json.last_seen }}",
    }
    return {f"animal_{animal}_camera": place, f"animal_{animal}_last_seen": seen}


def _unique(topics: Topics, what: str) -> str:
    return f"earmark_{topics.device}_{what}"

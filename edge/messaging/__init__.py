"""What the device says, and how it is brought to the broker: events, outbox, MQTT client."""

from edge.messaging.broker import BrokerOptions, BrokerRefused, BrokerUnreachable
from edge.messaging.client import Messenger
from edge.messaging.events import CameraState, DeviceState, Sighting
from edge.messaging.outbox import Outbox
from edge.messaging.sightings import SightingLog
from edge.messaging.topics import Topics, check_animals, check_id

__all__ = [
    "BrokerOptions",
    "BrokerRefused",
    "BrokerUnreachable",
    "CameraState",
    "DeviceState",
    "Messenger",
    "Outbox",
    "Sighting",
    "SightingLog",
    "Topics",
    "check_animals",
    "check_id",
]

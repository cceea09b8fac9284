"""A paho client that knows where the broker is and who we are there; it is not connected yet."""

from __future__ import annotations

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties

from edge.messaging.broker import BrokerOptions

MQTT_5 = int(MQTTProtocolVersion.MQTTv5)
MQTT_311 = int(MQTTProtocolVersion.MQTTv311)


def new_client(
    broker: BrokerOptions,
    client_id: str,
    *,
    protocol: int = MQTT_5,
    clean_session: bool | None = None,
    connect_timeout_s: float,
    manual_ack: bool = False,
) -> paho.Client:
    """Return a client with transport, TLS and login set, for one connection that is never revived.

    protocol: MQTT_5 or MQTT_311; clean_session is for the latter alone (in MQTT 5 it is an argument
    of `connect`). manual_ack: messages are acknowledged by `ack` and not by themselves.
    """
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        clean_session=clean_session,
        protocol=MQTTProtocolVersion(protocol),
        # Else paho would go on to MQTT 3.1 by itself.
        reconnect_on_failure=False,
        transport="websockets" if broker.websockets else "tcp",
        manual_ack=manual_ack,
    )
    if broker.websockets:
        client.ws_set_options(path=broker.path)
    client.max_inflight_messages_set(0)
    client.connect_timeout = connect_timeout_s
    if broker.username is not None:
        client.username_pw_set(broker.username, broker.password)
    context = broker.tls_context()
    if context is not None:
        client.tls_set_context(context)
    return client


def new_properties(packet_type: int) -> Properties:
    """Return empty MQTT 5 properties for a packet (see `PacketTypes`); paho does not type these."""
    return Properties(packet_type)  # type: ignore[no-untyped-call]

"""An independent subscriber: hears what anybody else on the broker would hear."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge.errors import BrokerError
from edge.messaging.broker import BrokerOptions, connect_failure

_WAIT_S = 10.0


@contextmanager
def subscribed(broker: BrokerOptions, topics: Sequence[str]) -> Iterator[Subscriber]:
    """Yield a subscriber that speaks MQTT 5, or 3.1.1 to a broker that does not know 5.

    BrokerError when the broker cannot be reached or refuses.
    """
    subscriber = Subscriber(broker, topics, 5)
    try:
        subscriber.open()
    except BrokerError as error:
        subscriber = Subscriber(broker, topics, 4)
        try:
            subscriber.open()
        except BrokerError:
            raise error from None
    try:
        yield subscriber
    finally:
        subscriber.close()


class Subscriber:
    """Collects topic and payload of what is published, in the order it comes; nothing retained.

    protocol: MQTT level to speak, 5 or 4 (3.1.1).
    """

    def __init__(self, broker: BrokerOptions, topics: Sequence[str], protocol: int) -> None:
        self.protocol = protocol
        self.messages: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self._broker = broker
        self._topics = topics
        self._ready = threading.Event()
        self._failure: str | None = None
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            protocol=MQTTProtocolVersion.MQTTv5 if protocol == 5 else MQTTProtocolVersion.MQTTv311,
        )
        if broker.username is not None:
            self._client.username_pw_set(broker.username, broker.password)
        if broker.tls:
            self._client.tls_set_context(broker.tls_context())
        self._client.on_connect = self._connected
        self._client.on_disconnect = self._disconnected
        self._client.on_subscribe = self._subscribed
        self._client.on_message = self._received

    def open(self) -> None:
        """Connect and subscribe; BrokerError in one line when that does not work."""
        try:
            self._client.connect(self._broker.host, self._broker.port)
        except (OSError, ValueError) as error:
            raise connect_failure(self._broker, error) from error
        self._client.loop_start()
        if not self._ready.wait(_WAIT_S) or self._failure:
            self.close()
            reason = self._failure or f"no answer within {_WAIT_S:g} s"
            raise BrokerError(
                f"broker {self._broker.address}: cannot subscribe ({reason}); check its rules, "
                "user and password"
            )

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    # -- paho's callbacks, in its thread -----------------------------------------------------------

    def _connected(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._fail(str(reason))
        else:
            client.subscribe([(topic, 1) for topic in self._topics])

    def _subscribed(self, client: Any, data: Any, mid: int, reasons: Any, properties: Any) -> None:
        refusals = [reason for reason in reasons if reason.is_failure]
        if refusals:
            self._fail(str(refusals[0]))
        self._ready.set()

    def _disconnected(
        self, client: Any, data: Any, flags: Any, reason: Any, properties: Any
    ) -> None:
        # Once it was subscribed, paho connects again by itself.
        if not self._ready.is_set():
            self._fail("hung up")

    def _received(self, client: Any, data: Any, message: paho.MQTTMessage) -> None:
        if not message.retain:
            self.messages.put((message.topic, bytes(message.payload)))

    def _fail(self, why: str) -> None:
        self._failure = self._failure or why
        self._ready.set()

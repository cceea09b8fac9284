"""An independent subscriber: hears what anybody else on the broker would hear."""

from __future__ import annotations

import queue
import threading
from types import TracebackType
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge.errors import BrokerError
from edge.messaging.broker import BrokerOptions

_WAIT_S = 10.0


class Subscriber:
    """Collects the payloads of one topic filter, in the order they come.

    protocol: MQTT level to speak, 5 or 4 (3.1.1). Use it as a context manager.
    """

    def __init__(self, broker: BrokerOptions, topic: str, protocol: int) -> None:
        self._broker = broker
        self._topic = topic
        self._ready = threading.Event()
        self._failure: str | None = None
        self.payloads: queue.Queue[bytes] = queue.Queue()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            protocol=MQTTProtocolVersion.MQTTv5 if protocol == 5 else MQTTProtocolVersion.MQTTv311,
        )
        if broker.username is not None:
            self._client.username_pw_set(broker.username, broker.password)
        if broker.tls:
            self._client.tls_set_context(broker.tls_context())
        self._client.on_connect = self._connected
        self._client.on_subscribe = self._subscribed
        self._client.on_message = lambda client, data, message: self.payloads.put(
            bytes(message.payload)
        )

    def __enter__(self) -> Subscriber:
        try:
            self._client.connect(self._broker.host, self._broker.port)
        except OSError as error:
            raise BrokerError(
                f"broker {self._broker.address}: {error.strerror or error}"
            ) from error
        self._client.loop_start()
        if not self._ready.wait(_WAIT_S) or self._failure:
            self.__exit__(None, None, None)
            reason = self._failure or f"no answer within {_WAIT_S:g} s"
            raise BrokerError(f"broker {self._broker.address}: cannot subscribe: {reason}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._failure = str(reason)
            self._ready.set()
        else:
            client.subscribe(self._topic, qos=1)

    def _subscribed(self, client: Any, data: Any, mid: int, reasons: Any, properties: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            self._failure = str(reasons[0])
        self._ready.set()

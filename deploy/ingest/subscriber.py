"""The connection that ingest reads from: MQTT 5, QoS 1, acknowledged by hand, in a lasting session.

What is not acknowledged the broker sends again, after a crash of ours as well; it sends no more
than `window` messages ahead, which bounds our memory while the database is away.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge.errors import BrokerError
from edge.messaging.broker import (
    BrokerOptions,
    BrokerRefused,
    BrokerUnreachable,
    connect_failure,
    hung_up,
    refusal,
)
from edge.messaging.connection import wait_and_write
from edge.messaging.login import new_client, new_properties

SESSION_S = 7 * 24 * 3600
WINDOW = 1000
_ANSWER_S = 10.0
# Of one packet: four times what an event may have.
_PACKET_BYTES = 64 * 1024
# Publishes of ours without an answer, whatever the broker would take.
_IN_FLIGHT = 100
# So many packets are read at most before the caller has its turn.
_READS = 500
_UNSUPPORTED_PROTOCOL = 0x84


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message as it came. topic: empty when it was not UTF-8. retained: stored at the broker."""

    topic: str
    payload: bytes
    retained: bool
    mid: int
    qos: int


@dataclass(frozen=True, slots=True)
class Filter:
    """What to subscribe to. stored: retained messages, and none of our own.

    These are asked for first and with QoS 0, which brokers do not queue: they come ahead of what
    has been waiting in the session.
    """

    topic: str
    stored: bool = False


class Subscriber:
    """An open connection with its subscriptions. Not thread-safe.

    client_id: the session's name; the broker keeps it for `session_s` after the connection has
    ended. unwanted: filters that the session may still have from another time.
    Errors: BrokerRefused, BrokerUnreachable, from every method.
    """

    def __init__(
        self,
        broker: BrokerOptions,
        client_id: str,
        filters: Sequence[Filter],
        *,
        unwanted: Sequence[str] = (),
        session_s: int = SESSION_S,
        window: int = WINDOW,
    ) -> None:
        self._broker = broker
        self._refused: BrokerError | None = None
        self._connected = False
        # Whether the last reading ended on a packet: there may be more.
        self._heard = False
        self._resumed = False
        self._in_flight: dict[int, str] = {}
        self._most_in_flight = 1
        self._granted: dict[int, list[ReasonCode]] = {}
        self._cancelled: set[int] = set()
        self._arrived: deque[Arrival] = deque()
        self._failures: list[tuple[str, str]] = []
        self._client = self._new_client(client_id)
        try:
            self._open(session_s, window)
            if self._resumed and unwanted:
                self.unsubscribe(unwanted)
            self._subscribe([each for each in filters if each.stored])
            self._subscribe([each for each in filters if not each.stored])
        except BaseException:
            self.abandon()
            raise

    @property
    def room(self) -> int:
        """How many publishes may be sent without waiting for an answer."""
        return self._most_in_flight - len(self._in_flight)

    def turn(self, timeout_s: float) -> list[Arrival]:
        """Write and read what is ready, waiting at most `timeout_s`; return what came."""
        self._wait(timeout_s)
        arrived = list(self._arrived)
        self._arrived.clear()
        return arrived

    def acknowledge(self, arrivals: Iterable[Arrival]) -> None:
        """Tell the broker that these need not be sent again."""
        for arrival in arrivals:
            if self._client.ack(arrival.mid, arrival.qos) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                raise self._lost()

    def publish(self, topic: str, payload: bytes) -> None:
        """Send with QoS 1, retained; the answer is looked at in a later turn."""
        mid = self._client.publish(topic, payload, qos=1, retain=True).mid
        self._in_flight[mid] = topic

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """Want no more of these filters; what the broker has queued of them comes all the same."""
        result, mid = self._client.unsubscribe(list(topics))
        if result != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None:
            raise self._lost()
        self._wait_for(lambda: mid in self._cancelled, "the end of a subscription")
        self._cancelled.discard(mid)

    def failures(self) -> list[tuple[str, str]]:
        """Return topic and reason of the publishes that were refused since the last call."""
        failures, self._failures = self._failures, []
        return failures

    def close(self) -> None:
        """Wait briefly for answers, say goodbye, and close; the session stays."""
        deadline = time.monotonic() + 2.0
        try:
            while self._in_flight and time.monotonic() < deadline:
                self._wait(0.1)
            self._client.disconnect()
            while self._client.want_write() and time.monotonic() < deadline:
                self._wait(0.1)
        except (BrokerError, OSError):
            pass
        self.abandon()

    def abandon(self) -> None:
        """Close the socket without a word, as a crash would."""
        sock = self._client.socket()
        if sock is not None:
            sock.close()

    # -- connecting ------------------------------------------------------------------------------

    def _new_client(self, client_id: str) -> paho.Client:
        client = new_client(self._broker, client_id, connect_timeout_s=_ANSWER_S, manual_ack=True)
        client.on_connect = self._connack
        client.on_disconnect = self._disconnected
        client.on_publish = self._puback
        client.on_subscribe = self._suback
        client.on_unsubscribe = self._unsuback
        client.on_message = self._message
        return client

    def _open(self, session_s: int, window: int) -> None:
        properties = new_properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = session_s
        properties.ReceiveMaximum = window
        properties.MaximumPacketSize = _PACKET_BYTES
        broker = self._broker
        try:
            self._client.connect(
                broker.host,
                broker.port,
                broker.keepalive_s,
                # A session begun with clean_start would not outlive a restart of the broker.
                clean_start=False,
                properties=properties,
            )
        except (OSError, ValueError) as error:
            raise connect_failure(broker, error) from error
        self._wait_for(lambda: self._connected, "CONNECT; is this an MQTT 5 port?")

    def _subscribe(self, filters: Sequence[Filter]) -> None:
        if not filters:
            return
        wanted = [
            (
                each.topic,
                SubscribeOptions(
                    qos=0 if each.stored else 1,
                    noLocal=each.stored,
                    retainHandling=SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE
                    if each.stored
                    else SubscribeOptions.RETAIN_DO_NOT_SEND,
                ),
            )
            for each in filters
        ]
        result, mid = self._client.subscribe(wanted)
        if result != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None:
            raise self._lost()
        self._wait_for(lambda: mid in self._granted, "a subscription")
        for each, code in zip(filters, self._granted.pop(mid), strict=True):
            if code.is_failure:
                raise BrokerRefused(
                    f"broker {self._broker.address}: may not subscribe to {each.topic} ({code}); "
                    "check the broker's rules for this user"
                )

    def _wait_for(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _ANSWER_S
        while not condition():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise BrokerUnreachable(f"broker {self._broker.address}: no answer to {what}")
            self._wait(left_s)

    # -- the socket ------------------------------------------------------------------------------

    def _wait(self, timeout_s: float) -> None:
        sock = self._client.socket()
        if sock is None:
            raise self._lost()
        if wait_and_write(self._client, sock, 0.0 if self._heard else timeout_s):
            self._read()
        self._client.loop_misc()
        if self._client.socket() is None and not self._arrived:
            raise self._lost()

    def _read(self) -> None:
        """Read what is there; paho reads one packet a call, and its callbacks say that it did.

        A websocket frame may hold several packets, of any kind.
        """
        for _ in range(_READS):
            self._heard = False
            self._client.loop_read()
            if not self._heard:
                return

    def _lost(self) -> BrokerError:
        if self._refused is not None:
            return self._refused
        if not self._connected:
            return BrokerUnreachable(hung_up(self._broker, "MQTT 5"))
        return BrokerUnreachable(f"broker {self._broker.address}: connection lost")

    # -- paho's callbacks, in the thread that turns ----------------------------------------------

    def _connack(
        self,
        client: paho.Client,
        userdata: object,
        flags: paho.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self._heard = True
        if reason.is_failure:
            if reason.value == _UNSUPPORTED_PROTOCOL:
                self._refused = BrokerRefused(
                    f"broker {self._broker.address}: does not speak MQTT 5, which ingest needs"
                )
            else:
                self._refused = refusal(self._broker, reason.value, str(reason))
            return
        limit = getattr(properties, "ReceiveMaximum", _IN_FLIGHT)
        self._most_in_flight = min(limit, _IN_FLIGHT)
        self._resumed = flags.session_present
        self._connected = True

    def _disconnected(
        self,
        client: paho.Client,
        userdata: object,
        flags: paho.DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if flags.is_disconnect_packet_from_server and reason.is_failure and self._refused is None:
            self._refused = refusal(self._broker, reason.value, str(reason))

    def _puback(
        self,
        client: paho.Client,
        userdata: object,
        mid: int,
        reason: ReasonCode,
        properties: Properties,
    ) -> None:
        self._heard = True
        topic = self._in_flight.pop(mid, "")
        if reason.is_failure:
            self._failures.append((topic, str(reason)))

    def _suback(
        self,
        client: paho.Client,
        userdata: object,
        mid: int,
        reasons: list[ReasonCode],
        properties: Properties,
    ) -> None:
        self._heard = True
        self._granted[mid] = reasons

    def _unsuback(
        self,
        client: paho.Client,
        userdata: object,
        mid: int,
        reasons: list[ReasonCode],
        properties: Properties | None,
    ) -> None:
        self._heard = True
        self._cancelled.add(mid)

    def _message(self, client: paho.Client, userdata: object, message: paho.MQTTMessage) -> None:
        self._heard = True
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        self._arrived.append(
            Arrival(topic, bytes(message.payload), message.retain, message.mid, message.qos)
        )

"""One MQTT connection, driven by the thread that owns it: connect, publish, turn, close.

paho's own threads and queue are not used. What is unsent lives in the outbox, not in paho, and a
lost connection is never revived: the next one is a new object.
"""

from __future__ import annotations

import logging
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
from edge.messaging.login import MQTT_5, MQTT_311, new_client, new_properties

LOG = logging.getLogger(__name__)
PROTOCOL_NAMES = {MQTT_5: "5", MQTT_311: "3.1.1"}

_CONNECT_TIMEOUT_S = 5.0
# amqtt takes the properties of an MQTT 5 CONNECT for the length of a client id and waits for the
# rest of it for ever. On this machine silence is told from slowness sooner.
_LOOPBACK_TIMEOUT_S = 2.0
_UNSUPPORTED_PROTOCOL = 0x84
# The most that is sent without an answer, whatever the broker would take.
_WINDOW = 100
# The whole of a packet that is neither topic nor payload, at most.
_PACKET_OVERHEAD_BYTES = 32
_INCOMING_LIMIT_BYTES = 256 * 1024
_INCOMING_WINDOW = 20
# Two sockets, and a new selector each time: epoll would cost four system calls more.
_Selector: type[selectors.BaseSelector] = getattr(
    selectors, "PollSelector", selectors.DefaultSelector
)


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it came. topic: empty when it was not UTF-8.

    expires_s: how long it may still wait; None without an expiry, and always on MQTT 3.1.1.
    response_topic, correlation: where an answer is wanted and what it must carry back (MQTT 5).
    protocol: what it came by, MQTT_5 or MQTT_311.
    """

    topic: str
    payload: bytes
    retained: bool
    expires_s: int | None = None
    response_topic: str | None = None
    correlation: bytes | None = None
    protocol: int = MQTT_5


@dataclass(frozen=True, slots=True)
class Terms:
    """What MQTT 5 says of a publish beside topic and payload; left out on MQTT 3.1.1.

    expires_s: after how long without a receiver the broker drops it. response_topic, correlation:
    where an answer is wanted and what it must carry back.
    """

    expires_s: int | None = None
    response_topic: str | None = None
    correlation: bytes | None = None

    def properties(self) -> Properties:
        """Return them as paho takes them."""
        properties = new_properties(PacketTypes.PUBLISH)
        if self.expires_s is not None:
            properties.MessageExpiryInterval = self.expires_s
        if self.response_topic is not None:
            properties.ResponseTopic = self.response_topic
        if self.correlation is not None:
            properties.CorrelationData = self.correlation
        return properties


OnMessage = Callable[[Message], None]


class _OtherProtocol(BrokerUnreachable):
    """The broker does not speak this version, or hung up or fell silent as if it did not."""

    said_so = False


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes, retained, when the client is gone without a word for `delay_s`."""

    topic: str
    payload: bytes
    delay_s: int


@dataclass(frozen=True, slots=True)
class Ack:
    """The broker's answer to one publish. failure: its MQTT 5 reason code; None = taken."""

    ticket: int
    failure: int | None
    reason: str


class Connection:
    """An open connection. Not thread-safe. `window`: publishes that may be without an answer.

    packet_limit: the largest packet that the broker takes, bytes; None without one. hung_up: its
    reason code when it said goodbye.
    client_id: the session's name. session_expiry_s: how long the broker keeps the session after
    the connection is lost; 0 begins a clean one. on_message: called in the thread that turns.
    leave_messages: acknowledge none that comes, so that the session's next connection gets it.
    """

    def __init__(
        self,
        broker: BrokerOptions,
        client_id: str,
        protocol: int,
        *,
        will: Will | None = None,
        session_expiry_s: int = 0,
        on_message: OnMessage | None = None,
        leave_messages: bool = False,
    ) -> None:
        self.broker = broker
        self.protocol = protocol
        self.window = 1
        self.packet_limit: int | None = None
        self.hung_up: int | None = None
        self._retain = True
        self._heard = False
        self._refused: BrokerError | None = None
        self._connected = False
        self._tickets = 0
        self._waiting: deque[tuple[int, str, bytes, bool, Terms | None]] = deque()
        self._in_flight: dict[int, int] = {}
        self._acks: list[Ack] = []
        self._subscribed: dict[int, list[ReasonCode]] = {}
        self._on_message = on_message
        self._leave_messages = leave_messages
        self._client = self._new_client(client_id, will, session_expiry_s)
        self._open(session_expiry_s)

    @property
    def protocol_name(self) -> str:
        """`5` or `3.1.1`."""
        return PROTOCOL_NAMES[self.protocol]

    def fits(self, topic: str, payload: bytes) -> bool:
        """Whether the broker takes a packet of this size."""
        size = len(topic.encode()) + len(payload) + _PACKET_OVERHEAD_BYTES
        return self.packet_limit is None or size <= self.packet_limit

    def publish(
        self, topic: str, payload: bytes, *, retain: bool, terms: Terms | None = None
    ) -> int:
        """Send with QoS 1, when the window has room; return the ticket that its Ack will carry."""
        self._tickets += 1
        self._waiting.append((self._tickets, topic, payload, retain and self._retain, terms))
        self._send_waiting()
        return self._tickets

    def _send_waiting(self) -> None:
        # paho's own limit cannot be set once the broker has named its Receive Maximum.
        while self._waiting and len(self._in_flight) < self.window:
            ticket, topic, payload, retain, terms = self._waiting.popleft()
            properties = terms.properties() if terms and self.protocol == MQTT_5 else None
            mid = self._client.publish(
                topic, payload, qos=1, retain=retain, properties=properties
            ).mid
            self._in_flight[mid] = ticket

    def subscribe(self, topic_filter: str) -> None:
        """Subscribe with QoS 1 and wait for the answer; BrokerRefused when it is no.

        On MQTT 5 a message that was published as retained is marked so for whoever is connected,
        too; on 3.1.1 only for who subscribes later.
        """
        if self.protocol == MQTT_5:
            wanted = SubscribeOptions(qos=1, retainAsPublished=True)
            result, mid = self._client.subscribe(topic_filter, options=wanted)
        else:
            result, mid = self._client.subscribe(topic_filter, qos=1)
        if result != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None:
            raise self._lost()
        deadline = time.monotonic() + _CONNECT_TIMEOUT_S
        while mid not in self._subscribed:
            self.turn(deadline - time.monotonic())
            if time.monotonic() >= deadline:
                raise BrokerUnreachable(
                    f"broker {self.broker.address}: no answer to a subscription"
                )
        for code in self._subscribed.pop(mid):
            if code.is_failure:
                raise BrokerRefused(
                    f"broker {self.broker.address}: may not subscribe to {topic_filter} ({code}); "
                    "check the broker's rules for this user"
                )

    def turn(self, timeout_s: float, wake: socket.socket | None = None) -> list[Ack]:
        """Read and write what is ready, waiting at most `timeout_s` or until `wake` is readable.

        Return the answers that came. BrokerError when the connection is lost.
        """
        sock = self._client.socket()
        if sock is None:
            raise self._lost()
        if wait_and_write(self._client, sock, timeout_s, wake):
            self._read()
        self._client.loop_misc()
        acks, self._acks = self._acks, []
        self._send_waiting()
        if self._client.socket() is None and not acks:
            raise self._lost()
        return acks

    def _read(self) -> None:
        """Read packets until there is none; a websocket frame may hold several."""
        self._heard = True
        while self._heard:
            self._heard = False
            self._client.loop_read()

    def close(self) -> None:
        """Say goodbye, so that no Will is published, and close the socket."""
        self._client.disconnect()
        deadline = time.monotonic() + 1.0
        try:
            while self._client.want_write() and time.monotonic() < deadline:
                self.turn(0.1)
        except (BrokerError, OSError):
            pass
        self.abandon()

    def abandon(self) -> None:
        """Close the socket without a word, as a crash would."""
        sock = self._client.socket()
        if sock is not None:
            sock.close()

    def _new_client(self, client_id: str, will: Will | None, session_expiry_s: int) -> paho.Client:
        client = new_client(
            self.broker,
            client_id,
            protocol=self.protocol,
            clean_session=None if self.protocol == MQTT_5 else session_expiry_s == 0,
            connect_timeout_s=_CONNECT_TIMEOUT_S,
            manual_ack=self._leave_messages,
        )
        if will is not None:
            properties = None
            if self.protocol == MQTT_5:
                properties = new_properties(PacketTypes.WILLMESSAGE)
                properties.WillDelayInterval = will.delay_s
            client.will_set(will.topic, will.payload, qos=1, retain=True, properties=properties)
        client.on_connect = self._connack
        client.on_disconnect = self._disconnected
        client.on_publish = self._puback
        client.on_subscribe = self._suback
        if self._on_message is not None:
            client.on_message = self._message
        return client

    def _open(self, session_expiry_s: int) -> None:
        broker = self.broker
        try:
            if self.protocol == MQTT_5:
                properties = new_properties(PacketTypes.CONNECT)
                properties.SessionExpiryInterval = session_expiry_s
                properties.MaximumPacketSize = _INCOMING_LIMIT_BYTES
                properties.ReceiveMaximum = _INCOMING_WINDOW
                self._client.connect(
                    broker.host,
                    broker.port,
                    broker.keepalive_s,
                    clean_start=session_expiry_s == 0,
                    properties=properties,
                )
            else:
                self._client.connect(broker.host, broker.port, broker.keepalive_s)
        except (OSError, ValueError) as error:
            raise connect_failure(broker, error) from error
        local = broker.host == "localhost" or broker.host.startswith(("127.", "::1"))
        deadline = time.monotonic() + (_LOOPBACK_TIMEOUT_S if local else _CONNECT_TIMEOUT_S)
        try:
            while not self._connected:
                self.turn(deadline - time.monotonic())
                if not self._connected and time.monotonic() >= deadline:
                    raise _OtherProtocol(
                        f"broker {broker.address}: no answer to CONNECT; is this an MQTT port?"
                    )
        except BaseException:
            self.abandon()
            raise

    def _lost(self) -> BrokerError:
        if self._refused is not None:
            return self._refused
        if not self._connected:
            return _OtherProtocol(hung_up(self.broker))
        return BrokerUnreachable(f"broker {self.broker.address}: connection lost")

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
                self._refused = _OtherProtocol(
                    f"broker {self.broker.address}: does not speak MQTT {self.protocol_name}"
                )
                self._refused.said_so = True
            else:
                self._refused = refusal(self.broker, reason.value, str(reason))
            return
        if getattr(properties, "MaximumQoS", 1) == 0:
            self._refused = BrokerRefused(
                f"broker {self.broker.address}: takes QoS 0 only, which loses events; use another"
            )
            client.disconnect()
            return
        self.window = min(getattr(properties, "ReceiveMaximum", _WINDOW), _WINDOW)
        self.packet_limit = getattr(properties, "MaximumPacketSize", None)
        self._retain = bool(getattr(properties, "RetainAvailable", 1))
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
            self.hung_up = reason.value
            self._refused = refusal(self.broker, reason.value, str(reason))

    def _puback(
        self,
        client: paho.Client,
        userdata: object,
        mid: int,
        reason: ReasonCode,
        properties: Properties,
    ) -> None:
        self._heard = True
        ticket = self._in_flight.pop(mid)
        self._acks.append(Ack(ticket, reason.value if reason.is_failure else None, str(reason)))

    def _suback(
        self,
        client: paho.Client,
        userdata: object,
        mid: int,
        reasons: list[ReasonCode],
        properties: Properties,
    ) -> None:
        self._heard = True
        self._subscribed[mid] = reasons

    def _message(self, client: paho.Client, userdata: object, message: paho.MQTTMessage) -> None:
        self._heard = True
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        if self._on_message is not None:
            asked = message.properties
            self._on_message(
                Message(
                    topic,
                    bytes(message.payload),
                    message.retain,
                    expires_s=getattr(asked, "MessageExpiryInterval", None),
                    response_topic=getattr(asked, "ResponseTopic", None),
                    correlation=getattr(asked, "CorrelationData", None),
                    protocol=self.protocol,
                )
            )


def open_connection(
    broker: BrokerOptions,
    client_id: str,
    *,
    will: Will | None = None,
    session_expiry_s: int = 0,
    on_message: OnMessage | None = None,
    spoke_5: bool = False,
    leave_messages: bool = False,
) -> Connection:
    """Connect with MQTT 5, or with 3.1.1 when the broker does not speak 5.

    Some brokers refuse 5 with a reason, others hang up or (amqtt) say nothing, so all three count;
    but of a broker that spoke 5 before (`spoke_5`), only the first: else a bad line would lead to
    3.1.1, where a refused publish looks like a success.
    Errors: BrokerRefused, BrokerUnreachable.
    """

    def attempt(protocol: int) -> Connection:
        return Connection(
            broker,
            client_id,
            protocol,
            will=will,
            session_expiry_s=session_expiry_s,
            on_message=on_message,
            leave_messages=leave_messages,
        )

    try:
        return attempt(MQTT_5)
    except _OtherProtocol as error:
        if spoke_5 and not error.said_so:
            raise
        LOG.debug("%s; trying MQTT 3.1.1", error)
        return attempt(MQTT_311)


def wait_and_write(
    client: paho.Client, sock: Any, timeout_s: float, wake: socket.socket | None = None
) -> bool:
    """Wait for the client's socket or for `wake`, and write what is due.

    Return whether there may be something to read.
    """
    # Both TLS and paho's websocket may hold what no selector sees.
    pending = getattr(sock, "pending", None)
    if pending is not None and pending():
        timeout_s = 0.0
    with _Selector() as selector:
        wanted = selectors.EVENT_READ
        if client.want_write():
            wanted |= selectors.EVENT_WRITE
        selector.register(sock, wanted)
        if wake is not None:
            selector.register(wake, selectors.EVENT_READ)
        events = {key.fileobj: mask for key, mask in selector.select(max(timeout_s, 0.0))}
    ready = events.get(sock, 0)
    if ready & selectors.EVENT_WRITE:
        client.loop_write()
    return bool(ready & selectors.EVENT_READ) or timeout_s == 0.0

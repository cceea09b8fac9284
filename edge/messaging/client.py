"""The device's side of MQTT: one network thread that keeps a connection and empties the outbox."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from edge.errors import BrokerError
from edge.messaging.animals import AnimalBoard
from edge.messaging.broker import BrokerOptions, BrokerRefused, BrokerUnreachable
from edge.messaging.connection import (
    Connection,
    Message,
    OnMessage,
    Will,
    open_connection,
)
from edge.messaging.delivery import (
    Answer,
    Delivery,
    Mailbox,
    Notice,
    availability,
    new_alarm,
)
from edge.messaging.events import (
    DeviceState,
    Ingested,
    LastSeen,
    PayloadError,
    Reply,
    Sighting,
    decode,
)
from edge.messaging.flow import Acknowledgement, Flow
from edge.messaging.intake import Intake
from edge.messaging.login import MQTT_5, MQTT_311
from edge.messaging.outbox import Outbox
from edge.messaging.retry import Backoff, Waker
from edge.messaging.topics import Topics, check_id

__all__ = ["BrokerOptions", "BrokerRefused", "BrokerUnreachable", "Messenger"]

LOG = logging.getLogger(__name__)
SESSION_EXPIRY_S = 7 * 24 * 3600
_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 60.0
# A connection that lasted less is not a success that shortens the next wait.
_STABLE_S = 10.0
# After so many of those in a row somebody may have our id.
_SHORT_LIVED = 4
_GOODBYE_S = 1.0
# What is in memory is stored even when there is no time to send it.
_STORE_S = 2.0


class Messenger:
    """Publishes what a device has to say. All methods may be called from any thread.

    Events go through `outbox` and leave it only when the broker has answered with a success, or,
    with ack `ingest`, when an ingest service says that they are stored; so a lost connection or a
    restart costs nothing. Delivery is at least once, in order.
    drain_per_s: at most so many events a second; 0 for no limit. gather_s: for how long events may
    be gathered before they are stored (`Intake`).
    on_problem: one line each about what a person should know, called in the network thread.
    will_delay_s: after how long without a word the broker says `offline` (MQTT 5 only).
    handlers: what to do with messages, by topic, or by all below one (`a/b/#`), each subscribed to
    whenever a connection is made; called in the network thread, so they must be quick. One that
    fails is a problem, no more.
    """

    def __init__(
        self,
        broker: BrokerOptions,
        device: str,
        boot: str,
        outbox: Outbox,
        on_problem: Callable[[str], None] = LOG.warning,
        *,
        will_delay_s: int = 30,
        handlers: Mapping[str, OnMessage] | None = None,
        ack: Acknowledgement = "broker",
        drain_per_s: float = 0.0,
        gather_s: float = 1.0,
    ) -> None:
        broker.tls_context()
        self._broker = broker
        self._topics = Topics(device)
        self._boot = boot
        self._outbox = outbox
        self._on_problem = on_problem
        self._will = Will(
            self._topics.availability, availability(device, boot, "offline"), will_delay_s
        )
        self._handlers = dict(handlers or {})
        if ack == "ingest":
            self._handlers[self._topics.ingest] = self._ingested
        self._stream: str | None = None
        self._unheard: set[str] = set()
        self._mailbox = Mailbox(AnimalBoard(boot))
        self._waker = Waker()
        self._flow = Flow(outbox, on_problem, ack=ack, drain_per_s=drain_per_s)
        self._intake = Intake(outbox, self._stored, on_problem, gather_s=gather_s)
        self._changed = threading.Condition()
        self._protocol: int | None = None
        self._failure: BrokerError | None = None
        self._told = ""
        self._short_lived = 0
        self._fell_back = False
        self._spoke_5 = False
        self._stop_by_s: float | None = None
        self._thread = threading.Thread(target=self._run, name="earmark-mqtt", daemon=True)

    @property
    def connected(self) -> bool:
        """Whether a connection stands."""
        return self._protocol is not None

    @property
    def protocol(self) -> int | None:
        """5, or 4 for MQTT 3.1.1, as on the wire; None without a connection."""
        return self._protocol

    def start(self) -> None:
        """Begin to connect, in the background, for as long as it takes."""
        self._look_aside()
        self._correct_animals()
        self._thread.start()

    def wait_connected(self, timeout_s: float) -> None:
        """Wait for the connection.

        BrokerRefused as soon as the broker says no; BrokerUnreachable when `timeout_s` have passed.
        Either way the attempts go on until `stop`.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not self.connected:
                left_s = deadline - time.monotonic()
                if isinstance(self._failure, BrokerRefused):
                    raise self._failure
                if left_s <= 0:
                    raise self._failure or BrokerUnreachable(
                        f"broker {self._broker.address}: no answer within {timeout_s:g} s"
                    )
                self._changed.wait(left_s)

    def publish(self, events: Sequence[Sighting]) -> None:
        """Store events on disk, within `gather_s`, and send them in order.

        `up/animal/<id>` follows from them. Never waits for the disk, and never raises: an event
        that cannot be stored is a problem, but what the agent sees is worth more than what it can
        tell.
        """
        if events:
            self._intake.put(events)

    def alarm(self, kind: str, text: str) -> None:
        """Send an alarm at once, or when the connection is back; the last 100 are kept."""
        check_id("alarm", kind)
        with self._mailbox.lock:
            alarm = new_alarm(self._topics.device, self._boot, kind, text, self._mailbox.state)
            self._mailbox.alarms.append(alarm)
        self._waker.wake()

    def reply(self, reply: Reply, correlation: bytes | None = None) -> None:
        """Answer a command at once, or when the connection is back; the last 16 are kept.

        correlation: what the command asked to be sent back (MQTT 5).
        """
        with self._mailbox.lock:
            self._mailbox.answers.append(Answer(reply, correlation))
        self._waker.wake()

    def set_notice(self, topic: str, payload: bytes) -> Notice:
        """Publish a retained message now and at every later connection; empty removes it.

        The returned notice tells whether a broker has taken it.
        """
        notice = Notice(payload)
        with self._mailbox.lock:
            self._mailbox.notices[topic] = notice
        self._waker.wake()
        return notice

    def set_state(self, state: DeviceState) -> None:
        """Tell how the device is: retained, sent on change, at most every 15 s."""
        with self._mailbox.lock:
            self._mailbox.state = state
        self._waker.wake()

    def stop(self, timeout_s: float) -> int:
        """Send what waits, say `stopped`, disconnect; return how many events the broker has not.

        `timeout_s` bounds the sending. The outbox is the caller's to close.
        """
        unstored = self._intake.close(max(timeout_s, _STORE_S))
        if self._thread.ident is not None:
            self._stop_by_s = time.monotonic() + timeout_s
            self._waker.wake()
            self._thread.join(timeout_s + 2 * _GOODBYE_S)
        return self._flow.undelivered + unstored

    # -- the outbox --------------------------------------------------------------------------------

    def _stored(self) -> None:
        self._look_aside()
        self._waker.wake()

    def _look_aside(self) -> None:
        """Tell that an outbox was moved aside: what waited in it will not be sent."""
        before, self._stream = self._stream, self._outbox.stream
        if self._outbox.moved_aside is not None and before != self._stream:
            foreign = self._outbox.foreign
            text = (
                f"{foreign or 'the outbox was damaged'}; it lies in {self._outbox.moved_aside} "
                "now, and a new stream begins"
            )
            self._on_problem(text)
            self.alarm("outbox-damaged" if foreign is None else "outbox-of-another", text)

    def _correct_animals(self) -> None:
        """Whom an earlier run left present, because it crashed, is not known to be there now."""
        for animal, payload in self._outbox.present.items():
            try:
                seen = decode(payload, LastSeen)
            except PayloadError:
                continue
            if (seen.device, seen.animal) == (self._topics.device, animal):
                self._mailbox.animals[animal] = msgspec.structs.replace(seen, present=False)

    def _ingested(self, message: Message) -> None:
        word = decode(message.payload, Ingested)
        if word.device == self._topics.device:
            self._flow.ingested(word)

    # -- the network thread ------------------------------------------------------------------------

    def _run(self) -> None:
        backoff = Backoff(_FIRST_WAIT_S, _LONGEST_WAIT_S)
        while not self._must_end():
            since_s = time.monotonic()
            connection: Connection | None = None
            try:
                connection = self._connect()
                since_s = time.monotonic()
                self._serve(connection)
                break
            except BrokerError as error:
                failure = error
            except Exception as error:
                # Whatever it was, the barn must not fall silent for ever because of it.
                LOG.debug("network thread", exc_info=True)
                failure = BrokerUnreachable(
                    f"broker {self._broker.address}: {error or type(error)}"
                )
            self._lost(failure, time.monotonic() - since_s if connection else None)
            if time.monotonic() - since_s >= _STABLE_S:
                backoff.reset()
            self._pause(backoff.next_s())
        self._set_protocol(None)

    def _connect(self) -> Connection:
        connection = open_connection(
            self._broker,
            self._topics.device,
            will=self._will,
            session_expiry_s=SESSION_EXPIRY_S,
            on_message=self._receive,
            spoke_5=self._spoke_5,
        )
        self._spoke_5 = self._spoke_5 or connection.protocol == MQTT_5
        if connection.protocol == MQTT_311 and not self._fell_back:
            self._on_problem(
                f"broker {self._broker.address}: does not speak MQTT 5; using 3.1.1, where a "
                "refused publish looks like a success"
            )
        self._fell_back = connection.protocol == MQTT_311
        return connection

    def _receive(self, message: Message) -> None:
        handler = self._handlers.get(message.topic) or self._handler_above(message.topic)
        if handler is None:
            return
        try:
            handler(message)
        except Exception as error:
            LOG.debug("handler of %s", message.topic, exc_info=True)
            self._on_problem(f"{message.topic}: {error or type(error).__name__}")

    def _handler_above(self, topic: str) -> OnMessage | None:
        for wanted, handler in self._handlers.items():
            if wanted.endswith("/#") and topic.startswith(wanted[:-1]):
                return handler
        return None

    def _subscribe(self, connection: Connection) -> None:
        """Ask for what the handlers are for; a refusal is told once, and the rest goes on."""
        for topic in self._handlers:
            try:
                connection.subscribe(topic)
                self._unheard.discard(topic)
            except BrokerRefused as error:
                if topic not in self._unheard:
                    self._unheard.add(topic)
                    self._on_problem(str(error))

    def _serve(self, connection: Connection) -> None:
        """Deliver until asked to stop; BrokerError when the connection is lost."""
        delivery = None
        try:
            self._subscribe(connection)
            delivery = Delivery(
                connection,
                self._topics,
                self._boot,
                self._flow,
                self._mailbox,
                self._on_problem,
            )
            self._set_protocol(connection.protocol)
            while self._stop_by_s is None or not (
                delivery.drained or time.monotonic() >= self._stop_by_s
            ):
                delivery.step(self._waker)
            delivery.finish(time.monotonic() + _GOODBYE_S)
        except BaseException:
            self._set_protocol(None)
            if delivery is None:
                connection.abandon()
            else:
                delivery.abandon()
            raise

    def _must_end(self) -> bool:
        """Whether to stop without a connection: nothing waits, or the time is up."""
        if self._stop_by_s is None:
            return False
        return self._flow.undelivered == 0 or time.monotonic() >= self._stop_by_s

    def _pause(self, wait_s: float) -> None:
        until_s = time.monotonic() + wait_s
        while (left_s := until_s - time.monotonic()) > 0 and not self._must_end():
            if self._stop_by_s is not None:
                left_s = min(left_s, _FIRST_WAIT_S, self._stop_by_s - time.monotonic())
                until_s = min(until_s, time.monotonic() + left_s)
            self._waker.wait(left_s)

    def _lost(self, error: BrokerError, stood_s: float | None) -> None:
        """Tell what happened; stood_s: for how long the connection stood, None when none did."""
        with self._changed:
            self._failure = error
            self._changed.notify_all()
        if stood_s is not None and stood_s >= _STABLE_S:
            self._told = ""
            self._short_lived = 0
        elif stood_s is not None:
            self._short_lived += 1
        # The same complaint once, not once an attempt.
        if str(error) != self._told and self._stop_by_s is None:
            self._told = str(error)
            self._on_problem(str(error))
        if self._short_lived == _SHORT_LIVED and self._stop_by_s is None:
            # Brokers that say nothing when they part two clients of one id: mosquitto 2.0 does not.
            self._on_problem(
                f"broker {self._broker.address}: connections break as soon as they are made; does "
                f"another client use the id {self._topics.device!r}?"
            )

    def _set_protocol(self, protocol: int | None) -> None:
        with self._changed:
            self._protocol = protocol
            if protocol is not None:
                self._failure = None
            self._changed.notify_all()

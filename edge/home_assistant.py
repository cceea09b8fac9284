"""This device in Home Assistant: announced while it is wanted, taken back when it is not."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from edge import __version__
from edge.config import HomeAssistantConfig
from edge.files import write_atomically
from edge.messaging import Topics
from edge.messaging.connection import Message, OnMessage
from edge.messaging.delivery import Notice
from edge.messaging.discovery import (
    components,
    discovery_payload,
    discovery_topic,
    status_topic,
)

LOG = logging.getLogger("earmark.home_assistant")
_MEMORY = "home-assistant.json"
_MEMORY_LIMIT_BYTES = 4 << 20


class _Announced(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was announced last: where, and the platform of every component by its id.

    gone: components, and old: other topics with theirs, which were taken back and may not have been
    heard of by any broker yet.
    """

    topic: str
    components: dict[str, str]
    gone: dict[str, str] = msgspec.field(default_factory=dict)
    old: dict[str, dict[str, str]] = msgspec.field(default_factory=dict)


class HomeAssistant:
    """Keeps one retained message right: `<prefix>/device/<device>/config`.

    folder: where is kept what was announced, so that a device which is switched off here, or whose
    animals left, disappears there. set_notice: publishes a retained message. Thread-safe.
    """

    def __init__(
        self,
        options: HomeAssistantConfig,
        device: str,
        cameras: Iterable[str],
        folder: Path,
        set_notice: Callable[[str, bytes], Notice],
    ) -> None:
        self._options = options
        self._topics = Topics(device)
        self._cameras = tuple(cameras)
        self._memory = folder / _MEMORY
        self._set_notice = set_notice
        self._lock = threading.Lock()
        self._payload = b""
        self._notice: Notice | None = None
        self._taken = False
        self._removals: dict[str, Notice] = {}
        self._before = self._recall()

    @property
    def handlers(self) -> dict[str, OnMessage]:
        """What it wants to hear of, by topic."""
        if not self._options.enabled:
            return {}
        return {status_topic(self._options.prefix): self._heard}

    def announce(self, animals: Iterable[str]) -> None:
        """Announce this device with the herd as it is now; take back what is no longer true."""
        topic = discovery_topic(self._options.prefix, self._topics.device)
        self._forget_taken()
        before = self._before
        old = {} if before is None else {**before.old}
        if before is not None:
            old[before.topic] = {**before.components, **before.gone}
        if not self._options.enabled:
            self._remove(old)
            return
        known = old.pop(topic, {})
        herd = animals if self._options.animals else ()
        entities = components(self._topics, self._cameras, herd)
        gone = {name: platform for name, platform in known.items() if name not in entities}
        # Remembered before it is sent: what a crash leaves at the broker must not be forgotten.
        platforms = {name: one["platform"] for name, one in entities.items()}
        self._remember(_Announced(topic, platforms, gone, old))
        self._remove(old)
        with self._lock:
            self._payload = discovery_payload(self._topics, __version__, entities, gone)
            self._notice, self._taken = self._set_notice(topic, self._payload), False

    def close(self) -> None:
        """Forget what a broker has taken back."""
        if self._options.enabled:
            self._forget_taken()
        elif self._removals and all(notice.taken for notice in self._removals.values()):
            self._memory.unlink(missing_ok=True)

    def _remove(self, topics: Iterable[str]) -> None:
        for topic in topics:
            self._removals[topic] = self._set_notice(topic, b"")

    def _forget_taken(self) -> None:
        """Keep of what was taken back only what no broker has acknowledged."""
        before = self._before
        if before is None or not self._options.enabled:
            return
        with self._lock:
            taken = self._taken or (self._notice is not None and self._notice.taken)
        removed = {topic for topic, notice in self._removals.items() if notice.taken}
        gone = {} if taken else before.gone
        old = {topic: known for topic, known in before.old.items() if topic not in removed}
        if (gone, old) != (before.gone, before.old):
            self._remember(_Announced(before.topic, before.components, gone, old))

    def _heard(self, message: Message) -> None:
        """Announce again when Home Assistant has started."""
        with self._lock:
            if message.payload == b"online" and self._payload:
                topic = discovery_topic(self._options.prefix, self._topics.device)
                self._taken = self._taken or (self._notice is not None and self._notice.taken)
                self._notice = self._set_notice(topic, self._payload)

    def _recall(self) -> _Announced | None:
        try:
            if self._memory.stat().st_size > _MEMORY_LIMIT_BYTES:
                return None
            return msgspec.json.decode(self._memory.read_bytes(), type=_Announced)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            LOG.warning("%s: %s; what was announced before is not known", self._memory, error)
            return None

    def _remember(self, announced: _Announced) -> None:
        self._before = announced
        try:
            write_atomically(self._memory, msgspec.json.encode(announced))
        except OSError as error:
            LOG.warning("%s: %s; it cannot be taken back later", self._memory, error)

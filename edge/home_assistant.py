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
    """What was announced last: where, and the platform of every component by its id."""

    topic: str
    components: dict[str, str]


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
        self._removals: list[Notice] = []
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
        before = self._before
        if before is not None and (not self._options.enabled or before.topic != topic):
            self._removals.append(self._set_notice(before.topic, b""))
            before = None
        if not self._options.enabled:
            return
        herd = animals if self._options.animals else ()
        entities = components(self._topics, self._cameras, herd)
        gone = {
            name: platform
            for name, platform in (before.components if before else {}).items()
            if name not in entities
        }
        # Remembered before it is sent: what a crash leaves at the broker must not be forgotten.
        self._remember(_Announced(topic, {name: one["platform"] for name, one in entities.items()}))
        with self._lock:
            self._payload = discovery_payload(self._topics, __version__, entities, gone)
            self._set_notice(topic, self._payload)

    def close(self) -> None:
        """Forget what a broker has taken back."""
        if self._removals and not self._options.enabled and all(n.taken for n in self._removals):
            self._memory.unlink(missing_ok=True)

    def _heard(self, message: Message) -> None:
        """Announce again when Home Assistant has started."""
        with self._lock:
            if message.payload == b"online" and self._payload:
                topic = discovery_topic(self._options.prefix, self._topics.device)
                self._set_notice(topic, self._payload)

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
        try:
            write_atomically(self._memory, msgspec.json.encode(announced))
            self._before = announced
        except OSError as error:
            LOG.warning("%s: %s; it cannot be taken back later", self._memory, error)

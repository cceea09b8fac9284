"""All that goes between a running agent and its broker: events out, commands in, Home Assistant."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from edge.capture.clock import wall_time
from edge.config import AgentConfig
from edge.files import write_atomically
from edge.health import CommandNumbers
from edge.home_assistant import HomeAssistant
from edge.messaging import Messenger, Outbox, Topics
from edge.messaging.commands import IGNORED, REFUSED, CommandDesk, Order, Outcome
from edge.messaging.connection import OnMessage
from edge.orders import Action, Orders

LOG = logging.getLogger("earmark.correspondence")
_LAST_RESTART = "last-restart"


class Correspondence:
    """The messenger of a device, with everyone who listens to it.

    messenger: for events, alarms and state.

    folder: the state folder. actions: what commands do, by name. wake: called, in the network
    thread, when `work` has something to do. hear: one line each about the broker. handlers: what
    others want to hear of, by topic, as the messenger takes them.
    """

    def __init__(
        self,
        config: AgentConfig,
        boot: str,
        folder: Path,
        outbox: Outbox,
        actions: Mapping[str, Action],
        *,
        wake: Callable[[], None],
        hear: Callable[[str], None],
        handlers: Mapping[str, OnMessage] | None = None,
    ) -> None:
        device = config.device_id()
        self._folder = folder
        self._desk = desk = CommandDesk(
            device,
            boot,
            forbidden=frozenset() if config.commands.snapshots else frozenset({"snapshot"}),
            now=wall_time,
        )
        self._remember_restart(desk)
        self._orders = Orders(
            desk,
            actions,
            send=lambda reply, correlation: self.messenger.reply(reply, correlation),
            alarm=lambda kind, text: self.messenger.alarm(kind, text),
            wake=wake,
        )
        self._home = HomeAssistant(
            config.home_assistant,
            device,
            [camera.name for camera in config.cameras],
            folder,
            lambda topic, payload: self.messenger.set_notice(topic, payload),
        )
        handlers = {**self._home.handlers, **(handlers or {})}
        if config.commands.enabled:
            handlers[Topics(device).command] = self._orders.receive
        self.messenger = Messenger(
            config.broker.options(),
            device,
            boot,
            outbox,
            hear,
            handlers=handlers,
            ack=config.outbox.ack,
            drain_per_s=config.broker.drain_per_s,
            gather_s=config.outbox.gather_s,
        )

    @property
    def commands(self) -> CommandNumbers:
        """How many commands came; every reason that there is has its count, if only 0."""
        counts = self._desk.refused
        return CommandNumbers(
            taken=self._desk.accepted,
            repeated=self._desk.repeated,
            refused={reason: counts.get(reason, 0) for reason in REFUSED},
            ignored={reason: counts.get(reason, 0) for reason in IGNORED},
        )

    def work(self) -> None:
        """Execute the commands that wait."""
        self._orders.work()

    def announce(self, animals: Iterable[str]) -> None:
        """Tell Home Assistant, where it is wanted, of the herd as it is now."""
        self._home.announce(animals)

    def note_restart(self, order: Order) -> None:
        """Make sure that the next run does not take the same command once more."""
        try:
            write_atomically(self._folder / _LAST_RESTART, order.id.encode())
        except OSError as error:
            # A disk that is full is a reason to restart, and twice is better than never.
            LOG.warning("%s: %s", self._folder / _LAST_RESTART, error)

    def close(self, drain_s: float) -> int:
        """Send what waits and disconnect; return how many events stay in the outbox."""
        self._orders.close()
        undelivered = self.messenger.stop(drain_s)
        self._home.close()
        return undelivered

    def _remember_restart(self, desk: CommandDesk) -> None:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            last = (self._folder / _LAST_RESTART).read_text(encoding="utf-8")
            desk.remember(last, Outcome(text="restarted"))

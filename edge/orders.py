"""Commands on their way through the agent: judged where they arrive, executed by its own loop."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable, Mapping

from edge.errors import EarmarkError
from edge.messaging.commands import CommandDesk, Order, Outcome
from edge.messaging.connection import Message
from edge.messaging.events import Reply

LOG = logging.getLogger("earmark.orders")
_WAITING = 8

Action = Callable[[Order], Outcome]
Send = Callable[[Reply, bytes | None], None]


class Orders:
    """Takes messages in the network thread, and executes what is good when `work` is called.

    actions: by the command's name; one that is missing is `unsupported`, one that fails says so in
    its reply. send: a reply and what it must carry back. alarm: a kind and a text. wake: called
    when there is work to do. At most eight orders wait; more are answered `busy`.
    """

    def __init__(
        self,
        desk: CommandDesk,
        actions: Mapping[str, Action],
        *,
        send: Send,
        alarm: Callable[[str, str], None],
        wake: Callable[[], None],
    ) -> None:
        self._desk, self._actions = desk, actions
        self._send, self._alarm, self._wake = send, alarm, wake
        self._waiting: queue.Queue[Order] = queue.Queue(_WAITING)

    def receive(self, message: Message) -> None:
        """Take one message of `down/command`."""
        ruling = self._desk.rule(message)
        if ruling.alarm is not None:
            self._alarm("refused-command", ruling.alarm)
        if ruling.reply is not None:
            self._send(ruling.reply, ruling.correlation)
        if ruling.order is None:
            return
        try:
            self._waiting.put_nowait(ruling.order)
        except queue.Full:
            self._send(self._desk.put_off(ruling.order), ruling.order.correlation)
        else:
            self._wake()

    def work(self) -> None:
        """Execute what waits, in its order."""
        while (order := self._next()) is not None:
            outcome = self._execute(order)
            LOG.info("command %s %s: %s", order.name, order.id, outcome.error or "done")
            self._send(self._desk.done(order, outcome), order.correlation)

    def close(self) -> None:
        """Say of what still waits that it is not done."""
        while (order := self._next()) is not None:
            self._send(self._desk.put_off(order), order.correlation)

    def _next(self) -> Order | None:
        try:
            return self._waiting.get_nowait()
        except queue.Empty:
            return None

    def _execute(self, order: Order) -> Outcome:
        action = self._actions.get(order.name)
        if action is None:
            return Outcome("unsupported", f"this device cannot {order.name}")
        try:
            return action(order)
        except EarmarkError as error:
            return Outcome("failed", str(error))
        except Exception as error:
            LOG.exception("command %s", order.name)
            return Outcome("failed", f"{type(error).__name__}: {error}")

"""Commands through the agent: queued where they arrive, executed by whoever calls `work`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from edge.errors import EarmarkError
from edge.messaging.commands import CommandDesk, Order, Outcome
from edge.messaging.connection import Message
from edge.messaging.events import Reply
from edge.orders import Action, Orders

NOON = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


class Office:
    """Orders with everything that they say and do."""

    def __init__(self, **actions: Action) -> None:
        self.sent: list[tuple[Reply, bytes | None]] = []
        self.alarms: list[tuple[str, str]] = []
        self.woken = 0
        self.done: list[str] = []
        self.orders = Orders(
            CommandDesk("barn-7", "b7", clock=lambda: 0.0, now=lambda: NOON),
            {"identify": self._identify, **actions},
            send=lambda reply, correlation: self.sent.append((reply, correlation)),
            alarm=lambda kind, text: self.alarms.append((kind, text)),
            wake=self._wake,
        )

    def _identify(self, order: Order) -> Outcome:
        self.done.append(order.id)
        return Outcome(text="told", result={"sightings": 2})

    def _wake(self) -> None:
        self.woken += 1

    def hear(self, command: str = "a-1", **changes: Any) -> None:
        said = {
            "schema": 1,
            "id": command,
            "name": "identify",
            "args": {},
            "not_after": "2026-11-24T12:00:30.000Z",
            **changes,
        }
        self.orders.receive(
            Message("t", json.dumps(said).encode(), False, expires_s=30, correlation=b"c")
        )

    def errors(self) -> list[str | None]:
        return [reply.error for reply, _ in self.sent]


def test_the_network_thread_only_judges_and_the_loop_executes() -> None:
    office = Office()
    office.hear()
    assert (office.done, office.sent, office.woken) == ([], [], 1)
    office.orders.work()
    assert office.done == ["a-1"]
    ((reply, correlation),) = office.sent
    assert (reply.id, reply.ok, reply.text, correlation) == ("a-1", True, "told", b"c")
    office.hear()
    office.orders.work()
    assert office.done == ["a-1"]
    assert office.sent[1] == office.sent[0]


def test_what_is_refused_is_answered_and_alarmed_at_once() -> None:
    office = Office()
    office.hear(name="explode")
    assert office.errors() == ["unknown-command"]
    assert office.alarms == [("refused-command", "1 commands refused: 1 unknown-command")]
    assert office.woken == 0


def test_more_than_eight_that_wait_are_busy_and_may_come_again() -> None:
    office = Office()
    for number in range(9):
        office.hear(f"n{number}")
    assert office.errors() == ["busy"]
    office.orders.work()
    assert office.done == [f"n{number}" for number in range(8)]
    office.hear("n8")
    office.orders.work()
    assert office.done[-1] == "n8"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (EarmarkError("camera pen is stuck"), "camera pen is stuck"),
        (RuntimeError("oops"), "RuntimeError: oops"),
    ],
)
def test_an_action_that_fails_says_so_and_others_go_on(error: Exception, text: str) -> None:
    def failing(order: Order) -> Outcome:
        raise error

    office = Office(reload=failing)
    office.hear("n1", name="reload")
    office.hear("n2")
    office.orders.work()
    assert office.errors() == ["failed", None]
    assert office.sent[0][0].text == text
    assert office.done == ["n2"]


def test_a_command_without_an_action_is_unsupported() -> None:
    office = Office()
    office.hear(name="check_update")
    office.orders.work()
    assert office.errors() == ["unsupported"]


def test_what_waits_at_the_end_is_answered_as_not_done() -> None:
    office = Office()
    office.hear()
    office.orders.close()
    assert (office.errors(), office.done) == (["busy"], [])

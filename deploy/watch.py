"""`earmark-deploy watch`: the simplest subscriber."""

from __future__ import annotations

import os
import sys
import time
import uuid
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TextIO

import msgspec
from rich.console import Console
from rich.live import Live

from deploy.board import Board
from edge.errors import BrokerError
from edge.messaging.broker import BrokerOptions
from edge.messaging.connection import Connection, Message, OnMessage, open_connection
from edge.messaging.events import timestamp
from edge.messaging.retry import Backoff
from edge.messaging.topics import EVERYTHING_SAID, Topics

# Lines of the terminal that are not rows: title, caption, header, borders.
_FRAME_LINES = 10
_TURN_S = 0.25


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """What to watch: one device or all (None), as JSON lines or a table, for how long (s)."""

    device: str | None = None
    as_json: bool = False
    for_s: float | None = None


def watch(broker: BrokerOptions, options: WatchOptions) -> int:
    """Show what the broker has to tell until Ctrl-C or `for_s`; return 0.

    The first connection must succeed (BrokerRefused, BrokerUnreachable); a later loss is retried.
    """
    board = Board()
    console = Console()
    problems = Console(stderr=True)

    def on_message(message: Message) -> None:
        payload = board.observe(message.topic, message.payload)
        if payload is not None and options.as_json:
            print_line(sys.stdout, message.topic, message.retained, payload)

    connection: Connection | None = _connect(broker, options, on_message)
    live = Live(console=console, auto_refresh=False)
    end_s = time.monotonic() + (options.for_s or float("inf"))
    backoff = Backoff(1.0, 60.0)
    try:
        with nullcontext() if options.as_json else live:
            while time.monotonic() < end_s:
                try:
                    if connection is None:
                        connection = _connect(broker, options, on_message)
                        backoff.reset()
                    connection.turn(min(_TURN_S, max(end_s - time.monotonic(), 0.0)))
                except BrokerError as error:
                    problems.print(f"{error}; trying again", markup=False, highlight=False)
                    if connection is not None:
                        connection.abandon()
                    connection = None
                    time.sleep(max(min(backoff.next_s(), end_s - time.monotonic()), 0.0))
                if not options.as_json:
                    rows = max(console.height - _FRAME_LINES, 5) if console.is_terminal else 100
                    live.update(board.table(rows), refresh=console.is_terminal)
            if connection is not None:
                connection.close()
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        # The reader of our lines has had enough; nothing more may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if options.as_json and board.bad:
        problems.print(board.bad_summary(), markup=False, highlight=False)
    return 0


def print_line(out: TextIO, topic: str, retained: bool, payload: msgspec.Struct) -> None:
    """Write one message as one line: topic, retained, received (UTC), payload."""
    line = {
        "topic": topic,
        "retained": retained,
        "received": timestamp(datetime.now(UTC)),
        "payload": payload,
    }
    out.write(msgspec.json.encode(line).decode() + "\n")
    out.flush()


def _connect(broker: BrokerOptions, options: WatchOptions, on_message: OnMessage) -> Connection:
    connection = open_connection(
        broker, f"earmark-watch-{uuid.uuid4().hex[:8]}", on_message=on_message
    )
    try:
        connection.subscribe(
            EVERYTHING_SAID if options.device is None else Topics(options.device).everything_said
        )
    except BrokerError:
        connection.abandon()
        raise
    return connection

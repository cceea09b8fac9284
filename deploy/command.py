"""`earmark-deploy command`: tell one device to do something, and wait for its answer."""

from __future__ import annotations

import argparse
import base64
import binascii
import json
import math
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TextIO

import msgspec

from deploy.board import printable
from deploy.connecting import Commands, add_broker, broker_options, seconds
from edge.errors import BrokerError, EarmarkError, UsageError
from edge.files import write_atomically
from edge.messaging.broker import BrokerOptions, BrokerRefused
from edge.messaging.commands import COMMANDS
from edge.messaging.connection import Connection, Message, Terms, open_connection
from edge.messaging.events import (
    SCHEMA,
    Command,
    PayloadError,
    Reply,
    decode,
    encode,
    timestamp,
)
from edge.messaging.topics import Topics, check_id

_TURN_S = 0.25
# MQTT 5: taken, but nobody is subscribed there.
_NOBODY = "No matching subscribers"

Value = bool | int | float | str


class NoReplyError(EarmarkError):
    """The device has not answered in time."""


@dataclass(frozen=True, slots=True)
class CommandOptions:
    """What to tell whom. timeout_s: how long to wait, and how long the command may be carried out.

    out: where the picture of a snapshot goes.
    """

    device: str
    name: str
    args: Mapping[str, Value] = field(default_factory=dict)
    timeout_s: float = 30.0
    as_json: bool = False
    out: Path | None = None


def add_parser(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "command",
        parents=[common],
        help="tell a device to do something",
        description="Send a command to a device and wait for its reply (docs/commands.md).",
    )
    parser.add_argument("device", metavar="DEVICE", help="the device's id")
    parser.add_argument("name", metavar="NAME", help=", ".join(COMMANDS))
    parser.add_argument(
        "--arg",
        dest="args",
        action="append",
        type=_argument,
        default=[],
        metavar="KEY=VALUE",
        help="an argument of the command; again for more",
    )
    parser.add_argument(
        "--timeout",
        dest="timeout_s",
        type=seconds,
        default=30.0,
        metavar="SECONDS",
        help="wait so long, after which the command is void (30)",
    )
    parser.add_argument("--json", action="store_true", help="print the reply as it came")
    parser.add_argument(
        "--out", type=Path, metavar="FILE.jpg", help="write the picture of a snapshot here"
    )
    add_broker(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    return command(
        broker_options(options),
        CommandOptions(
            device=check_id("device", options.device),
            name=options.name,
            args=dict(options.args),
            timeout_s=options.timeout_s,
            as_json=options.json,
            out=options.out,
        ),
    )


def _argument(text: str) -> tuple[str, Value]:
    try:
        return parse_argument(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def command(broker: BrokerOptions, options: CommandOptions, stdout: TextIO | None = None) -> int:
    """Send a command, print the reply, and return 0 when it was done, 1 when it was refused.

    Errors: UsageError for arguments that the command does not take, BrokerRefused where this user
    may not send it, BrokerUnreachable, NoReplyError after `timeout_s`.
    """
    check_arguments(options.name, options.args)
    reply = ask(broker, options)
    out = stdout or sys.stdout
    if options.out is not None:
        save_picture(reply, options.out)
    if options.as_json:
        out.write(encode(reply).decode() + "\n")
    else:
        out.write(printable(in_words(reply, options.out)) + "\n")
    out.flush()
    return 0 if reply.ok else 1


def ask(broker: BrokerOptions, options: CommandOptions) -> Reply:
    """Send a command and return the device's reply to it."""
    topics = Topics(options.device)
    token = uuid.uuid4().hex
    replies: list[Reply] = []

    def hear(message: Message) -> None:
        if message.topic != topics.reply:
            return
        try:
            reply = decode(message.payload, Reply)
        except PayloadError:
            return
        # Others ask this device as well; their answers come by the same topic.
        if (reply.id, reply.device) == (token, topics.device):
            replies.append(reply)

    connection = open_connection(broker, f"earmark-command-{token[:8]}", on_message=hear)
    try:
        connection.subscribe(topics.reply)
        payload, terms = _letter(options, token, topics)
        ticket = connection.publish(topics.command, payload, retain=False, terms=terms)
        heard = _wait(connection, ticket, replies, options)
    except BaseException:
        connection.abandon()
        raise
    connection.close()
    return heard


def check_arguments(name: str, args: Mapping[str, Value]) -> None:
    """Raise UsageError for arguments that a command we know does not take.

    A command that we do not know goes through: the device may be newer than this program.
    """
    kind = COMMANDS.get(name)
    if kind is None:
        return
    try:
        msgspec.convert(dict(args), kind)
    except msgspec.ValidationError as error:
        takes = ", ".join(kind.__struct_fields__) or "no arguments"
        raise UsageError(f"{name}: {error}; it takes {takes}") from error


def parse_argument(text: str) -> tuple[str, Value]:
    """Read `key=value`; whole and other numbers, true and false are what they look like."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError(f"{text!r}: write KEY=VALUE")
    try:
        read = json.loads(value)
    except ValueError:
        return key, value
    usable = isinstance(read, bool | int) or (isinstance(read, float) and math.isfinite(read))
    return key, read if usable else value


def save_picture(reply: Reply, path: Path) -> None:
    """Write the JPEG in a snapshot's reply to a file; EarmarkError when there is none."""
    data = reply.result.get("jpeg")
    if not reply.ok:
        return
    if not isinstance(data, str):
        raise EarmarkError(f"{path}: not written; the reply has no picture")
    try:
        picture = base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise EarmarkError(f"{path}: not written; the picture is damaged: {error}") from error
    write_atomically(path, picture)


def in_words(reply: Reply, picture: Path | None = None) -> str:
    """Return a reply for people: done or why not, then the results a line each.

    picture: where its picture was saved.
    """
    head = "done" if reply.ok else f"refused: {reply.error}"
    lines = [f"{reply.device}: {head}" + (f" ({reply.text})" if reply.text else "")]
    for key, value in reply.result.items():
        if key == "jpeg":
            value = "a picture; --out FILE saves it" if picture is None else str(picture)
        text = (
            ", ".join(value)
            if isinstance(value, Sequence) and not isinstance(value, str)
            else value
        )
        lines.append(f"  {key}: {text}")
    return "\n".join(lines)


def _letter(options: CommandOptions, token: str, topics: Topics) -> tuple[bytes, Terms]:
    until = datetime.now(UTC) + timedelta(seconds=options.timeout_s)
    not_after = timestamp(until)
    assert not_after is not None
    said = Command(
        schema=SCHEMA, id=token, name=options.name, args=dict(options.args), not_after=not_after
    )
    terms = Terms(
        expires_s=math.ceil(options.timeout_s),
        response_topic=topics.reply,
        correlation=token.encode(),
    )
    payload = encode(said)
    try:
        decode(payload, Command)
    except PayloadError as error:
        raise UsageError(f"{options.name}: cannot be sent: {error}") from error
    return payload, terms


def _wait(
    connection: Connection, ticket: int, replies: Sequence[Reply], options: CommandOptions
) -> Reply:
    where, nobody = f"broker {connection.broker.address}", False
    end_s = time.monotonic() + options.timeout_s
    while not replies:
        left_s = end_s - time.monotonic()
        if left_s <= 0:
            hint = "nobody listens there" if nobody else "it is away, or takes no commands"
            raise NoReplyError(
                f"{options.device}: no reply within {options.timeout_s:g} s ({hint}); the command "
                "has expired"
            )
        try:
            acks = connection.turn(min(left_s, _TURN_S))
        except BrokerError as error:
            raise BrokerRefused(f"{error}; whether the command was done is not known") from error
        for ack in acks:
            if ack.ticket != ticket:
                continue
            if ack.failure is not None:
                raise BrokerRefused(
                    f"{where}: may not command {options.device} ({ack.reason}); check the broker's "
                    "rules for this user"
                )
            nobody = ack.reason == _NOBODY
    return replies[0]

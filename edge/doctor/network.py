"""The broker: reachable, willing, and open to this device's events."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from edge.config import AgentConfig
from edge.doctor.verdict import Verdict
from edge.errors import BrokerError
from edge.messaging.connection import open_connection
from edge.messaging.topics import Topics

_WAIT_S = 5.0


def broker(config: AgentConfig) -> Iterator[Verdict]:
    """Connect beside a running agent, and ask whether this device may publish.

    The client id is another one than the agent's, which would be thrown out; what is published goes
    to `up/doctor`, which nobody reads.
    """
    options = config.broker.options()
    topics = Topics(config.device_id())
    begun_s = time.monotonic()
    try:
        connection = open_connection(options, f"{topics.device}-doctor-{os.getpid()}")
    except BrokerError as error:
        yield Verdict("fail", "broker", str(error))
        return
    try:
        took_ms = (time.monotonic() - begun_s) * 1000
        secure = "TLS" if options.tls else "not encrypted"
        yield Verdict(
            "ok" if options.tls or options.host in ("127.0.0.1", "localhost", "::1") else "warn",
            "broker",
            f"{options.address}, MQTT {connection.protocol_name}, {secure}, {took_ms:.0f} ms",
            "" if options.tls else "use mqtts:// across a network",
        )
        ticket = connection.publish(topics.doctor, b"{}", retain=False)
        deadline_s = time.monotonic() + _WAIT_S
        while time.monotonic() < deadline_s:
            for ack in connection.turn(0.2):
                if ack.ticket != ticket:
                    continue
                if ack.failure is None:
                    yield Verdict("ok", "broker", f"takes events of {topics.device}")
                else:
                    yield Verdict(
                        "fail",
                        "broker",
                        f"refuses events of {topics.device}: {ack.reason}",
                        "allow this device's user to write earmark/v1/<device>/up/#",
                    )
                return
        yield Verdict("fail", "broker", f"does not answer a publish within {_WAIT_S:g} s")
    except BrokerError as error:
        yield Verdict("fail", "broker", str(error))
    finally:
        connection.close()

"""The broker: reachable, willing, and open to this device's events."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from edge.config import AgentConfig
from edge.doctor.storage import agent_runs
from edge.doctor.verdict import Verdict
from edge.errors import BrokerError
from edge.messaging.broker import BrokerOptions
from edge.messaging.client import SESSION_EXPIRY_S
from edge.messaging.connection import Connection, open_connection
from edge.messaging.topics import Topics

_WAIT_S = 5.0


def broker(config: AgentConfig) -> Iterator[Verdict]:
    """Connect, and ask whether this device may publish; what is published goes to `up/doctor`.

    Beside a running agent this takes another client id. Where the login is the device's own, the
    broker may make the client id of it: then a running agent is not disturbed, and of one that
    does not run the session is left as it is.
    """
    options = config.broker.options()
    topics = Topics(config.device_id())
    own_login = options.cert_file is not None or options.username == topics.device
    if own_login and agent_runs(config.state_folder()):
        yield Verdict(
            "warn",
            "broker",
            f"{options.address}: not asked; an agent runs, and a second connection with this "
            "device's login could throw it out",
            "read what the agent says, or stop it and ask again",
        )
        return
    begun_s = time.monotonic()
    try:
        connection = _connect(options, topics.device, own_login=own_login)
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


def _connect(broker: BrokerOptions, device: str, *, own_login: bool) -> Connection:
    if not own_login:
        return open_connection(broker, f"{device}-doctor-{os.getpid()}")
    # The agent's own session, perhaps with commands that wait: those are its to take.
    return open_connection(broker, device, session_expiry_s=SESSION_EXPIRY_S, leave_messages=True)

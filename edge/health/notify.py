"""What systemd wants to hear of a service: ready, how it is, alive, stopping.

The protocol is a datagram of KEY=VALUE lines to the socket that NOTIFY_SOCKET names (sd_notify(3)).
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping


class Notifier:
    """Talks to systemd, and to nobody where there is none; it never raises."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # '@' stands for the zero byte of the abstract namespace.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._watchdog_s = self._period(environ)

    @property
    def watchdog_s(self) -> float | None:
        """How often `alive` must be said, half the time that systemd waits; None for never."""
        return self._watchdog_s

    def ready(self, status: str) -> None:
        """Say that the service works."""
        self._send(f"READY=1\nSTATUS={_line(status)}")

    def status(self, status: str) -> None:
        """Say how it is, for `systemctl status`."""
        self._send(f"STATUS={_line(status)}")

    def alive(self) -> None:
        """Say that it is well; silence gets it restarted."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that it is about to end."""
        self._send("STOPPING=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel,
        ):
            channel.setblocking(False)
            channel.sendto(text.encode(), self._address)

    @staticmethod
    def _period(environ: Mapping[str, str]) -> float | None:
        try:
            microseconds = int(environ.get("WATCHDOG_USEC", ""))
        except ValueError:
            return None
        if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
            return None  # meant for another process of the unit
        return microseconds / 2e6 if microseconds > 0 else None


def _line(text: str) -> str:
    return " ".join(text.split())

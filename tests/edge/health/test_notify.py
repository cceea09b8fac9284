from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.health import Notifier


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """The socket as NOTIFY_SOCKET names it, and the end that systemd reads."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@earmark-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind("\0" + name[1:] if name.startswith("@") else name)
        channel.settimeout(5)
        yield name, channel


def test_systemd_hears_what_a_service_says(systemd: tuple[str, socket.socket]) -> None:
    name, channel = systemd
    notifier = Notifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "30000000"})
    assert notifier.watchdog_s == 15
    notifier.ready("watching\n2 cameras")
    notifier.status("camera pen: away")
    notifier.alive()
    notifier.stopping()
    heard = [channel.recv(4096).decode() for _ in range(4)]
    assert heard == [
        "READY=1\nSTATUS=watching 2 cameras",
        "STATUS=camera pen: away",
        "WATCHDOG=1",
        "STOPPING=1",
    ]


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"NOTIFY_SOCKET": "/no/such/socket"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "0"},
    ],
)
def test_where_nobody_listens_nothing_happens(environ: dict[str, str]) -> None:
    notifier = Notifier(environ)
    notifier.ready("x")
    notifier.alive()
    assert notifier.watchdog_s is None

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge.errors import EarmarkError
from edge.health import CommandNumbers, Facts, Limits, Notifier, Pulse, Release, Watch


def facts() -> Facts:
    return Facts("cpu", False, "abc", "0.1", 0, 0, None, 0.0, None)


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.setblocking(False)
        yield channel


class World:
    def __init__(self, folder: Path, facts: Callable[[], Facts] = facts) -> None:
        self.now_s = 0.0
        pulse = Pulse(
            folder, Limits(100, 20, 50), clock=lambda: self.now_s, free_mb=lambda path: 1e4
        )
        notifier = Notifier({"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": "2000000"})
        self.watch = Watch(
            folder, ["pen"], facts, lambda: Release("abc", 1), notifier=notifier, pulse=pulse
        )


def heard(channel: socket.socket) -> list[str]:
    texts = []
    while True:
        try:
            texts.append(channel.recv(4096).decode())
        except BlockingIOError:
            return texts


def metric(world: World, name: str) -> float:
    lines = world.watch.metrics().decode().splitlines()
    (value,) = (line.rsplit(" ", 1)[1] for line in lines if line.startswith(f"{name} "))
    return float(value)


def test_a_camera_lost_while_its_frame_is_worked_on_stays_lost(tmp_path: Path) -> None:
    world = World(tmp_path)
    up = 'earmark_camera_up{camera="pen"}'
    world.watch.begin("pen")
    world.watch.done("pen", 0.1, 0, 0)  # a file says nothing of coming
    assert metric(world, up) == 1
    world.watch.begin("pen")
    world.watch.camera("pen", up=False)
    world.watch.done("pen", 0.1, 0, 0)
    assert metric(world, up) == 0
    world.now_s = 101
    assert world.watch.condition().problems == ("camera pen: away for 101 s",)
    world.watch.camera("pen", up=True)
    assert world.watch.condition().well
    assert metric(world, up) == 1
    assert metric(world, 'earmark_camera_losses_total{camera="pen"}') == 1


def test_the_watchdog_starves_when_work_hangs_and_not_when_it_failed(
    tmp_path: Path, systemd: socket.socket
) -> None:
    world = World(tmp_path)
    world.watch.begin("pen")
    world.watch.camera("pen", up=False)
    world.watch.tick()
    assert "WATCHDOG=1" in heard(systemd)
    world.now_s = 21
    world.watch.tick()
    texts = heard(systemd)
    assert "WATCHDOG=1" not in texts
    assert texts[0].startswith("STATUS=camera pen: a frame has been worked on for 21 s")
    world.watch.idle("pen")
    world.watch.tick()
    assert "WATCHDOG=1" in heard(systemd)


def test_an_outbox_that_cannot_be_asked_is_told_and_nothing_dies_of_it(
    tmp_path: Path, systemd: socket.socket
) -> None:
    def broken() -> Facts:
        raise EarmarkError("outbox.db: the outbox cannot be used (disk I/O error)")

    world = World(tmp_path, broken)
    world.watch.tick()
    assert heard(systemd) == [
        "STATUS=outbox.db: the outbox cannot be used (disk I/O error)",
        "WATCHDOG=1",
    ]
    assert not world.watch.condition().well


def test_commands_are_among_the_numbers(tmp_path: Path) -> None:
    numbers = CommandNumbers(taken=3, refused={"busy": 2})
    world = World(tmp_path, lambda: replace(facts(), commands=numbers))
    assert metric(world, "earmark_commands_taken_total") == 3
    assert metric(world, 'earmark_commands_refused_total{reason="busy"}') == 2


def test_memory_of_the_agent_is_its_own(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert metric(world, 'earmark_memory_megabytes{process="agent"}') > 5


@pytest.mark.parametrize("who", ["the broker", "the ingest service"])
def test_a_full_outbox_says_who_takes_nothing(tmp_path: Path, who: str) -> None:
    world = World(tmp_path, lambda: replace(facts(), outbox_share=0.95, waits_for=who))
    assert world.watch.condition().problems == (f"outbox: 95% full; {who} takes nothing",)
    assert f"Events that wait for {who}" in world.watch.metrics().decode()

"""What watches over a running agent: a real process, systemd's socket, its pages, its crops."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge.messaging.events import Availability, Sighting, decode
from edge.messaging.local_broker import Mosquitto, free_port

DEMO = Path(__file__).parents[2] / "models" / "demo"


@pytest.mark.slow
def test_a_device_is_watched_over_and_ends_cleanly(
    tmp_path: Path,
    mosquitto: Mosquitto,
    subscribe: Callable[..., Any],
    wait_until: Callable[..., None],
) -> None:
    port = free_port()
    settings = {
        "bundle": str(DEMO / "bundle"),
        "device": "barn-1",
        "cameras": [
            {"name": "pen", "source": str(DEMO / "pen.mp4"), "realtime": True, "loop": True}
        ],
        "state_dir": str(tmp_path / "state"),
        "threads": 1,
        "broker": {"url": mosquitto.url},
        "health": {"listen": f"127.0.0.1:{port}"},
        "log": {"format": "json", "level": "info"},
        "crops": {"keep": 5},
    }
    (tmp_path / "agent.yaml").write_text(yaml.safe_dump(settings))
    subscriber = subscribe(mosquitto.port)
    heard: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.setblocking(False)

        def listen() -> list[str]:
            try:
                while True:
                    heard.append(systemd.recv(4096).decode())
            except BlockingIOError:
                return heard

        agent = subprocess.Popen(
            [
                *(sys.executable, "-c", "from edge.cli import entry; entry()"),
                *("run", "--config", str(tmp_path / "agent.yaml")),
            ],
            env={
                **os.environ,
                "NOTIFY_SOCKET": str(tmp_path / "notify"),
                "WATCHDOG_USEC": "2000000",
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            wait_until(lambda: sum(text == "WATCHDOG=1" for text in listen()) >= 2, 60)
            assert heard[0].startswith("READY=1\nSTATUS=watching 1 cameras")
            assert "STATUS=well" in heard
            wait_until(lambda: len(subscriber.payloads("sighting")) >= 3, 60)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10) as page:
                assert json.load(page) == {"status": "ok", "problems": [], "warnings": []}
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
                text = page.read().decode()
            assert 'earmark_camera_up{camera="pen"} 1.0' in text
            values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
            assert float(values['earmark_frames_total{camera="pen"}']) > 3
            assert float(values["earmark_sightings_total"]) >= 3
            assert float(values["earmark_commands_taken_total"]) == 0
            assert float(values['earmark_commands_ignored_total{reason="retained"}']) == 0
            for process in ("agent", "children"):
                megabytes = float(values[f'earmark_memory_megabytes{{process="{process}"}}'])
                assert 5 < megabytes < 400
            wait_until(lambda: list((tmp_path / "state" / "crops").glob("*/*/*.jpg")), 60)
        finally:
            agent.send_signal(signal.SIGTERM)
            _, errors = agent.communicate(timeout=60)
        listen()
    assert agent.returncode == 0, errors
    assert heard[-1] == "STOPPING=1"
    for line in errors.splitlines():
        if line.startswith("{"):
            assert json.loads(line)["level"] in ("info", "warning")
    events = [decode(payload, Sighting) for payload in subscriber.payloads("sighting")]
    opened = {event.track for event in events if event.type == "start"}
    assert opened == {event.track for event in events if event.type == "end"}
    statuses = [decode(p, Availability).status for p in subscriber.payloads("availability")]
    assert statuses[-1] == "stopped"
    assert len(list((tmp_path / "state" / "crops").glob("*/*/*.jpg"))) <= 5


def run_command(config: Path) -> list[str]:
    start = [sys.executable, "-c", "from edge.cli import entry; entry()"]
    return [*start, "run", "--config", str(config)]


@pytest.mark.slow
def test_a_port_that_is_taken_ends_the_run_before_the_broker_hears_of_it(
    tmp_path: Path, mosquitto: Mosquitto, subscribe: Callable[..., Any]
) -> None:
    subscriber = subscribe(mosquitto.port)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = {
            "bundle": str(DEMO / "bundle"),
            "device": "barn-1",
            "cameras": [{"name": "pen", "source": str(DEMO / "pen.mp4")}],
            "state_dir": str(tmp_path / "state"),
            "broker": {"url": mosquitto.url},
            "health": {"listen": f"127.0.0.1:{taken.getsockname()[1]}"},
        }
        (tmp_path / "agent.yaml").write_text(yaml.safe_dump(settings))
        run = subprocess.run(
            run_command(tmp_path / "agent.yaml"), capture_output=True, text=True, timeout=60
        )
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert "Address already in use; another agent?" in run.stderr
    assert subscriber.payloads("availability") == []


@pytest.mark.slow
def test_logs_name_the_camera_that_is_away_and_hide_its_password(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    settings = {
        "bundle": str(DEMO / "bundle"),
        "device": "barn-1",
        "cameras": [{"name": "pen", "source": f"rtsp://joe:hush@127.0.0.1:{free_port()}/pen"}],
        "state_dir": str(tmp_path / "state"),
        "broker": {"url": mosquitto.url},
        "log": {"format": "json", "level": "debug"},
    }
    (tmp_path / "agent.yaml").write_text(yaml.safe_dump(settings))
    agent = subprocess.Popen(
        run_command(tmp_path / "agent.yaml"), stderr=subprocess.PIPE, text=True
    )
    limit = threading.Timer(60, agent.kill)
    limit.start()
    try:
        assert agent.stderr is not None
        lines = []
        for line in agent.stderr:
            lines.append(line)
            if "trying again" in line:
                break
        agent.send_signal(signal.SIGTERM)
        lines += agent.stderr.readlines()
        assert agent.wait(timeout=60) == 0
    finally:
        limit.cancel()
        agent.kill()
        agent.wait()
    rows = [json.loads(line) for line in lines if line.startswith("{")]
    (lost,) = (row for row in rows if "trying again" in row["message"])
    assert lost["camera"] == "pen"
    assert "hush" not in "".join(lines)

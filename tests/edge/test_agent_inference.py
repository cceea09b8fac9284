"""The agent and its inference child: what becomes of it reaches the broker, and frames go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.agent import Agent, RunSummary
from edge.config import AgentConfig, BrokerConfig, CameraConfig, InferenceConfig
from edge.errors import EarmarkError
from edge.messaging.events import Alarm, Availability, StateReport, decode
from edge.messaging.local_broker import Mosquitto, free_port

pytestmark = pytest.mark.slow
DEMO = Path(__file__).parents[2] / "models" / "demo"


def settings(state: Path, broker: Mosquitto, **inference: Any) -> AgentConfig:
    clip = CameraConfig(name="pen", source=str(DEMO / "pen.mp4"), realtime=True, loop=True)
    return AgentConfig(
        bundle=str(DEMO / "bundle"),
        cameras=[clip],
        device="barn-1",
        state_dir=str(state),
        threads=1,
        broker=BrokerConfig(url=broker.url),
        inference=InferenceConfig(**inference),
    )


class Running:
    """An agent in a thread, counting its frames."""

    def __init__(self, config: AgentConfig) -> None:
        self.frames = 0
        self.summaries: list[RunSummary] = []
        self.agent = Agent(config, observers=[self._count], say=lambda text: None)
        self.errors: list[EarmarkError] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.summaries.append(self.agent.run())
        except EarmarkError as error:
            self.errors.append(error)

    def _count(self, *_: object) -> None:
        self.frames += 1

    @property
    def child(self) -> int | None:
        inference = self.agent._served.inference
        return None if inference is None else inference.pid

    def stop(self) -> RunSummary:
        self.agent.stop()
        self._thread.join(timeout=60)
        assert not self._thread.is_alive()
        return self.summaries[0]


def stopped(subscriber: Any) -> bool:
    """Say whether the agent's last word is there: whatever it sent before is as well."""
    told = (decode(data, Availability) for data in subscriber.payloads("availability"))
    return any(one.status == "stopped" for one in told)


def test_a_stop_waits_for_no_driver_that_hangs_while_loading(
    tmp_path: Path, mosquitto: Mosquitto, delegate_library: str, wait_until: Callable[..., None]
) -> None:
    log = tmp_path / "options"
    wanted = f"delegate:{delegate_library}?behaviour=hang&log={log}"
    path = tmp_path / "agent.yaml"
    path.write_bytes(msgspec.yaml.encode(settings(tmp_path, mosquitto, accelerator=wanted)))
    # A process of its own: the signal's handler runs in the thread that waits for the driver.
    agent = subprocess.Popen(
        [sys.executable, "-c", "from edge.cli import entry; entry()", "run", "--config", path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(log.exists, 60)
        agent.send_signal(signal.SIGTERM)
        out, err = agent.communicate(timeout=20)  # it would hang for 30 s, twice
    finally:
        agent.kill()
    assert (agent.returncode, err) == (0, "")
    assert out.startswith("0 frames")


def test_a_stop_waits_for_no_driver_that_hangs_with_a_frame(
    tmp_path: Path,
    mosquitto: Mosquitto,
    subscribe: Callable[..., Any],
    wait_until: Callable[..., None],
) -> None:
    subscriber = subscribe(mosquitto.port)
    running = Running(settings(tmp_path, mosquitto, stuck_s=600))
    try:
        wait_until(lambda: running.frames > 3, 60)
        child = running.child
        assert child is not None
        os.kill(child, signal.SIGSTOP)
    finally:
        summary = running.stop()
    assert summary.undelivered == 0
    wait_until(lambda: stopped(subscriber))
    assert alarms(subscriber) == []
    assert not Path(f"/proc/{child}").exists()


def test_a_service_manager_that_ends_all_processes_raises_no_alarm(
    tmp_path: Path,
    mosquitto: Mosquitto,
    subscribe: Callable[..., Any],
    wait_until: Callable[..., None],
) -> None:
    subscriber = subscribe(mosquitto.port)
    running = Running(settings(tmp_path, mosquitto))
    try:
        wait_until(lambda: running.frames > 3, 60)
        child = running.child
        assert child is not None
        os.kill(child, signal.SIGTERM)
        seen = running.frames
        wait_until(lambda: running.frames > seen + 3, 60)
    finally:
        running.stop()
    wait_until(lambda: stopped(subscriber))
    assert alarms(subscriber) == []


def test_where_nothing_can_serve_the_agent_ends(
    tmp_path: Path, mosquitto: Mosquitto, wait_until: Callable[..., None]
) -> None:
    config = settings(tmp_path, mosquitto)
    # Its thread waits for frames and asks nothing, so it would never hear of the end.
    away = CameraConfig(name="away", source=f"http://127.0.0.1:{free_port()}/")
    running = Running(msgspec.structs.replace(config, cameras=[*config.cameras, away]))
    try:
        wait_until(lambda: running.frames > 3, 60)
        inference, child = running.agent._served.inference, running.child
        assert inference is not None
        assert child is not None
        inference._patience.restarts = 0
        os.kill(child, signal.SIGKILL)
        wait_until(lambda: bool(running.errors), 60)
    finally:
        running.agent.stop()
    assert "inference on cpu keeps failing" in str(running.errors[0])


def alarms(subscriber: Any) -> list[Alarm]:
    return [decode(payload, Alarm) for payload in subscriber.payloads("alarm")]


def states(subscriber: Any) -> list[StateReport]:
    return [decode(payload, StateReport) for payload in subscriber.payloads("state")]


def test_killed_inference_is_told_and_frames_go_on(
    tmp_path: Path,
    mosquitto: Mosquitto,
    subscribe: Callable[..., Any],
    wait_until: Callable[..., None],
) -> None:
    subscriber = subscribe(mosquitto.port)
    running = Running(settings(tmp_path, mosquitto))
    try:
        for number in range(2):
            seen = running.frames
            wait_until(lambda seen=seen: running.frames > seen + 3, 60)
            child = running.child
            assert child is not None
            os.kill(child, signal.SIGKILL)
            wait_until(lambda number=number: len(alarms(subscriber)) > number, 30)
        seen = running.frames
        wait_until(lambda: running.frames > seen + 3, 30)
        child = running.child
    finally:
        summary = running.stop()
    assert {alarm.kind for alarm in alarms(subscriber)} == {"inference-restarted"}
    assert "signal 9" in alarms(subscriber)[0].text
    assert not states(subscriber)[-1].degraded
    assert summary.undelivered == 0
    assert child is not None
    assert not Path(f"/proc/{child}").exists()


def test_a_missing_accelerator_is_told_and_the_cpu_serves(
    tmp_path: Path,
    mosquitto: Mosquitto,
    subscribe: Callable[..., Any],
    wait_until: Callable[..., None],
    delegate_library: str,
) -> None:
    subscriber = subscribe(mosquitto.port)
    wanted = f"delegate:{delegate_library}?behaviour=refuse"
    running = Running(settings(tmp_path, mosquitto, accelerator=wanted))
    try:
        wait_until(lambda: running.frames > 3 and alarms(subscriber) and states(subscriber), 60)
    finally:
        running.stop()
    (alarm,) = alarms(subscriber)
    assert alarm.kind == "accelerator-lost"
    assert "no such device is plugged in" in alarm.text
    assert states(subscriber)[0].degraded
    assert states(subscriber)[0].backend.startswith("cpu (")

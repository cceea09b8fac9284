"""The whole agent on a real RTSP camera that is killed, hangs, and comes back."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from edge.agent import Agent
from edge.config import AgentConfig, BrokerConfig, CameraConfig
from edge.messaging.events import Alarm, Availability, Sighting, StateReport, decode
from edge.messaging.local_broker import Mosquitto
from edge.pipeline import FrameResult
from edge.vision.types import Frame

MODELS_DEMO = Path(__file__).parents[2] / "models" / "demo"
WAIT_S = 90.0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_camera_that_dies_and_one_that_hangs_are_alarmed_and_come_back(
    rtsp_pen: Any,
    tmp_path: Path,
    mosquitto: Mosquitto,
    subscribe: Callable[..., Any],
    wait_until: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    subscriber = subscribe(mosquitto.port)
    seen: Counter[str] = Counter()
    said: list[str] = []

    def look(frame: Frame, result: FrameResult) -> None:
        seen[frame.camera] += 1

    def sightings(kind: str) -> list[Sighting]:
        events = [decode(payload, Sighting) for payload in subscriber.payloads("sighting")]
        return [event for event in events if event.type == kind and event.camera == "pen"]

    def alarms() -> list[Alarm]:
        return [decode(payload, Alarm) for payload in subscriber.payloads("alarm")]

    def lost_and_found(lose: Callable[[], None], bring_back: Callable[[], None]) -> None:
        before = len(alarms())
        lose()
        wait_until(lambda: len(alarms()) > before, timeout_s=WAIT_S)
        # Nobody is left in a pen that nobody can see, and the other camera goes on.
        wait_until(lambda: len(sightings("end")) == len(sightings("start")), timeout_s=WAIT_S)
        others, opened = seen["yard"], len(sightings("start"))
        wait_until(lambda: seen["yard"] > others + 5, timeout_s=WAIT_S)
        bring_back()
        wait_until(lambda: len(sightings("start")) > opened, timeout_s=WAIT_S)

    config = AgentConfig(
        bundle=str(MODELS_DEMO / "bundle"),
        device="barn-1",
        state_dir=str(tmp_path / "state"),
        broker=BrokerConfig(url=mosquitto.url),
        threads=1,
        cameras=[
            CameraConfig(
                name="pen",
                source=rtsp_pen.url.replace("//", "//farm:s3cret@"),
                fps=6,
                stall_s=8.0,
                region=(0.0, 0.0, 0.9, 1.0),
            ),
            CameraConfig(
                name="yard", source=str(MODELS_DEMO / "pen.mp4"), fps=3, loop=True, realtime=True
            ),
        ],
    )
    agent = Agent(config, observers=[look], say=said.append)
    thread = Thread(target=agent.run)
    thread.start()
    try:
        wait_until(lambda: sightings("start"), timeout_s=WAIT_S)
        lost_and_found(rtsp_pen.kill, rtsp_pen.start)
        lost_and_found(rtsp_pen.hang, rtsp_pen.go_on)
    finally:
        agent.stop()
        thread.join(WAIT_S)
    assert not thread.is_alive()
    told = [alarm for alarm in alarms() if alarm.kind == "camera-lost"]
    assert len(told) == 2
    assert "no frame for 8 s" in told[1].text
    wait_until(lambda: len(subscriber.payloads("availability")) >= 2)
    last = decode(subscriber.payloads("availability")[-1], Availability)
    assert last.status == "stopped"
    assert len(sightings("end")) == len(sightings("start"))
    state = decode(subscriber.payloads("state")[-1], StateReport)
    assert state.cameras["pen"].reconnects == 2
    assert state.cameras["pen"].grade is not None
    assert state.cameras["yard"].grade is None
    everything = [message.payload.decode() for message in subscriber.messages]
    assert "s3cret" not in "".join([*everything, *said, caplog.text])

from __future__ import annotations

from pathlib import Path

from edge.health import Limits, Pulse

LIMITS = Limits(camera_s=100, stuck_s=20, disk_mb=50)


class World:
    def __init__(self) -> None:
        self.now_s, self.free_mb = 0.0, 1000.0
        self.pulse = Pulse(
            Path("/state"), LIMITS, clock=lambda: self.now_s, free_mb=lambda folder: self.free_mb
        )


def test_a_camera_may_be_away_for_a_while() -> None:
    world = World()
    assert world.pulse.condition().well
    world.pulse.camera("pen", up=False)
    world.now_s = 99
    world.pulse.camera("pen", up=False)  # still away, not away anew
    found = world.pulse.condition()
    assert (found.well, found.warnings) == (True, ("camera pen: away for 99 s",))
    world.now_s = 101
    assert world.pulse.condition().problems == ("camera pen: away for 101 s",)
    assert not world.pulse.stuck  # a restart brings no camera back
    world.pulse.camera("pen", up=True)
    assert world.pulse.condition() == World().pulse.condition()


def test_a_frame_of_before_does_not_bring_a_lost_camera_back() -> None:
    world = World()
    world.pulse.begin("pen")
    world.pulse.camera("pen", up=False)
    world.now_s = 21
    assert world.pulse.stuck  # its work hangs whether the camera is there or not
    world.pulse.end("pen")
    assert not world.pulse.stuck
    world.now_s = 101
    assert world.pulse.condition().problems == ("camera pen: away for 101 s",)


def test_an_outbox_that_is_nearly_full() -> None:
    pulse = World().pulse
    assert pulse.condition(outbox_share=0.89).well
    found = pulse.condition(outbox_share=0.9, trouble="outbox.db: disk error")
    assert found.problems == (
        "outbox.db: disk error",
        "outbox: 90% full; the broker takes nothing",
    )
    found = pulse.condition(outbox_share=0.9, waits_for="the ingest service")
    assert found.problems == ("outbox: 90% full; the ingest service takes nothing",)


def test_a_frame_that_is_never_done_is_worth_a_restart() -> None:
    world = World()
    world.pulse.begin("pen")
    world.now_s = 20
    assert world.pulse.condition().well
    world.now_s = 21
    assert world.pulse.stuck
    assert world.pulse.condition().problems == ("camera pen: a frame has been worked on for 21 s",)
    world.pulse.end("pen")
    assert not world.pulse.stuck
    assert world.pulse.condition().well


def test_a_full_disk_and_a_missed_accelerator() -> None:
    world = World()
    world.free_mb = 49
    found = world.pulse.condition(degraded="no accelerator: cpu serves")
    assert found.problems == ("/state: 49 MB free",)
    assert found.warnings == ("no accelerator: cpu serves",)

    def unreadable(folder: Path) -> float:
        raise OSError(5, "Input/output error")

    broken = Pulse(Path("/state"), LIMITS, free_mb=unreadable)
    assert broken.condition().problems == ("/state: Input/output error",)

"""The agent's numbers as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from edge.errors import UsageError

# Upper bounds of a frame's time in seconds: from a small PC to a Raspberry Pi out of breath.
FRAME_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


@dataclass(slots=True)
class CameraNumbers:
    """Of one camera since the agent began. buckets: frames by time, as FRAME_SECONDS bounds them.

    The last bucket is of all that took longer.
    """

    up: bool = False
    frames: int = 0
    dropped: int = 0
    lost: int = 0
    busy_s: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(FRAME_SECONDS) + 1))

    def frame(self, seconds: float) -> None:
        """Count a frame."""
        self.frames += 1
        self.busy_s += seconds
        self.buckets[sum(seconds > bound for bound in FRAME_SECONDS)] += 1


@dataclass(frozen=True, slots=True)
class CommandNumbers:
    """What became of commands since the agent began.

    taken: found good, also those that then were put off as `busy`. repeated: known already,
    answered again. refused, ignored: by reason, answered with an error and not at all.
    """

    taken: int = 0
    repeated: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    ignored: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Numbers:
    """All numbers at one moment. outbox_age_s: of the oldest event that waits, None for none.

    waits_for: who must take those, in words. memory_mb, children_mb: of the agent, and of the
    processes that it started.
    """

    cameras: dict[str, CameraNumbers]
    sightings: int
    outbox_depth: int
    outbox_age_s: float | None
    inference_restarts: int
    backend: str
    release: str
    agent: str
    degraded: bool
    healthy: bool
    temperature_c: float | None
    memory_mb: float
    children_mb: float
    waits_for: str = "the broker"
    commands: CommandNumbers = field(default_factory=CommandNumbers)


def render(numbers: Numbers) -> bytes:
    """Return the numbers in Prometheus' text format.

    Raises UsageError where `prometheus-client` is not installed.
    """
    try:
        from prometheus_client import CollectorRegistry, generate_latest
    except ImportError as error:
        raise UsageError("metrics need: pip install 'earmark[metrics]'") from error

    class Collector:
        def collect(self) -> Iterator[Any]:
            yield from _families(numbers)

    registry = CollectorRegistry()
    registry.register(Collector())
    return bytes(generate_latest(registry))


def _families(numbers: Numbers) -> Iterator[Any]:
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        InfoMetricFamily,
    )

    info = {"version": numbers.agent, "release": numbers.release, "backend": numbers.backend}
    yield InfoMetricFamily("earmark_agent", "What runs", value=info)
    for name, text, value in (
        ("earmark_healthy", "1 while nothing is wrong, as /healthz says", float(numbers.healthy)),
        ("earmark_degraded", "1 while an accelerator is missed", float(numbers.degraded)),
        (
            "earmark_outbox_events",
            f"Events that wait for {numbers.waits_for}",
            numbers.outbox_depth,
        ),
        ("earmark_outbox_oldest_seconds", "Age of the oldest of them", numbers.outbox_age_s or 0),
    ):
        yield GaugeMetricFamily(name, text, value=value)
    memory = GaugeMetricFamily(
        "earmark_memory_megabytes",
        "Proportional set size: of the agent, of its children (inference, ffmpeg)",
        labels=["process"],
    )
    memory.add_metric(["agent"], numbers.memory_mb)
    memory.add_metric(["children"], numbers.children_mb)
    yield memory
    if numbers.temperature_c is not None:
        yield GaugeMetricFamily(
            "earmark_temperature_celsius", "Of the processor", value=numbers.temperature_c
        )
    for name, text, total in (
        ("earmark_sightings", "Sighting events", numbers.sightings),
        ("earmark_inference_restarts", "Of the inference process", numbers.inference_restarts),
        ("earmark_commands_taken", "Commands found good", numbers.commands.taken),
        ("earmark_commands_repeated", "Known already, answered again", numbers.commands.repeated),
    ):
        yield CounterMetricFamily(name, text, value=total)
    for name, text, counts in (
        ("earmark_commands_refused", "Answered with an error", numbers.commands.refused),
        ("earmark_commands_ignored", "Not answered", numbers.commands.ignored),
    ):
        family = CounterMetricFamily(name, text, labels=["reason"])
        for reason, count in sorted(counts.items()):
            family.add_metric([reason], count)
        yield family
    up = GaugeMetricFamily("earmark_camera_up", "1 while frames come", labels=["camera"])
    counters = {
        "frames": CounterMetricFamily("earmark_frames", "Worked through", labels=["camera"]),
        "dropped": CounterMetricFamily(
            "earmark_frames_dropped", "Nobody had time for them", labels=["camera"]
        ),
        "lost": CounterMetricFamily("earmark_camera_losses", "Times lost", labels=["camera"]),
    }
    times = HistogramMetricFamily("earmark_frame_seconds", "Time of a frame", labels=["camera"])
    for name, camera in sorted(numbers.cameras.items()):
        up.add_metric([name], float(camera.up))
        for key, family in counters.items():
            family.add_metric([name], getattr(camera, key))
        counted, buckets = 0, []
        for bound, count in zip((*map(str, FRAME_SECONDS), "+Inf"), camera.buckets, strict=True):
            counted += count
            buckets.append((bound, counted))
        times.add_metric([name], buckets, sum_value=camera.busy_s)
    yield up
    yield from counters.values()
    yield times

"""How a running agent is: for systemd, for `/healthz` and `/metrics`, for people who label."""

from edge.health.crops import CropRing, Release
from edge.health.logs import set_up_logs
from edge.health.metrics import CommandNumbers
from edge.health.notify import Notifier
from edge.health.pulse import Condition, Limits, Pulse
from edge.health.server import HealthServer, parse_listen
from edge.health.watch import Facts, Watch

__all__ = [
    "CommandNumbers",
    "Condition",
    "CropRing",
    "Facts",
    "HealthServer",
    "Limits",
    "Notifier",
    "Pulse",
    "Release",
    "Watch",
    "parse_listen",
    "set_up_logs",
]

"""Models run in a child process under a watchdog, on the accelerator that is there."""

from edge.inference.accelerator import (
    Accelerator,
    Backend,
    Plan,
    coral_present,
    parse_accelerator,
    plan_backends,
)
from edge.inference.supervised import Inference, SupervisedModel

__all__ = [
    "Accelerator",
    "Backend",
    "Inference",
    "Plan",
    "SupervisedModel",
    "coral_present",
    "parse_accelerator",
    "plan_backends",
]

"""A simulated pen seen from above: a herd of known animals, drawn with its truth."""

from edge.video import write_video
from trainer.data.herd.options import HerdOptions, SessionPlan
from trainer.data.herd.render import Herd, SimulatedFrame
from trainer.data.herd.write import simulate, write_clip

__all__ = [
    "Herd",
    "HerdOptions",
    "SessionPlan",
    "SimulatedFrame",
    "simulate",
    "write_clip",
    "write_video",
]

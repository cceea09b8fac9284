"""`earmark-edge doctor`: what is wrong with a device, a verdict a line."""

from edge.doctor.examination import examination
from edge.doctor.verdict import Host, Verdict

__all__ = ["Host", "Verdict", "examination"]

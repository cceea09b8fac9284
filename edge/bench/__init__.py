"""`earmark-edge bench`: what a frame costs on this device, and where its time goes."""

from edge.bench.measure import Bench, Measurement, slope_and_base

__all__ = ["Bench", "Measurement", "slope_and_base"]

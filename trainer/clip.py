"""The demonstration clip: drawn with its truth, then judged through the device's whole pipeline."""

from __future__ import annotations

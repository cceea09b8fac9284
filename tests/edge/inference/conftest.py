"""A real model and something to feed it with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def embedder_path() -> Path:
    return ROOT / "models" / "demo" / "bundle" / "embedder.tflite"


@pytest.fixture(scope="session")
def demo_bundle_path() -> Path:
    return ROOT / "models" / "demo" / "bundle"


@pytest.fixture
def crops() -> np.ndarray:
    """Eleven input tensors of the demo's embedder, as many as fill no batch."""
    return np.random.default_rng(5).integers(0, 256, (11, 128, 128, 3)).astype(np.uint8)

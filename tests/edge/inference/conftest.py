"""A real shared library as the accelerator, and a real model."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def delegate_library(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a delegate that does what its option `behaviour` says."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc) on PATH to build the test's delegate with")
    library = tmp_path_factory.mktemp("delegate") / "libdouble.so"
    source = Path(__file__).with_name("delegate.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    return str(library)


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

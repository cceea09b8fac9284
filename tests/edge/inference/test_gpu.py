from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.errors import AcceleratorError
from edge.inference import Inference, parse_accelerator, plan_backends
from edge.inference.gpu import CompiledModel
from edge.vision.runtime import one_by_one, open_model

pytestmark = pytest.mark.slow


def test_a_compiled_model_answers_as_the_interpreter_does(
    embedder_path: Path, crops: np.ndarray
) -> None:
    # The same code as for a GPU, on the one accelerator that every machine has.
    compiled = CompiledModel(embedder_path, "CPU")
    plain = open_model(embedder_path, 1)
    assert compiled.input == plain.input
    (ours,) = compiled.invoke_many(crops).values()
    (theirs,) = one_by_one(plain, crops).values()
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    assert (np.sum(ours * theirs, axis=1) > 0.99 * lengths).all()


def test_without_a_gpu_the_cpu_serves_loudly(embedder_path: Path, crops: np.ndarray) -> None:
    try:
        CompiledModel(embedder_path)
    except AcceleratorError:
        pass
    else:
        pytest.skip("this machine has a GPU that LiteRT can use")
    plan = plan_backends(parse_accelerator("gpu"), require=False, compiled=False, coral=False)
    heard: list[str] = []
    inference = Inference(plan, threads=1, listener=lambda event, text: heard.append(text))
    try:
        model = inference.open(embedder_path, many=True)
        assert len(model.invoke_many(crops)) == 1
        assert inference.degraded
    finally:
        inference.close()
    assert heard[0].startswith("gpu given up: GPU: will not run embedder.tflite")

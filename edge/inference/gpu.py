"""A GPU, through LiteRT's compiled models, which have an interface of their own."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import AcceleratorError
from edge.vision.runtime import dequantise, one_by_one, open_model, runtime_name


class CompiledModel:
    """A model that LiteRT compiled for an accelerator; see `edge.vision.runtime.Model`.

    source: see `edge.vision.runtime.open_interpreter`. Whether it answers rightly is for the
    bundle's self-test to say, as with every backend.
    """

    def __init__(self, path: Path, accelerator: str = "GPU", source: Path | None = None) -> None:
        try:
            module = importlib.import_module("ai_edge_litert.compiled_model")
            hardware = importlib.import_module("ai_edge_litert.hardware_accelerator")
            wanted = getattr(hardware.HardwareAccelerator, accelerator)
            self._model = module.CompiledModel.from_file(str(source or path), hardware_accel=wanted)
            self._inputs = self._model.create_input_buffers(0)
            self._outputs = self._model.create_output_buffers(0)
        except ImportError as error:
            raise AcceleratorError(
                f"{accelerator}: {runtime_name()} has no compiled models; ai-edge-litert 2 has"
            ) from error
        except (RuntimeError, ValueError, AttributeError, OSError) as error:
            words = " ".join(str(error).split())[:200] or type(error).__name__
            raise AcceleratorError(f"{accelerator}: will not run {path.name}: {words}") from error
        # The plain interpreter knows names and quantisation; it is asked once and let go.
        plain = open_model(path, 1, source=source)
        self.path, self.input, self.outputs = path, plain.input, plain.outputs
        self.backend = f"{accelerator} ({runtime_name()})"

    def invoke(self, tensor: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """See `Model`."""
        self._inputs[0].write(np.ascontiguousarray(tensor))
        self._model.run_by_index(0, self._inputs, self._outputs)
        results = {}
        for spec, buffer in zip(self.outputs, self._outputs, strict=True):
            count = int(np.prod(spec.shape))
            tensor = np.asarray(buffer.read(count, spec.dtype)).reshape(spec.shape)
            results[spec.name] = dequantise(tensor, spec)
        return results

    def invoke_many(self, tensors: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """See `Model`."""
        return one_by_one(self, tensors)

"""One small interface over the TFLite runtimes: ai-edge-litert, or the older tflite-runtime."""

from __future__ import annotations

import importlib
import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import BundleError, EarmarkError

# (module, distribution); the first that imports is used.
_RUNTIMES = (
    ("ai_edge_litert.interpreter", "ai-edge-litert"),
    ("tflite_runtime.interpreter", "tflite-runtime"),
)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A model's input or output: name, shape, dtype, and real = (q - zero_point) * scale.

    scale is 0 for a tensor that is not quantised.
    """

    name: str
    index: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: float
    zero_point: int


class Model:
    """A loaded TFLite model with one input. Not thread-safe: one owner each."""

    def __init__(self, interpreter: Any, path: Path, backend: str) -> None:
        self._interpreter = interpreter
        self.path = path
        self.backend = backend
        inputs = [_tensor_spec(detail) for detail in interpreter.get_input_details()]
        if len(inputs) != 1:
            raise BundleError(f"{path}: expected a model with one input, it has {len(inputs)}")
        self.input = inputs[0]
        self.outputs = tuple(_tensor_spec(detail) for detail in interpreter.get_output_details())

    def invoke(self, tensor: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """Run the model on one input tensor and return real-valued outputs by tensor name."""
        self._interpreter.set_tensor(self.input.index, tensor)
        self._interpreter.invoke()
        return {
            spec.name: _dequantise(self._interpreter.get_tensor(spec.index), spec)
            for spec in self.outputs
        }


def runtime_name() -> str:
    """Return `distribution version` of the runtime that would be used."""
    return _load_runtime()[1]


def open_model(path: Path, threads: int = 2) -> Model:
    """Load a TFLite file for the CPU.

    Raises BundleError when the file is no model this runtime can run.
    """
    runtime, name = _load_runtime()
    try:
        interpreter = runtime.Interpreter(model_path=str(path), num_threads=threads)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError, OSError) as error:
        if "edgetpu-custom-op" in str(error):
            raise BundleError(
                f"{path} is compiled for a Coral Edge TPU and cannot run on the CPU; "
                "use the plain int8 file of the bundle"
            ) from error
        raise BundleError(f"{path} is not a model that {name} can run: {error}") from error
    return Model(interpreter, path, f"cpu ({name})")


def quantisation_table(
    scale: float, zero_point: int, dtype: np.dtype[Any], pixel_scale: float, pixel_offset: float
) -> NDArray[Any]:
    """Return the tensor value (256,) of every pixel value.

    real = pixel * pixel_scale + pixel_offset is what the network was trained on; an int8 or uint8
    tensor holds round(real / scale) + zero_point, a float32 one the real number itself.
    """
    real = np.arange(256, dtype=np.float64) * pixel_scale + pixel_offset
    if np.issubdtype(dtype, np.floating):
        return real.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.round(real / scale) + zero_point, limits.min, limits.max).astype(dtype)


def _load_runtime() -> tuple[Any, str]:
    for module, distribution in _RUNTIMES:
        try:
            runtime = importlib.import_module(module)
        except ImportError:
            continue
        return runtime, f"{distribution} {importlib.metadata.version(distribution)}"
    raise EarmarkError(
        "no TFLite runtime is installed: pip install 'earmark[edge]' (or earmark[tflite-runtime])"
    )


def _tensor_spec(detail: dict[str, Any]) -> TensorSpec:
    scale, zero_point = detail["quantization"]
    return TensorSpec(
        str(detail["name"]),
        int(detail["index"]),
        tuple(int(n) for n in detail["shape"]),
        np.dtype(detail["dtype"]),
        float(scale),
        int(zero_point),
    )


def _dequantise(tensor: NDArray[Any], spec: TensorSpec) -> NDArray[np.float32]:
    if spec.scale == 0 or np.issubdtype(tensor.dtype, np.floating):
        return tensor.astype(np.float32)
    return ((tensor.astype(np.float32) - spec.zero_point) * spec.scale).astype(np.float32)

"""One small interface over the TFLite runtimes: ai-edge-litert, or the older tflite-runtime."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge.errors import AcceleratorError, BundleError, EarmarkError

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


@dataclass(frozen=True, slots=True)
class Delegate:
    """A shared library that runs parts of a model elsewhere, such as `libedgetpu.so.1`.

    options: as the library takes them. name: what it is called where people read of it.
    """

    library: str
    options: Mapping[str, str] = field(default_factory=dict)
    name: str = "delegate"


class Model(Protocol):
    """A loaded TFLite model with one input, wherever it runs. One owner each."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def backend(self) -> str:
        """What it runs on, in words."""

    @property
    def input(self) -> TensorSpec:
        """Its input, for one image."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Its outputs, for one image."""

    def invoke(self, tensor: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """Run the model on one input tensor and return real-valued outputs by tensor name."""

    def invoke_many(self, tensors: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """Run it on N input tensors (N, …), without the input's first axis of 1.

        The outputs are (N, …) likewise.
        """


class LocalModel:
    """A model in this process. Not thread-safe. source: see `open_interpreter`."""

    def __init__(
        self, interpreter: Any, path: Path, backend: str, source: Path | None = None
    ) -> None:
        self._interpreter = interpreter
        self.path, self.source = path, source
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
            spec.name: dequantise(self._interpreter.get_tensor(spec.index), spec)
            for spec in self.outputs
        }

    def invoke_many(self, tensors: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """Run the model on N input tensors, one after the other; see `Model`."""
        return one_by_one(self, tensors)


def one_by_one(model: Model, tensors: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
    """Run a model on N input tensors (N, …), one after the other; see `Model.invoke_many`."""
    results = {
        spec.name: np.empty((len(tensors), *spec.shape[1:]), np.float32) for spec in model.outputs
    }
    for row, tensor in enumerate(tensors):
        for name, output in model.invoke(tensor[None]).items():
            results[name][row] = output.reshape(results[name].shape[1:])
    return results


def runtime_name() -> str:
    """Return `distribution version` of the runtime that would be used."""
    return _load_runtime()[1]


def open_model(
    path: Path, threads: int = 2, delegate: Delegate | None = None, source: Path | None = None
) -> LocalModel:
    """Load a TFLite file into this process, for the CPU or for a delegate.

    source: see `open_interpreter`. Raises BundleError when the file is no model this runtime can
    run, AcceleratorError when the delegate cannot be had or will not take the model.
    """
    interpreter, backend = open_interpreter(path, threads, delegate, source=source)
    return LocalModel(interpreter, path, backend, source)


def open_interpreter(
    path: Path,
    threads: int,
    delegate: Delegate | None = None,
    batch: int = 1,
    source: Path | None = None,
) -> tuple[Any, str]:
    """Return the runtime's own interpreter, ready to be invoked, and what it runs on, in words.

    batch: images of one invoke. source: where the file is read, if not at the name that people
    know it by. Errors as of `open_model`.
    """
    runtime, name = _load_runtime()
    options: dict[str, Any] = {"model_path": str(source or path), "num_threads": threads}
    if delegate is not None:
        options["experimental_delegates"] = [_load_delegate(runtime, delegate)]
    try:
        interpreter = runtime.Interpreter(**options)
        if batch != 1:
            detail = interpreter.get_input_details()[0]
            shape = [batch, *(int(n) for n in detail["shape"][1:])]
            interpreter.resize_tensor_input(detail["index"], shape)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError, OSError) as error:
        if "edgetpu-custom-op" in str(error):
            raise BundleError(
                f"{path} is compiled for a Coral Edge TPU and cannot run on the CPU; "
                "use the plain int8 file of the bundle"
            ) from error
        if delegate is not None:
            raise AcceleratorError(
                f"{delegate.name} ({delegate.library}) will not run {path.name}: {_short(error)}"
            ) from error
        raise BundleError(f"{path} is not a model that {name} can run: {error}") from error
    return interpreter, f"{delegate.name if delegate else 'cpu'} ({name})"


def _load_delegate(runtime: Any, delegate: Delegate) -> Any:
    where = f"{delegate.name} ({delegate.library})"
    try:
        return runtime.load_delegate(delegate.library, dict(delegate.options))
    except OSError as error:
        raise AcceleratorError(f"{where}: the library cannot be loaded: {_short(error)}") from error
    except AttributeError as error:
        raise AcceleratorError(f"{where}: that library is no TFLite delegate") from error
    except (ValueError, RuntimeError) as error:
        raise AcceleratorError(f"{where} refuses: {_short(error)}") from error


def _short(error: BaseException) -> str:
    """Return an error's words on one line, without what they begin with every time."""
    text = " ".join(str(error).split())
    _, _, after = text.partition("Failed to load delegate from ")
    return (after or text or type(error).__name__)[:300]


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


def dequantise(tensor: NDArray[Any], spec: TensorSpec) -> NDArray[np.float32]:
    """Return an output tensor as real numbers, float32 of the same shape."""
    if spec.scale == 0 or np.issubdtype(tensor.dtype, np.floating):
        return tensor.astype(np.float32)
    return ((tensor.astype(np.float32) - spec.zero_point) * spec.scale).astype(np.float32)

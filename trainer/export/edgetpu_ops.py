"""What the Edge TPU compiler maps, as data: Google's table "Supported operations".

Sources: https://coral.ai/docs/edgetpu/models-intro/#supported-operations (and "Model requirements"
on that page) for operators and their limits, for compiler 16 and runtime 14, the last ones. The
highest operator versions are those that TensorFlow 2.5 knows, on which libedgetpu of July 2021, the
compiler's twin, was built: TensorFlow's own tensorflow/lite/tools/versioning/runtime_version.cc.
Not in the table, but known from github.com/google-coral/edgetpu: what is said of large means (issue
461) and of half-pixel centres (issue 187).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from trainer.export.tflite_graph import Operator, Tensor

# Says what keeps an operator off the Edge TPU, or None.
Limit = Callable[[Operator], str | None]

SOFTMAX_LARGEST = 16_000
_INTEGERS = ("int8", "uint8")


@dataclass(frozen=True, slots=True)
class Supported:
    """A row of the table.

    version: the highest of the operator that the compiler can read. constants: which inputs must
    be known when compiling. limits: what else is asked. caution: what the table leaves open.
    """

    version: int
    constants: tuple[int, ...] = ()
    limits: tuple[Limit, ...] = ()
    caution: str = ""


def not_fused(operator: Operator) -> str | None:
    """Refuse a fused activation."""
    number = operator.options.get("fused_activation_function", 0)
    if number == schema.ActivationFunctionType.NONE:
        return None
    return f"a fused activation ({_ACTIVATIONS.get(number, number)}) is not supported"


def zero_padding(operator: Operator) -> str | None:
    """Refuse a concatenation with a constant, unless it appends zeros to one other tensor."""
    constants = [tensor for tensor in operator.inputs if tensor is not None and is_constant(tensor)]
    if not constants:
        return None
    zeros = all(np.all(_values(tensor) == _zero_point(tensor)) for tensor in constants)
    if len(operator.inputs) == 2 and len(constants) == 1 and zeros:
        return None
    return "a constant among the inputs, other than zeros appended to one tensor"


def same_dilation(operator: Operator) -> str | None:
    """Refuse dilations that differ."""
    height = operator.options.get("dilation_h_factor", 1)
    width = operator.options.get("dilation_w_factor", 1)
    return None if height == width else f"dilations {height} and {width} differ"


def default_weights(operator: Operator) -> str | None:
    """Refuse fully-connected weights in another format than the default one."""
    number = operator.options.get("weights_format", 0)
    default = schema.FullyConnectedOptionsWeightsFormat.DEFAULT
    return None if number == default else "weights are not in the default format"


def flat_output(operator: Operator) -> str | None:
    """Refuse an output with more than one dimension above 1."""
    shape = operator.outputs[0].shape or ()
    if sum(size > 1 for size in shape) <= 1:
        return None
    return f"the output {_by(shape)} is not one-dimensional"


def flat_and_small(operator: Operator) -> str | None:
    """Refuse a softmax over anything but one vector of at most 16 000."""
    shape = _shape(operator, 0)
    if sum(size > 1 for size in shape) > 1:
        return f"the input {_by(shape)} is not one-dimensional"
    if int(np.prod(shape)) > SOFTMAX_LARGEST:
        return f"{int(np.prod(shape))} elements, at most {SOFTMAX_LARGEST} are supported"
    return None


def keeps_batch(operator: Operator) -> str | None:
    """Refuse a reduction over the batch (the first of several dimensions)."""
    shape = _shape(operator, 0)
    if len(shape) > 1 and 0 in _axes(operator, 1, len(shape)):
        return "reduces over the batch dimension"
    return None


def depth_of_fours(operator: Operator) -> str | None:
    """Refuse a mean over a last dimension that is not a multiple of 4."""
    shape = _shape(operator, 0)
    if shape and len(shape) - 1 in _axes(operator, 1, len(shape)) and shape[-1] % 4:
        return f"a mean over {shape[-1]} channels, which is not a multiple of 4"
    return None


def packs_inside(operator: Operator) -> str | None:
    """Refuse packing along the batch dimension."""
    rank = len(operator.outputs[0].shape or ())
    axis = operator.options.get("axis", 0)
    return "packs along the batch dimension" if rank > 1 and axis in (0, -rank) else None


def pads_inside(operator: Operator) -> str | None:
    """Refuse padding of the batch dimension."""
    padding = _values(operator.inputs[1])
    return (
        "pads the batch dimension" if len(_shape(operator, 0)) > 1 and padding[:2].any() else None
    )


def splits_inside(operator: Operator) -> str | None:
    """Refuse splitting the batch dimension."""
    rank = len(_shape(operator, 1))
    return "splits the batch dimension" if rank > 1 and 0 in _axes(operator, 0, rank) else None


def flat_alpha(operator: Operator) -> str | None:
    """Refuse a PReLU whose alpha varies over more than the last dimension."""
    shape = _shape(operator, 1)
    if all(size == 1 for size in shape[:-1]):
        return None
    return f"alpha {_by(shape)} varies over more than the channels"


def single_strides(operator: Operator) -> str | None:
    """Refuse a strided slice with strides, an ellipsis or new axes."""
    strides = _values(operator.inputs[3])
    if (strides != 1).any():
        return f"strides {_by(tuple(strides.tolist()))} are not all 1"
    if operator.options.get("ellipsis_mask", 0) or operator.options.get("new_axis_mask", 0):
        return "an ellipsis or a new axis in the slice"
    return None


def is_constant(tensor: Tensor) -> bool:
    """Say whether a tensor is known when compiling."""
    return tensor.data is not None


def _values(tensor: Tensor | None) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return a constant's integers, flat; empty for anything else."""
    if tensor is None or tensor.data is None:
        return np.zeros(0, np.int64)
    dtype = np.dtype(tensor.dtype if tensor.dtype in (*_INTEGERS, "int32", "int64") else "uint8")
    whole = len(tensor.data) // dtype.itemsize * dtype.itemsize
    little = dtype.newbyteorder("<")
    return np.frombuffer(tensor.data[:whole].tobytes(), little).astype(np.int64)


def _axes(operator: Operator, position: int, rank: int) -> set[int]:
    return {int(axis) % rank for axis in _values(operator.inputs[position])}


def _shape(operator: Operator, position: int) -> tuple[int, ...]:
    tensor = operator.inputs[position]
    return () if tensor is None or tensor.shape is None else tensor.shape


def _zero_point(tensor: Tensor) -> int:
    return tensor.zero_points[0] if tensor.zero_points else 0


def _by(shape: tuple[int, ...]) -> str:
    return "×".join(str(size) for size in shape)


_ACTIVATIONS = {
    value: name
    for name, value in vars(schema.ActivationFunctionType).items()
    if isinstance(value, int)
}

_SIZE = "large ones are left on the CPU"
_RESIZED = (
    "depending on the sizes it is left on the CPU, to keep its precision; compilers before 16 "
    "refuse half-pixel centres"
)

SUPPORTED: Mapping[str, Supported] = {
    "ADD": Supported(3),
    "AVERAGE_POOL_2D": Supported(3, limits=(not_fused,)),
    "CONCATENATION": Supported(3, limits=(not_fused, zero_padding)),
    "CONV_2D": Supported(5, (1, 2), (same_dilation,)),
    "DEPTHWISE_CONV_2D": Supported(6, (1, 2), (same_dilation,)),
    "EXPAND_DIMS": Supported(1, (1,)),
    "FULLY_CONNECTED": Supported(9, (1, 2), (default_weights, flat_output)),
    "L2_NORMALIZATION": Supported(2),
    "LOGISTIC": Supported(3),
    "LSTM": Supported(4),
    "MAXIMUM": Supported(4),
    "MAX_POOL_2D": Supported(3, limits=(not_fused,)),
    "MEAN": Supported(3, (1,), (keeps_batch, depth_of_fours), _SIZE),
    "MINIMUM": Supported(4),
    "MUL": Supported(4),
    "PACK": Supported(3, limits=(packs_inside,)),
    "PAD": Supported(3, (1,), (pads_inside,)),
    "PRELU": Supported(1, (1,), (flat_alpha,)),
    "QUANTIZE": Supported(2),
    "REDUCE_MAX": Supported(3, (1,), (keeps_batch,)),
    "REDUCE_MIN": Supported(3, (1,), (keeps_batch,)),
    "RELU": Supported(3),
    "RELU6": Supported(3),
    "RELU_N1_TO_1": Supported(1),
    "RESHAPE": Supported(1, (1,), caution=_SIZE),
    "RESIZE_BILINEAR": Supported(4, (1,), caution=_RESIZED),
    "RESIZE_NEAREST_NEIGHBOR": Supported(4, (1,), caution=_RESIZED),
    "RSQRT": Supported(2),
    "SLICE": Supported(5, (1, 2)),
    "SOFTMAX": Supported(3, limits=(flat_and_small,)),
    "SPACE_TO_DEPTH": Supported(2),
    "SPLIT": Supported(4, (0,), (splits_inside,)),
    "SQUARED_DIFFERENCE": Supported(2),
    "SQUEEZE": Supported(2),
    "STRIDED_SLICE": Supported(5, (1, 2, 3), (single_strides,)),
    "SUB": Supported(5),
    "SUM": Supported(2, (1,), (keeps_batch,)),
    "TANH": Supported(3),
    "TRANSPOSE": Supported(5, (1,)),
    "TRANSPOSE_CONV": Supported(3, (0, 1)),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": Supported(3),
}

# Highest versions that the compiler can read of operators that it does not map.
READABLE: Mapping[str, int] = {
    "ABS": 3,
    "ARG_MAX": 2,
    "ARG_MIN": 2,
    "BATCH_MATMUL": 4,
    "BROADCAST_TO": 3,
    "CAST": 1,
    "DEPTH_TO_SPACE": 2,
    "DEQUANTIZE": 4,
    "DIV": 2,
    "GATHER": 5,
    "GATHER_ND": 3,
    "LEAKY_RELU": 2,
    "PADV2": 3,
    "SPLIT_V": 2,
    "TILE": 2,
    "TOPK_V2": 2,
    "UNPACK": 4,
}

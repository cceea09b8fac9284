"""What a TFLite file says of itself: operators, tensors, shapes, types, quantisation.

Read with the FlatBuffers schema that `ai-edge-litert` brings, without an interpreter: so also files
that no runtime here can run, such as those compiled for an Edge TPU.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers  # type: ignore[import-untyped]
from numpy.typing import NDArray

from edge.errors import UsageError

_IDENTIFIER = b"TFL3"
# What reading past the end, or reading something else's bytes, raises: there is no verifier.
_BROKEN = (
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A tensor of a graph. shape: () for a scalar, None when the file does not say.

    dynamic: a dimension other than the batch is known only at run time. scales, zero_points: one
    each for a tensor quantised as a whole, one a channel otherwise, none when it holds plain
    numbers. data: the bytes of a constant, uint8 (n,), None for what is computed. variable: keeps
    its value from one inference to the next.
    """

    index: int
    name: str
    shape: tuple[int, ...] | None
    dynamic: bool
    dtype: str
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    data: NDArray[np.uint8] | None
    variable: bool


@dataclass(frozen=True, slots=True, eq=False)
class Operator:
    """An operator. name: as in TFLite's schema; a custom operator's own name.

    version: of the operator's definition. inputs: None for an optional one that is not there.
    options: by the schema's names, such as `fused_activation_function`; enumerations as numbers.
    custom_options: a custom operator's own bytes.
    """

    name: str
    custom: bool
    version: int
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    options: Mapping[str, Any]
    custom_options: bytes

    def attributes(self) -> dict[str, Any]:
        """Return a custom operator's options as a FlexBuffers map; UsageError if they are none."""
        try:
            loaded = flexbuffers.Loads(self.custom_options)
        except _BROKEN as error:
            raise UsageError(f"{self.name}: its attributes cannot be read: {error}") from error
        if not isinstance(loaded, dict):
            raise UsageError(f"{self.name}: its attributes are not a table of names and values")
        return loaded


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """The main graph of a TFLite file, operators in the order in which they run."""

    operators: tuple[Operator, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def read_graph(data: bytes, where: str) -> Graph:
    """Return the main graph of a TFLite file; `where` names it in errors.

    Raises UsageError for bytes that are not a TFLite model, or a broken one.
    """
    if data[4:8] != _IDENTIFIER:
        raise UsageError(f"{where}: not a TFLite model")
    try:
        model: Any = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
        return _graph(model)
    except _BROKEN as error:
        reason = str(error) or type(error).__name__
        raise UsageError(
            f"{where}: a TFLite model that is truncated or damaged: {reason.splitlines()[0]}"
        ) from error


def _graph(model: Any) -> Graph:
    main = model.subgraphs[0]
    tensors = [_tensor(index, raw, model.buffers) for index, raw in enumerate(main.tensors)]

    def pick(rows: Any) -> tuple[Tensor, ...]:
        return tuple(tensors[_row(row, len(tensors))] for row in _numbers(rows))

    operators = []
    for raw in main.operators:
        code = model.operatorCodes[_row(raw.opcodeIndex, len(model.operatorCodes))]
        # Files from before 2020 have the code only in the older, narrower field.
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        custom = number == schema.BuiltinOperator.CUSTOM
        operators.append(
            Operator(
                name=_text(code.customCode) if custom else _NAMES.get(number, f"operator {number}"),
                custom=custom,
                version=int(code.version),
                inputs=tuple(
                    None if row < 0 else tensors[_row(row, len(tensors))]
                    for row in _numbers(raw.inputs)
                ),
                outputs=pick(raw.outputs),
                options=_options(raw.builtinOptions),
                custom_options=b"" if raw.customOptions is None else bytes(raw.customOptions),
            )
        )
    return Graph(tuple(operators), pick(main.inputs), pick(main.outputs))


def _tensor(index: int, raw: Any, buffers: Any) -> Tensor:
    shape = _numbers(raw.shape)
    signature = _numbers(raw.shapeSignature) or shape
    known = bool(shape) or bool(raw.hasRank)
    quantisation = raw.quantization
    data = buffers[_row(raw.buffer, len(buffers))].data
    return Tensor(
        index=index,
        name=_text(raw.name),
        shape=shape if known else None,
        dynamic=not known or min(signature[1:], default=0) < 0 or min(shape, default=0) < 0,
        dtype=_DTYPES.get(raw.type, f"type {raw.type}"),
        scales=() if quantisation is None else _floats(quantisation.scale),
        zero_points=() if quantisation is None else _numbers(quantisation.zeroPoint),
        data=None if data is None or not len(data) else np.asarray(data, np.uint8),
        variable=bool(raw.isVariable),
    )


def _row(row: Any, count: int) -> int:
    """Return an index into a table; Python's negative ones are a broken file's."""
    if not 0 <= int(row) < count:
        raise ValueError(f"refers to entry {row} of {count}")
    return int(row)


def _numbers(values: Any) -> tuple[int, ...]:
    return () if values is None else tuple(int(value) for value in values)


def _floats(values: Any) -> tuple[float, ...]:
    return () if values is None else tuple(float(value) for value in values)


def _text(raw: Any) -> str:
    if raw is None:
        return ""
    return raw.decode(errors="replace") if isinstance(raw, bytes) else str(raw)


def _options(raw: Any) -> dict[str, Any]:
    """Return an operator's options by the schema's own names."""
    if raw is None:
        return {}
    return {
        re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower(): value for name, value in vars(raw).items()
    }


def _enumeration(kind: Any) -> dict[int, str]:
    return {value: name for name, value in vars(kind).items() if isinstance(value, int)}


_NAMES = _enumeration(schema.BuiltinOperator)
_DTYPES = {value: name.lower() for value, name in _enumeration(schema.TensorType).items()}

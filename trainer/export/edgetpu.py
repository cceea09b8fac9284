"""Which operators of a TFLite model would run on a Coral Edge TPU, and why the others would not.

What the compiler would do, foretold from what Google documents (`edgetpu_ops`); only the compiler
knows. It compiles one part of a graph: "as soon as an unsupported operation occurs, that operation
and everything after it executes on the CPU" (https://coral.ai/docs/edgetpu/models-intro/), where
after means: depends on. The quantisation of a float input stays on the CPU and does not keep the
rest there (github.com/google-coral/edgetpu, issue 13).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from edge.errors import UsageError
from trainer.export.edgetpu_ops import READABLE, SUPPORTED, Supported, is_constant
from trainer.export.tflite_graph import Graph, Operator, Tensor

COMPILED_OPERATOR = "edgetpu-custom-op"
# Some 8 MB of memory, of which a model's own program takes a part first; the example in Google's
# documentation of the compiler has 6.91 MiB left for parameters.
# https://coral.ai/docs/edgetpu/compiler/#parameter-data-caching
SRAM_BYTES = 8 << 20
CACHE_BYTES = round(6.91 * (1 << 20))

_CACHED = ("int8", "uint8")
_DOWNSTREAM = "would be supported, but comes after an operator that stays on the CPU"
_PER_CHANNEL = (
    "weights have a scale for each channel, newer than the compiler: compare what the compiled "
    "file answers before trusting it"
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Where one operator runs. why: what keeps it on the CPU, empty when it is mapped.

    caution: what may still turn out otherwise. shape, dtype: of its first output.
    """

    name: str
    version: int
    shape: tuple[int, ...] | None
    dtype: str
    mapped: bool
    why: str
    caution: str


@dataclass(frozen=True, slots=True)
class EdgeTpuReport:
    """The verdict on every operator, in the order of the file.

    parameters_bytes: constants of the mapped operators, as they lie in the file; compiled, they are
    padded and take a little more.
    """

    operators: tuple[Verdict, ...]
    parameters_bytes: int

    @property
    def mapped(self) -> int:
        """How many operators would run on the Edge TPU."""
        return sum(operator.mapped for operator in self.operators)

    @property
    def fits(self) -> bool:
        """Whether the parameters would stay in the chip's memory from one inference to the next."""
        return self.parameters_bytes <= CACHE_BYTES

    def on_cpu(self) -> list[tuple[str, str, int]]:
        """Return (name, why, count) of the operators on the CPU, in the order of the file."""
        counts = Counter((row.name, row.why) for row in self.operators if not row.mapped)
        return [(name, why, count) for (name, why), count in counts.items()]

    def cautions(self) -> list[tuple[str, str, int]]:
        """Return (name, caution, count) of mapped operators of which it is not certain."""
        counts = Counter((row.name, row.caution) for row in self.operators if row.caution)
        return [(name, caution, count) for (name, caution), count in counts.items()]


def inspect(graph: Graph, where: str) -> EdgeTpuReport:
    """Return where every operator of a graph would run; `where` names it in errors.

    Raises UsageError for a graph that has been compiled already, or is empty.
    """
    if any(operator.name == COMPILED_OPERATOR for operator in graph.operators):
        raise UsageError(f"{where}: compiled for the Edge TPU already; name the plain file")
    if not graph.operators:
        raise UsageError(f"{where}: has no operators")
    reasons = [obstacle(operator) for operator in graph.operators]
    compiled = _compiled_part(graph, [reason is None for reason in reasons])
    verdicts = []
    parameters: dict[int, Tensor] = {}
    for row, (operator, reason) in enumerate(zip(graph.operators, reasons, strict=True)):
        mapped = row in compiled
        if mapped:
            parameters |= {tensor.index: tensor for tensor in _constants(operator)}
        output = operator.outputs[0] if operator.outputs else None
        verdicts.append(
            Verdict(
                name=operator.name,
                version=operator.version,
                shape=output.shape if output else None,
                dtype=output.dtype if output else "",
                mapped=mapped,
                why="" if mapped else reason or _DOWNSTREAM,
                caution=caution(operator) if mapped else "",
            )
        )
    size = sum(len(tensor.data) for tensor in parameters.values() if tensor.data is not None)
    return EdgeTpuReport(tuple(verdicts), size)


def obstacle(operator: Operator) -> str | None:
    """Return what keeps an operator off the Edge TPU for its own part, None if nothing does."""
    if operator.custom:
        return "a custom operator, always on the CPU"
    row = SUPPORTED.get(operator.name)
    known = READABLE.get(operator.name) if row is None else row.version
    if known is not None and operator.version > known:
        return (
            f"version {operator.version} is newer than the {known} that the compiler can read; it "
            "may refuse the whole file"
        )
    if row is None:
        return _tensor_obstacle(operator) or "not supported by the compiler"
    reason = _missing_constant(operator, row) or _tensor_obstacle(operator)
    for limit in row.limits:
        reason = reason or limit(operator)
    return reason


def caution(operator: Operator) -> str:
    """Return what is uncertain about an operator that is supported; empty when nothing is."""
    # The TFLite quantisation specification of the compiler's time has one scale for these weights.
    if operator.name == "FULLY_CONNECTED" and len(operator.inputs) > 1:
        weights = operator.inputs[1]
        if weights is not None and len(weights.scales) > 1:
            return _PER_CHANNEL
    row = SUPPORTED.get(operator.name)
    return row.caution if row else ""


def as_metrics(report: EdgeTpuReport, *, compiled: bool) -> dict[str, Any]:
    """Return a report as it stands in metrics files."""
    return {
        "mapped": report.mapped,
        "total": len(report.operators),
        "parameters_bytes": report.parameters_bytes,
        "compiled": compiled,
        "cpu_operators": [
            {"name": name, "why": why, "count": count} for name, why, count in report.on_cpu()
        ],
    }


def _tensor_obstacle(operator: Operator) -> str | None:
    """Ask of inputs and outputs what the documentation asks of all tensors."""
    given = [tensor for tensor in operator.inputs if tensor is not None]
    computed = [tensor for tensor in given if not is_constant(tensor) and not tensor.variable]
    for tensor in (*computed, *operator.outputs):
        if tensor.dtype not in _CACHED:
            return f"works on {tensor.dtype}, only int8 and uint8 are supported"
        if not tensor.scales:
            return f"{tensor.dtype} without a quantisation"
        if tensor.dynamic or tensor.shape is None:
            return "a tensor whose shape is known only at run time"
        outer = tensor.shape[:-3]
        if any(size != 1 for size in outer):
            if len(tensor.shape) == 4:
                return f"a batch of {outer[0]}, only 1 is supported"
            return f"{len(tensor.shape)} dimensions, of which only the last 3 may be above 1"
    for tensor in given:
        if is_constant(tensor) and tensor.dtype not in (*_CACHED, "int32", "int64"):
            return f"has a {tensor.dtype} parameter, only integers are supported"
    return None


def _missing_constant(operator: Operator, row: Supported) -> str | None:
    for position in row.constants:
        if position < len(operator.inputs):
            tensor = operator.inputs[position]
            if tensor is not None and not is_constant(tensor):
                return "weights or another parameter are not constant"
    return None


def _constants(operator: Operator) -> list[Tensor]:
    return [tensor for tensor in operator.inputs if tensor is not None and is_constant(tensor)]


def _compiled_part(graph: Graph, able: list[bool]) -> set[int]:
    """Return the rows of the operators that are compiled. able: each for its own part."""
    on_cpu: set[int] = set()  # tensors that depend on the CPU
    part: set[int] = set()
    for row, operator in enumerate(graph.operators):
        inputs = {tensor.index for tensor in operator.inputs if tensor is not None}
        if inputs & on_cpu or not (able[row] or _takes_float_input(operator, graph)):
            on_cpu |= {tensor.index for tensor in operator.outputs}
        elif able[row]:
            part.add(row)
    return part


def _takes_float_input(operator: Operator, graph: Graph) -> bool:
    """Say whether all an operator does is to quantise what a caller gives in float."""
    given = {tensor.index for tensor in graph.inputs}
    return operator.name == "QUANTIZE" and all(
        tensor is not None and tensor.index in given for tensor in operator.inputs
    )

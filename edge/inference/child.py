"""The inference child: runs models for the agent, which may kill it at any time.

An accelerator's driver can hang or crash for ever, and a thread that does cannot be ended. This
process imports little: its memory comes on top of the agent's.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from pathlib import Path

from edge.errors import AcceleratorError, BundleError, EarmarkError
from edge.inference.batching import BatchingModel, open_batching
from edge.inference.protocol import (
    MOST_IMAGES,
    Done,
    Failed,
    Invoke,
    Map,
    Open,
    Opened,
    Request,
    SpecMessage,
    TensorMemory,
    map_memory,
    receive,
    send,
)
from edge.vision.runtime import Delegate, Model, open_model


def main() -> None:
    """Serve the agent; arguments: descriptors of the socket and of the lifeline."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    threading.Thread(target=_live_with, args=(int(sys.argv[2]),), daemon=True).start()
    served: list[Served] = []
    while True:
        try:
            request, descriptors = receive(channel, Request)
        except (EOFError, ConnectionError):
            return
        try:
            reply = _answer(request, descriptors, served)
        except (EarmarkError, ValueError, RuntimeError, OSError) as error:
            known = error if isinstance(error, (AcceleratorError, BundleError)) else None
            name = type(known).__name__ if known else AcceleratorError.__name__
            reply = Failed(name, " ".join(str(error).split())[:2000])
        send(channel, reply)


class Served:
    """A model and the memory it is fed from, once that is mapped."""

    def __init__(self, model: Model, images: int) -> None:
        self.model, self.images = model, images
        self.memory: TensorMemory | None = None

    def map(self, descriptor: int) -> None:
        """Map the model's memory."""
        self.memory = map_memory(descriptor, self.model.input, self.model.outputs, self.images)
        os.close(descriptor)

    def invoke(self, count: int) -> None:
        """Run the model on the first `count` images in memory."""
        if self.memory is None or not 0 < count <= self.images:
            raise ValueError(f"{count} images cannot be asked for")
        outputs = self.model.invoke_many(self.memory.inputs[:count])
        for name, rows in outputs.items():
            self.memory.outputs[name][:count] = rows


def _answer(
    request: Request, descriptors: list[int], served: list[Served]
) -> Opened | Done | Failed:
    if isinstance(request, Open):
        (descriptor,) = descriptors
        try:
            model = _open(request, Path(f"/proc/self/fd/{descriptor}"))
        finally:
            os.close(descriptor)
        served.append(Served(model, MOST_IMAGES if request.many else 1))
        choices = model.choices if isinstance(model, BatchingModel) else ()
        return Opened(
            SpecMessage.of(model.input),
            tuple(SpecMessage.of(spec) for spec in model.outputs),
            model.backend,
            {str(choice.count): choice.way for choice in choices},
        )
    if isinstance(request, Map):
        served[request.model].map(descriptors[0])
    elif isinstance(request, Invoke):
        served[request.model].invoke(request.count)
    return Done()


def _open(request: Open, source: Path) -> Model:
    path = Path(request.path)
    if request.kind == "gpu":
        from edge.inference.gpu import CompiledModel

        return CompiledModel(path, source=source)
    delegate = None
    if request.library:
        delegate = Delegate(request.library, request.options, request.name)
    if request.many:
        return open_batching(path, request.threads, delegate, source)
    return open_model(path, request.threads, delegate, source)


def _live_with(lifeline: int) -> None:
    """End this process with the agent, where the kernel does not: see `edge.lifeline`.

    A driver that hangs may hold the interpreter's lock, and with it this thread.
    """
    while os.read(lifeline, 1):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()

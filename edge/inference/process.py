"""One inference child, as the agent sees it: started, asked, and killed when it does not answer."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

import edge
from edge.complaints import Complaints
from edge.errors import AcceleratorError, BundleError
from edge.inference.protocol import (
    MOST_IMAGES,
    Failed,
    Invoke,
    Map,
    Open,
    Opened,
    Reply,
    Request,
    TensorMemory,
    map_memory,
    memory_bytes,
    new_memory,
    receive,
    send,
)
from edge.lifeline import Lifeline

_MODULE = "edge.inference.child"
_ERRORS = {"BundleError": BundleError}


# A driver can hold its process in the kernel, where no signal reaches it.
_GONE_S = 3.0


class ChildLostError(Exception):
    """The child died, hangs or does not make sense; its text says which."""


class ChildHungError(ChildLostError):
    """The child does not answer."""


class InferenceChild:
    """A running child. Not thread-safe. answer_s: a reply that takes longer means that it hangs."""

    def __init__(self, answer_s: float) -> None:
        self.answer_s = answer_s
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lifeline = Lifeline()
        # The child must run the code that this process runs, wherever that lies.
        root = str(Path(edge.__file__).resolve().parent.parent)
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
        with theirs, self._lifeline.starting(), _blocked(signal.SIGTERM, signal.SIGINT):
            self._process = subprocess.Popen(
                [sys.executable, "-m", _MODULE, str(theirs.fileno()), str(self._lifeline.far_end)],
                pass_fds=(theirs.fileno(), self._lifeline.far_end),
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        self._lifeline.tie(self._process.pid)
        assert self._process.stderr is not None
        self._complaints = Complaints(self._process.stderr, "inference")

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def open(self, number: int, request: Open, file: int) -> tuple[Opened, TensorMemory]:
        """Load a model, the `number`th of this child, and map its memory.

        file: descriptor of the model's open file. Raises ChildLostError, and what `open_model`
        raises.
        """
        opened = self._ask(request, file)
        if not isinstance(opened, Opened):
            raise ChildLostError(f"the inference process answered {opened}")
        given, outputs = opened.input.spec(), tuple(spec.spec() for spec in opened.outputs)
        images = MOST_IMAGES if request.many else 1
        descriptor = new_memory(memory_bytes(given, outputs, images))
        try:
            memory = map_memory(descriptor, given, outputs, images)
            self._ask(Map(number), descriptor)
        finally:
            os.close(descriptor)
        return opened, memory

    def invoke(self, number: int, count: int) -> None:
        """Run a model on the first `count` images in its memory.

        Raises ChildLostError, and AcceleratorError when the model cannot be run.
        """
        self._ask(Invoke(number, count))

    def kill(self) -> None:
        """End the child at once; whatever waits for it hears of that, even if it cannot be ended.

        From any thread, and from a signal handler that interrupts any of these methods.
        """
        self._process.kill()
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the child and let go of what belongs to it."""
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GONE_S)
            self._complaints.close()
        self._channel.close()
        self._lifeline.close()

    def _ask(self, request: Request, *descriptors: int) -> Any:
        try:
            send(self._channel, request, *descriptors)
            if not select.select([self._channel], [], [], self.answer_s)[0]:
                raise ChildHungError(f"inference has not answered for {self.answer_s:g} s")
            reply, _ = receive(self._channel, Reply)
        except (EOFError, OSError) as error:
            raise ChildLostError(self._why_ended()) from error
        except msgspec.ValidationError as error:
            raise ChildLostError(f"the inference process answered nonsense: {error}") from error
        if isinstance(reply, Failed):
            raise _ERRORS.get(reply.error, AcceleratorError)(reply.text)
        return reply

    def _why_ended(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1.0)
        code = self._process.returncode
        if code is not None and code < 0:
            return f"the inference process was ended by signal {-code}"
        words = self._complaints.last
        return f"the inference process ended with code {code}" + (f": {words}" if words else "")


@contextlib.contextmanager
def _blocked(*signals: signal.Signals) -> Iterator[None]:
    """Keep signals from this thread, and for good from a process that it starts meanwhile.

    Service managers and terminals send them to all processes at once. They are for the agent, which
    has frames in hand and ends its child when it is done, from the child's first moment on.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

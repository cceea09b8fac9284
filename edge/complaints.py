"""The last words of a child process."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from typing import IO

_LINES = 3


class Complaints:
    """Reads a child's standard error to its end, in a thread, and keeps the last lines."""

    def __init__(self, pipe: IO[bytes], name: str) -> None:
        self._pipe = pipe
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._thread = threading.Thread(target=self._listen, name=f"{name} stderr", daemon=True)
        self._thread.start()

    @property
    def last(self) -> str:
        """The last line with words, empty for none; waits a moment for a child that ends."""
        self._thread.join(timeout=1.0)
        return self._lines[-1] if self._lines else ""

    def close(self) -> None:
        """Let go of the pipe; the child has ended."""
        self._thread.join(timeout=1.0)
        self._pipe.close()

    def _listen(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in self._pipe:
                text = line.decode(errors="replace").strip()
                if text:
                    self._lines.append(text)

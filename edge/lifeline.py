"""Child processes that end with this one, however it ends and whatever they are doing then."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Iterator


class Lifeline:
    """A pipe that nobody but this process holds open: when it ends, the kernel kills the child.

    It needs nothing of the child, which may hang with all its threads or be a foreign program. The
    usual way, PR_SET_PDEATHSIG, is bound to the thread that forked instead of to the process: a
    camera's thread that ends would take the inference of all other cameras with it.
    """

    def __init__(self) -> None:
        self.far_end, self._near_end = os.pipe()

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """Let go of the pipe when the block, which starts the child, fails."""
        try:
            yield
        except BaseException:
            os.close(self.far_end)
            os.close(self._near_end)
            raise

    def tie(self, pid: int) -> None:
        """Tie a child that was started with `far_end` among its descriptors. Once."""
        # Owner and signal are the pipe's own, so they outlast our descriptor of its far end.
        with contextlib.suppress(OSError):  # a kernel that cannot: children may outlive us there
            fcntl.fcntl(self.far_end, fcntl.F_SETOWN, pid)
            fcntl.fcntl(self.far_end, fcntl.F_SETSIG, signal.SIGKILL)
            flags = fcntl.fcntl(self.far_end, fcntl.F_GETFL)
            fcntl.fcntl(self.far_end, fcntl.F_SETFL, flags | os.O_ASYNC)
        os.close(self.far_end)

    def close(self) -> None:
        """Let go of the pipe: a child that is still there is killed."""
        os.close(self._near_end)

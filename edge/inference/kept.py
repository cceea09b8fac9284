"""Files as they were when a bundle was verified, whatever becomes of their names."""

from __future__ import annotations

import os
from pathlib import Path

from edge.errors import BundleError
from edge.files import sha256_file


class KeptFile:
    """An open file. path: its name, for words. sha256: of what it held when it was opened.

    A bundle that is replaced under a running agent has other class means, which nobody has read: a
    child that starts anew must get the models that belong to those in memory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self.descriptor = os.dup(file.fileno())
            self.sha256 = sha256_file(self.place)
        except OSError as error:
            raise BundleError(f"{path}: cannot be read: {error.strerror}") from error

    @property
    def place(self) -> Path:
        """Where this process reads it, even when its name is gone."""
        return Path(f"/proc/self/fd/{self.descriptor}")

    def check(self) -> None:
        """Raise BundleError when it was written over since it was opened."""
        try:
            same = sha256_file(self.place) == self.sha256
        except OSError:
            same = False
        if not same:
            raise BundleError(
                f"{self.path}: was written over while it was in use; replace bundles as whole "
                "folders, and start the agent anew"
            )

    def close(self) -> None:
        """Let go of it."""
        os.close(self.descriptor)

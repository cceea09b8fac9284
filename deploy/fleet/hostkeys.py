"""Whether a host is the one it was: known_hosts, as `ssh` keeps it, never blindly extended."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import asyncssh

from edge.errors import UsageError

DEFAULT = Path("~/.ssh/known_hosts")
_SSH_PORT = 22


class HostKeys:
    """One known_hosts file. accept_new: enter a host that is not in it yet, as `ssh` has it.

    A host whose key is another one than before is refused either way.
    """

    def __init__(self, path: Path, *, accept_new: bool = False) -> None:
        self.path = path
        self._accept_new = accept_new
        try:
            text = path.read_text(encoding="utf-8") if path.exists() else ""
            self._known = asyncssh.import_known_hosts(text)
        except (ValueError, OSError) as error:
            raise UsageError(f"{path}: cannot be read: {error}") from error

    def trusted(self, host: str, address: str, port: int | None) -> Sequence[Sequence[object]]:
        """Return what the file says of a host, as asyncssh asks for it. port: None for 22.

        Unlike asyncssh's own look-up, a line for the host's port 22 says nothing of other ports.
        """
        if port is None:
            return self._known.match(host, address, None)
        found: list[list[object]] = [[] for _ in range(7)]
        for name in dict.fromkeys((host, address)):
            for kind, keys in zip(
                found, self._known.match(_spelt(name, port), "", None), strict=True
            ):
                kind += keys
        return found

    def client(self) -> Client:
        """Return what decides about one connection's key."""
        return Client(self)

    def judge(self, host: str, address: str, port: int, key: asyncssh.SSHKey) -> bool | str:
        """Return True for a key that is entered now, or why it is not taken.

        Asked only for keys that are not among the trusted ones.
        """
        name = _spelt(host, port)
        known = self.trusted(host, address, None if port == _SSH_PORT else port)
        if key in known[0]:
            return True  # entered meanwhile: several devices may be under one host
        if known[0] or known[1]:
            return (
                f"the host's key is not the one in {self.path}: it was set up anew, or somebody "
                f"else answers; if you know why: ssh-keygen -f {self.path} -R '{name}'"
            )
        if not self._accept_new:
            return (
                f"the host's key is not in {self.path} ({key.get_fingerprint()}); compare it with "
                "the device's and use --accept-new"
            )
        self._enter(name, key)
        return True

    def _enter(self, name: str, key: asyncssh.SSHKey) -> None:
        line = f"{name} {key.export_public_key('openssh').decode().strip()}\n"
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        before = self.path.read_bytes() if self.path.exists() else b""
        if before and not before.endswith(b"\n"):
            line = "\n" + line
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(line)
        self._known.load(line)


class Client(asyncssh.SSHClient):
    """Asked by asyncssh about a key that is not trusted. refusal: why it was not taken."""

    def __init__(self, keys: HostKeys) -> None:
        self._keys = keys
        self.refusal = ""

    def validate_host_public_key(
        self, host: str, addr: str, port: int, key: asyncssh.SSHKey
    ) -> bool:
        """Take a host's first key where that is wanted."""
        verdict = self._keys.judge(host, addr, port, key)
        if verdict is True:
            return True
        self.refusal = str(verdict)
        return False


def _spelt(host: str, port: int) -> str:
    return host if port == _SSH_PORT else f"[{host}]:{port}"

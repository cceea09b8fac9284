"""One SSH connection to a device: commands, and SFTP; failures as one line."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import asyncssh

from deploy.fleet.hostkeys import DEFAULT, Client, HostKeys
from deploy.fleet.inventory import Device
from edge.errors import EarmarkError, UsageError
from edge.files import expanded

CONNECT_S = 20.0
COMMAND_S = 60.0
# A line that is cut without a word is noticed after this long.
_ALIVE_S, _ALIVE_COUNT = 15, 4
# No command of ours says more; a device that does is not one of ours.
_ANSWER_LIMIT = 4 * 1024 * 1024


class DeviceError(EarmarkError):
    """A device that cannot be reached, refuses us, or fails at what it was told."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command came to. out: its standard output; error: its last line of complaint."""

    code: int
    out: bytes
    error: str


class Session(Protocol):
    """A shell on a device."""

    async def run(
        self,
        arguments: Sequence[str],
        *,
        data: bytes = b"",
        timeout_s: float = COMMAND_S,
        held: bool = False,
    ) -> Answer:
        """Run a program and return what came of it; DeviceError when that cannot be known.

        data: its standard input, which then ends; with `held` it stays open until we go.
        """

    async def sftp(self) -> asyncssh.SFTPClient:
        """Return the connection's SFTP client."""


class SshSession:
    """An open connection; `where` names it in errors."""

    def __init__(self, connection: asyncssh.SSHClientConnection, where: str) -> None:
        self._connection = connection
        self._where = where
        self._sftp: asyncssh.SFTPClient | None = None

    async def run(
        self,
        arguments: Sequence[str],
        *,
        data: bytes = b"",
        timeout_s: float = COMMAND_S,
        held: bool = False,
    ) -> Answer:
        """Run a program, see `Session.run`."""
        command = shlex.join(arguments)
        try:
            process = await self._connection.create_process(command, encoding=None)
        except (asyncssh.Error, OSError) as error:
            raise in_words(self._where, error) from error
        try:
            async with asyncio.timeout(timeout_s):
                if data:
                    process.stdin.write(data)
                if not held:
                    process.stdin.write_eof()
                out, complaint = await asyncio.gather(process.stdout.read(), process.stderr.read())
                await process.wait_closed()
        except TimeoutError as error:
            raise DeviceError(
                f"{self._where}: {arguments[0]}: no end after {timeout_s:g} s"
            ) from error
        except (asyncssh.Error, OSError) as error:
            raise in_words(self._where, error) from error
        finally:
            process.close()
        if process.exit_status is None or process.exit_status < 0:
            raise DeviceError(f"{self._where}: the connection was lost while a command ran")
        return Answer(process.exit_status, _bytes(out), last_line(_bytes(complaint)))

    async def sftp(self) -> asyncssh.SFTPClient:
        """Return the connection's SFTP client; DeviceError where the host has none."""
        if self._sftp is None:
            try:
                self._sftp = await self._connection.start_sftp_client()
            except (asyncssh.Error, OSError) as error:
                raise in_words(self._where, error) from error
        return self._sftp


class Keyring:
    """The known_hosts files in use, each read once; connections are opened through it.

    known_hosts: of devices that name none. ssh_config: as `ssh -F`; without, the user's own.
    """

    def __init__(
        self,
        *,
        accept_new: bool = False,
        known_hosts: Path | None = None,
        ssh_config: Path | None = None,
    ) -> None:
        self._accept_new = accept_new
        self._default = known_hosts or expanded(str(DEFAULT))
        self._config = ssh_config
        self._read: dict[Path, HostKeys] = {}

    @asynccontextmanager
    async def connect(self, name: str, device: Device) -> AsyncIterator[SshSession]:
        """Yield a session on a device; jump hosts and the like are those of ~/.ssh/config.

        DeviceError says what is in the way, in one line.
        """
        path = Path(device.known_hosts) if device.known_hosts else self._default
        if path not in self._read:
            self._read[path] = HostKeys(path, accept_new=self._accept_new)
        where = f"{name} ({device.address})"
        async with await self._open(device, where, self._read[path]) as connection:
            yield SshSession(connection, where)

    async def _open(
        self, device: Device, where: str, keys: HostKeys
    ) -> asyncssh.SSHClientConnection:
        if device.key and not Path(device.key).is_file():
            raise UsageError(f"{device.key}: no such key; correct the inventory")
        judge = keys.client()

        def factory() -> Client:
            return judge

        options = {"config": [str(self._config)]} if self._config else {}
        if device.key:
            options |= {"client_keys": [device.key]}
        try:
            async with asyncio.timeout(CONNECT_S):
                return await asyncssh.connect(
                    device.host,
                    device.port,
                    username=device.user,
                    client_factory=factory,
                    known_hosts=keys.trusted,
                    # Nobody is there to type one.
                    password_auth=False,
                    kbdint_auth=False,
                    keepalive_interval=_ALIVE_S,
                    keepalive_count_max=_ALIVE_COUNT,
                    **options,
                )
        except asyncssh.KeyEncryptionError as error:
            raise UsageError(
                f"{device.key}: has a password; add it to an agent: ssh-add {device.key}"
            ) from error
        except asyncssh.KeyImportError as error:
            raise UsageError(f"{device.key}: not a private key ({error})") from error
        except asyncssh.HostKeyNotVerifiable as error:
            raise DeviceError(f"{where}: {judge.refusal or error}") from error
        except (asyncssh.Error, OSError, TimeoutError) as error:
            raise in_words(where, error) from error


def in_words(where: str, error: Exception) -> DeviceError:
    """Return the one-line error for what went wrong on the way to a device."""
    match error:
        case asyncssh.PermissionDenied():
            text = "refused the key; is it in the user's authorized_keys there?"
        case asyncssh.ConnectionLost() | ConnectionResetError() | BrokenPipeError():
            text = "the connection was lost; run it again, it goes on where it was"
        case asyncssh.SFTPError():
            text = f"SFTP: {error.reason}"
        case ConnectionRefusedError():
            text = "nothing listens there; is SSH enabled on it?"
        case TimeoutError():
            text = "no answer; is it on, and in this network?"
        case asyncssh.Error():
            text = error.reason or type(error).__name__
        case OSError():
            text = error.strerror or str(error) or type(error).__name__
        case _:
            text = str(error)
    return DeviceError(f"{where}: {' '.join(text.split())}")


def last_line(data: bytes) -> str:
    """Return the last words of a program, printable and short; empty when it said nothing."""
    lines = data[-_ANSWER_LIMIT:].decode(errors="replace").strip().splitlines()
    text = "".join(char for char in lines[-1] if char.isprintable()) if lines else ""
    return text if len(text) <= 300 else text[:299] + "…"


def _bytes(data: bytes | str | None) -> bytes:
    if isinstance(data, str):
        data = data.encode()
    data = data or b""
    if len(data) > _ANSWER_LIMIT:
        raise DeviceError(f"a command's answer of {len(data)} bytes is more than it can be")
    return data

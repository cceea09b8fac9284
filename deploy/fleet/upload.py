"""Files onto a device by SFTP: resumed where a cut connection left off, checked, then renamed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from deploy.fleet.pace import Pace
from deploy.fleet.ssh import DeviceError, Session, in_words

# So much is under way at a time. What lies before it has arrived when the connection is cut; within
# it there may be holes.
_LARGEST = 1 << 20
_SMALLEST = 16 << 10
# A slow card syncs and reads a file of some hundred megabytes in this time.
_CHECK_S = 600.0


@dataclass(frozen=True, slots=True)
class Upload:
    """One file to be sent. sha256: what it must have there, 64 hex digits; mode: as `chmod`."""

    source: Path
    target: str
    sha256: str
    size: int
    mode: int = 0o644


class Uploader:
    """Sends files over one session. told: called with the bytes that have arrived."""

    def __init__(
        self, session: Session, where: str, pace: Pace, told: Callable[[int], None]
    ) -> None:
        self._session = session
        self._where = where
        self._pace = pace
        self._told = told

    async def send(self, upload: Upload) -> int:
        """Bring one file there; return how many bytes were sent for it.

        The folder must be there. DeviceError when the connection is cut, or when what arrived is
        not what was sent; then what is there stays a `.part`, and the next call goes on from it.
        """
        part = f"{upload.target}.part"
        data = upload.source.read_bytes()
        if len(data) != upload.size or hashlib.sha256(data).hexdigest() != upload.sha256:
            raise DeviceError(f"{upload.source}: is damaged here; make it anew")
        try:
            sftp = await self._session.sftp()
            kept = await self._kept(sftp, part, data)
            self._told(kept)
            await self._append(sftp, part, data, kept, upload.mode)
        except (asyncssh.Error, OSError) as error:
            raise in_words(self._where, error) from error
        await self._finish(upload, part)
        return upload.size - kept

    async def _kept(self, sftp: asyncssh.SFTPClient, part: str, data: bytes) -> int:
        """Return how many bytes of `part` are the file's own first ones."""
        try:
            size = (await sftp.stat(part)).size or 0
        except asyncssh.SFTPNoSuchFile:
            return 0
        for length in dict.fromkeys((size, max(size - _LARGEST, 0))):
            if not 0 < length <= len(data):
                continue
            script = 'head -c "$2" -- "$1" | sha256sum'
            answer = await self._session.run(
                ["sh", "-c", script, "sh", part, str(length)], timeout_s=_CHECK_S
            )
            if answer.out.split()[:1] == [hashlib.sha256(data[:length]).hexdigest().encode()]:
                return length
        return 0

    async def _append(
        self, sftp: asyncssh.SFTPClient, part: str, data: bytes, kept: int, mode: int
    ) -> None:
        flags = asyncssh.FXF_WRITE | asyncssh.FXF_CREAT | (0 if kept else asyncssh.FXF_TRUNC)
        attributes = asyncssh.SFTPAttrs(permissions=mode)
        async with sftp.open(part, flags, attributes, encoding=None) as file:
            await file.truncate(kept)
            piece = self._pace.piece(_LARGEST, _SMALLEST)
            for start in range(kept, len(data), piece):
                chunk = data[start : start + piece]
                await self._pace.take(len(chunk))
                await file.write(chunk, start)
                self._told(len(chunk))
            await file.setstat(attributes)

    async def _finish(self, upload: Upload, part: str) -> None:
        script = (
            'set -e; sync -- "$1"; set -- "$@" "$(sha256sum <"$1")"; '
            'case "$4" in "$3"*) mv -f -- "$1" "$2";; *) rm -f -- "$1"; exit 9;; esac'
        )
        answer = await self._session.run(
            ["sh", "-c", script, "sh", part, upload.target, upload.sha256], timeout_s=_CHECK_S
        )
        if answer.code == 9:
            raise DeviceError(
                f"{self._where}: {upload.target}: arrived damaged; run it again, and check the "
                "device's disk"
            )
        if answer.code != 0:
            raise DeviceError(f"{self._where}: {upload.target}: {answer.error or 'not written'}")

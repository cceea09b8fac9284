"""Files onto a device by SFTP: resumed where a cut connection left off, checked, then renamed."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from deploy.fleet.pace import Pace
from deploy.fleet.ssh import DeviceError, Session, in_words

# So much is under way at a time. What lies before it has arrived when the connection is cut; within
# it there may be holes.
_LARGEST = 1 << 20
_SMALLEST = 16 << 10
# A slow card syncs and reads some hundred megabytes in this time.
_CHECK_S = 900.0
_PART = ".part"
_DAMAGED = 9
# Checks every `sha256 path` pair and syncs it, and only then puts all in their places, in order.
_FINISH = """
set -e
check() {
    while [ $# -gt 0 ]; do
        case "$(sha256sum <"$2.part")" in
        "$1 "*) sync -- "$2.part" ;;
        *) rm -f -- "$2.part"; echo "$2" >&2; exit 9 ;;
        esac
        shift 2
    done
}
check "$@"
while [ $# -gt 0 ]; do
    mv -f -- "$2.part" "$2"
    shift 2
done
"""


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

    async def send(self, uploads: Sequence[Upload]) -> int:
        """Bring files there; return how many bytes were sent for it.

        They take their places in their order, after all have arrived; the folders must be there.
        DeviceError when the connection is cut, or when what arrived is not what was sent; what has
        arrived stays as `.part`, and the next call goes on from it.
        """
        sent = 0
        try:
            sftp = await self._session.sftp()
            for upload in uploads:
                data = await asyncio.to_thread(_read, upload)
                part = f"{upload.target}{_PART}"
                kept = await self._kept(sftp, part, data)
                self._told(kept)
                await self._append(sftp, part, data, kept, upload.mode)
                sent += upload.size - kept
        except (asyncssh.Error, OSError) as error:
            raise in_words(self._where, error) from error
        if uploads:
            await self._finish(uploads)
        return sent

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

    async def _finish(self, uploads: Sequence[Upload]) -> None:
        pairs = [word for upload in uploads for word in (upload.sha256, upload.target)]
        answer = await self._session.run(["sh", "-c", _FINISH, "sh", *pairs], timeout_s=_CHECK_S)
        if answer.code == _DAMAGED:
            raise DeviceError(
                f"{self._where}: {answer.error}: arrived damaged; run it again, and check the "
                "device's disk"
            )
        if answer.code != 0:
            raise DeviceError(f"{self._where}: {answer.error or 'files cannot be written'}")


def _read(upload: Upload) -> bytes:
    """Return a file's content; DeviceError when it is not what it was."""
    data = upload.source.read_bytes()
    if len(data) != upload.size or hashlib.sha256(data).hexdigest() != upload.sha256:
        raise DeviceError(f"{upload.source}: is damaged here; make it anew")
    return data

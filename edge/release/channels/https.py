"""A repository on a web server, which may be slow, broken or somebody else's."""

from __future__ import annotations

import http.client
import io
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from edge.release.channels.channel import (
    CHUNK_BYTES,
    ChannelError,
    ChannelMissingError,
    OffsetIgnoredError,
    check_path,
)

CONNECT_S = 15.0
SILENCE_S = 30.0
# A barn's mobile link at its worst; slower than this on average is no download but a trap.
LEAST_BYTES_S = 256.0
_MISSING = (403, 404, 410)
_MAX_REGRETS_BYTES = 64 << 10
# What may come beside a file's content: answers before the answer, headers, frames of chunks.
_MAX_BESIDE_BYTES = 128 << 10
_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/(?:[0-9]{1,18}|\*)")


class HttpsChannel:
    """Files below a URL, by plain GETs with Range over one connection that is kept.

    No redirects, cookies or proxies. silence_s: the longest wait for the next byte, headers
    included. least_bytes_s: what must come on average once `silence_s` have been waited in all.
    """

    def __init__(
        self,
        url: str,
        scheme: str,
        host: str,
        port: int | None,
        path: str,
        ca_file: Path | None = None,
        *,
        silence_s: float = SILENCE_S,
        least_bytes_s: float = LEAST_BYTES_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = url
        self._secure = scheme == "https"
        self._host, self._port, self._prefix = host, port, path.rstrip("/")
        self._ca_file = ca_file
        self._pace = _Pace(silence_s, least_bytes_s, clock)
        self._kept: http.client.HTTPConnection | None = None

    def fetch(self, path: str, *, offset: int = 0, limit: int) -> Iterator[bytes]:
        """Yield a file's content, see `Channel.fetch`."""
        check_path(self.name, path)
        # Nobody else gets it while this goes on, and nobody at all if it does not end well.
        connection, self._kept = self._kept, None
        try:
            self._pace.most(_MAX_BESIDE_BYTES + 2 * limit)
            connection, response = self._ask(connection, path, offset)
            if response.status in _MISSING:
                connection = self._keep(connection, response, _MAX_REGRETS_BYTES)
                raise ChannelMissingError(f"{self.name}: has no {path}")
            self._check(response, path, offset)
            yield from _body(response, limit)
            connection = self._keep(connection, response, 1)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ChannelError(f"{self.name}: {path}: {_words(error)}") from error
        finally:
            if connection is not None:
                connection.close()

    def _ask(
        self, kept: http.client.HTTPConnection | None, path: str, offset: int
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        if kept is not None:
            try:
                return kept, self._request(kept, path, offset)
            except (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
                # The server has closed a connection that lay idle: that is no failure yet.
                kept.close()
        new = self._connect()
        try:
            return new, self._request(new, path, offset)
        except BaseException:
            new.close()
            raise

    def _request(
        self, connection: http.client.HTTPConnection, path: str, offset: int
    ) -> http.client.HTTPResponse:
        headers = {"User-Agent": "earmark", "Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        self._pace.begin()
        connection.request("GET", f"{self._prefix}/{path}", headers=headers)
        return connection.getresponse()

    def _check(self, response: http.client.HTTPResponse, path: str, offset: int) -> None:
        """Raise ChannelError for an answer that is not the file from `offset` on."""
        status = response.status
        if status == 416 or (status == 200 and offset):
            raise OffsetIgnoredError(f"{self.name}: {path}: sent from its beginning only")
        if status == 206:
            found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if found is None or int(found[1]) != offset:
                raise OffsetIgnoredError(
                    f"{self.name}: {path}: another part came than was asked for"
                )
        elif status != 200:
            raise ChannelError(f"{self.name}: {path}: the server answered {status}")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise ChannelError(f"{self.name}: {path}: came compressed; serve files as they are")

    def _keep(
        self,
        connection: http.client.HTTPConnection | None,
        response: http.client.HTTPResponse,
        least: int,
    ) -> http.client.HTTPConnection | None:
        """Keep a connection if less than `least` bytes were still to come, else return it."""
        if len(response.read(least)) == least:
            return connection
        self._kept = connection
        return None

    def _connect(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection
        if self._secure:
            trusted = ssl.create_default_context(cafile=self._ca_file)
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=CONNECT_S, context=trusted
            )
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=CONNECT_S)
        pace = self._pace

        def response(sock: Any, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:
            return http.client.HTTPResponse(_Paced(sock, pace), *args, **kwargs)  # type: ignore[arg-type]

        connection.response_class = response  # type: ignore[assignment]
        connection.connect()
        return connection


def _body(response: http.client.HTTPResponse, limit: int) -> Iterator[bytes]:
    while limit > 0 and (chunk := response.read1(min(limit, CHUNK_BYTES))):
        limit -= len(chunk)
        yield chunk
    if limit > 0 and response.length:
        raise http.client.IncompleteRead(b"", response.length)


class _Pace:
    """How long the other side has let us wait for one answer, and for how many bytes.

    Nothing is waited for any more, and nothing read, once more has come than `most` allows: a
    server can send `100 Continue`, or what follows the last chunk, without an end.
    """

    def __init__(self, silence_s: float, least_bytes_s: float, clock: Callable[[], float]) -> None:
        self._silence_s, self._least_bytes_s, self._clock = silence_s, least_bytes_s, clock
        self._waited_s, self._bytes, self._most = 0.0, 0, 0

    def most(self, count: int) -> None:
        """Let so many bytes come for one answer."""
        self._most = count

    def begin(self) -> None:
        self._waited_s, self._bytes = 0.0, 0

    def read(self, sock: socket.socket, buffer: Any) -> int:
        if self._bytes > self._most:
            raise http.client.HTTPException("no end of it")
        # Only the waiting counts: whoever reads slowly on purpose is not the server's fault.
        left_s = self._silence_s + self._bytes / self._least_bytes_s - self._waited_s
        if left_s <= 0:
            raise TimeoutError
        sock.settimeout(min(left_s, self._silence_s))
        began = self._clock()
        count = sock.recv_into(buffer)
        self._waited_s += self._clock() - began
        self._bytes += count
        return count


class _Paced:
    """Stands in for a socket where an answer is read."""

    def __init__(self, sock: socket.socket, pace: _Pace) -> None:
        self._sock, self._pace = sock, pace

    def makefile(self, mode: Literal["rb"]) -> io.BufferedReader:
        # A real file of the socket is kept along, for it is what keeps the socket open.
        return io.BufferedReader(_Stream(self._sock, self._sock.makefile(mode), self._pace))


class _Stream(io.RawIOBase):
    def __init__(self, sock: socket.socket, keeper: io.IOBase, pace: _Pace) -> None:
        super().__init__()
        self._sock, self._keeper, self._pace = sock, keeper, pace

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._pace.read(self._sock, buffer)

    def close(self) -> None:
        self._keeper.close()
        super().close()


def _words(error: BaseException) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return (
                f"its certificate is not accepted ({error.verify_message}); check updates.ca_file "
                "and this machine's clock"
            )
        case TimeoutError():
            return "too slow, or silent for too long"
        case ConnectionRefusedError():
            return "nobody listens there"
        case http.client.IncompleteRead() | ConnectionError():
            return "the connection broke off"
        case socket.gaierror():
            return "there is no such host, or no network"
        case OSError():
            return error.strerror or str(error)
    return f"not a proper answer ({type(error).__name__})"

"""A real web server on loopback that serves a repository, well or badly."""

from __future__ import annotations

import re
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Behaviour = Callable[["Handler", bytes], None]


class Web:
    """Serves `files`; `asked` are the paths and ranges, `connections` how many there were.

    bad: what to do instead of serving a file, by the end of its path.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = files
        self.asked: list[tuple[str, str | None]] = []
        self.connections = 0
        self.sent_bytes = 0
        self.bad: dict[str, Behaviour] = {}
        self.over = threading.Event()
        self.server = _Server(("127.0.0.1", 0), Handler)
        self.server.web = self  # type: ignore[attr-defined]
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/repo"

    def secure(self, context: ssl.SSLContext) -> None:
        """Speak TLS."""
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.port}/repo"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients hang up here."""


class Handler(BaseHTTPRequestHandler):
    """Answers GETs, over connections that are kept."""

    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.web.connections += 1

    def do_GET(self) -> None:
        path = self.path.removeprefix("/repo/")
        self.web.asked.append((path, self.headers.get("Range")))
        data = self.web.files.get(path)
        for end, act in self.web.bad.items():
            if path.endswith(end):
                with suppress(OSError):
                    act(self, data or b"")
                return
        if data is None:
            self.answer(404, b"nothing here")
            return
        start = re.fullmatch(r"bytes=([0-9]+)-", self.headers.get("Range") or "")
        if start is None:
            self.answer(200, data)
        else:
            self.part(data, int(start[1]))

    def part(self, data: bytes, start: int) -> None:
        """Send a file's end."""
        last = len(data) - 1
        self.answer(206, data[start:], {"Content-Range": f"bytes {start}-{last}/{len(data)}"})

    def answer(self, status: int, body: bytes, headers: Mapping[str, str] = {}) -> None:
        """Send an answer, its length first."""
        self.begin(status, {"Content-Length": str(len(body)), **headers})
        self.send(body)

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the head of an answer."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def send(self, data: bytes) -> None:
        """Send some of the body."""
        self.wfile.write(data)
        self.web.sent_bytes += len(data)

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    @property
    def web(self) -> Web:
        """The server."""
        return self.server.web  # type: ignore[attr-defined, no-any-return]


def ignores_ranges(handler: Handler, data: bytes) -> None:
    """Send everything, whatever was asked for."""
    handler.answer(200, data)


def breaks_off(handler: Handler, data: bytes) -> None:
    """Promise the rest of the file, and send half of it."""
    start = int((handler.headers.get("Range") or "bytes=0-")[6:-1])
    rest = data[start:]
    headers = {"Content-Length": str(len(rest))}
    if start:
        headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
    handler.begin(206 if start else 200, headers)
    handler.send(rest[: (len(rest) + 1) // 2])
    handler.close_connection = True


def says_less(handler: Handler, data: bytes) -> None:
    """Send half of a file, as if that were all."""
    handler.answer(200, data[: len(data) // 2])


def is_endless(handler: Handler, data: bytes) -> None:
    """Send without an end."""
    handler.close_connection = True
    handler.begin(200, {"Connection": "close"})
    handler.send(data)
    while not handler.web.over.is_set():
        handler.send(b"x" * 65536)


def continues_for_ever(handler: Handler, data: bytes) -> None:
    """Announce an answer, again and again, and never give it."""
    handler.close_connection = True
    while not handler.web.over.is_set():
        handler.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)


def trails_for_ever(handler: Handler, data: bytes) -> None:
    """Send what may follow the last chunk without an end."""
    handler.close_connection = True
    handler.begin(200, {"Transfer-Encoding": "chunked"})
    handler.send(b"1\r\nx\r\n0\r\n")
    while not handler.web.over.is_set():
        handler.send(b"X: y\r\n" * 1000)


def is_endless_in_chunks(handler: Handler, data: bytes) -> None:
    """Send without an end, in HTTP's chunks."""
    handler.close_connection = True
    handler.begin(200, {"Transfer-Encoding": "chunked"})
    while not handler.web.over.is_set():
        handler.send(b"1000\r\n" + b"x" * 0x1000 + b"\r\n")


def is_silent(handler: Handler, data: bytes) -> None:
    """Take the question and say nothing."""
    handler.web.over.wait()


def stops_midway(handler: Handler, data: bytes) -> None:
    """Send a little, then nothing, and keep the connection."""
    handler.begin(200, {"Content-Length": str(len(data))})
    handler.send(data[:10])
    handler.web.over.wait()


def drips(handler: Handler, data: bytes) -> None:
    """Send a byte now and then."""
    handler.begin(200, {"Content-Length": str(len(data))})
    _drip(handler, data)


def drips_headers(handler: Handler, data: bytes) -> None:
    """Send headers that never end, a byte now and then."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    _drip(handler, b"x" * 100_000)


def _drip(handler: Handler, data: bytes) -> None:
    for byte in data:
        if handler.web.over.wait(0.02):
            return
        handler.send(bytes([byte]))


def sends_other(handler: Handler, data: bytes) -> None:
    """Send as many bytes, but others."""
    handler.answer(200, b"y" * len(data))


def sends_another_part(handler: Handler, data: bytes) -> None:
    """Send a part that nobody asked for."""
    handler.part(data, 1)


def is_compressed(handler: Handler, data: bytes) -> None:
    """Send something compressed, as overeager proxies do."""
    handler.answer(200, data, {"Content-Encoding": "gzip"})


def speaks_something_else(handler: Handler, data: bytes) -> None:
    """Be no web server at all."""
    handler.wfile.write(b"220 smtp.example.com ESMTP\r\n")
    handler.close_connection = True


def sends_elsewhere(handler: Handler, data: bytes) -> None:
    """Redirect."""
    handler.answer(302, b"", {"Location": "http://169.254.169.254/latest/meta-data"})


def is_broken(handler: Handler, data: bytes) -> None:
    """Fail."""
    handler.answer(500, b"oops")


def regrets_for_ever(handler: Handler, data: bytes) -> None:
    """Have no such file, and a lot to say about it."""
    handler.close_connection = True
    handler.begin(404, {"Connection": "close"})
    while not handler.web.over.is_set():
        handler.send(b"sorry" * 1000)


def regrets_slowly(handler: Handler, data: bytes) -> None:
    """Have no such file, and never come to the end of saying so."""
    handler.begin(404, {"Content-Length": "1000"})
    handler.web.over.wait()


def hangs_up_afterwards(handler: Handler, data: bytes) -> None:
    """Answer well, and close the connection without saying so."""
    handler.answer(200, data)
    handler.close_connection = True


@contextmanager
def serving(files: Mapping[str, bytes], context: ssl.SSLContext | None = None) -> Iterator[Web]:
    """Yield a web server that serves files by their paths in the repository."""
    web = Web(files)
    if context is not None:
        web.secure(context)
    thread = threading.Thread(target=web.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield web
    finally:
        web.over.set()
        web.server.shutdown()
        web.server.server_close()
        thread.join()

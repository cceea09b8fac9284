"""`/healthz` and `/metrics`, for whoever watches over the device; on the loopback by default."""

from __future__ import annotations

import errno
import ipaddress
import json
import logging
import socket
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from edge.errors import EarmarkError, UsageError
from edge.health.pulse import Condition

LOG = logging.getLogger("earmark.health")
_TIMEOUT_S = 5.0


def parse_listen(text: str, *, remote: bool) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`; UsageError for an address that cannot be.

    remote: whether it may be another one than the loopback's: neither page asks for a password.
    """
    host, mark, port = text.rpartition(":")
    host = host.strip("[]")
    if not mark or not host or not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise UsageError(f"health.listen {text!r}: write HOST:PORT, such as 127.0.0.1:9110")
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError as error:
        raise UsageError(
            f"health.listen {text!r}: give an IP address, such as 127.0.0.1:9110"
        ) from error
    if not loopback and not remote:
        raise UsageError(
            f"health.listen {text!r}: anybody there could read it; set health.allow_remote as well"
        )
    return host, int(port)


class HealthServer:
    """Serves the two pages from threads of its own until closed.

    condition, metrics: asked for every request. UsageError by `metrics`, such as for a library that
    is not installed, is a 501; another EarmarkError passes, and is a 503.
    """

    def __init__(
        self,
        address: tuple[str, int],
        condition: Callable[[], Condition],
        metrics: Callable[[], bytes],
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = _TIMEOUT_S
            server_version = "earmark"
            sys_version = ""

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/healthz":
                    found = condition()
                    body = {"problems": found.problems, "warnings": found.warnings}
                    status = "ok" if found.well else "unwell"
                    data = json.dumps({"status": status, **body}).encode() + b"\n"
                    self._answer(200 if found.well else 503, "application/json", data)
                elif path == "/metrics":
                    try:
                        self._answer(200, "text/plain; version=0.0.4; charset=utf-8", metrics())
                    except EarmarkError as error:
                        code = 501 if isinstance(error, UsageError) else 503
                        self._answer(code, "text/plain", f"{error}\n".encode())
                else:
                    self._answer(404, "text/plain", b"/healthz or /metrics\n")

            def _answer(self, code: int, kind: str, data: bytes) -> None:
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *arguments: object) -> None:
                LOG.debug(format, *arguments)

        class Server(ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                # The library prints a traceback where a log was promised.
                if isinstance(sys.exception(), OSError):
                    LOG.debug("%s hung up", client_address, exc_info=True)
                else:
                    LOG.exception("a page for %s", client_address)

        try:
            self._server = Server(address, Handler)
        except OSError as error:
            hint = "; another agent?" if error.errno == errno.EADDRINUSE else ""
            raise UsageError(
                f"health.listen {address[0]}:{address[1]}: {error.strerror}{hint}"
            ) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="health", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

"""Where the broker is, how to log in, and what goes wrong on the way there, each in one line."""

from __future__ import annotations

import os
import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from paho.mqtt.client import WebsocketConnectionError

from edge.errors import BrokerError, UsageError

PASSWORD_VARIABLE = "EARMARK_MQTT_PASSWORD"
_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
_WRITE = "write mqtt://HOST[:PORT], mqtts:// for TLS, or ws://HOST[:PORT]/PATH, wss:// for TLS"


class BrokerRefused(BrokerError):  # noqa: N818 - the name says which error it is
    """The broker answers and says no: credentials, authorisation, protocol, certificate."""


class BrokerUnreachable(BrokerError):  # noqa: N818
    """Nothing answers there, or the connection broke."""


# OpenSSL: X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED.
_NOT_NOW = frozenset({9, 10})
_HUNG_UP = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)


@dataclass(frozen=True, slots=True)
class BrokerOptions:
    """How to reach a broker. UsageError when the options cannot be.

    url: `mqtt://host[:1883]`, or `mqtts://host[:8883]` for TLS; `ws://host[:80]/path` or
    `wss://host[:443]/path` for MQTT over websockets, which passes where only the web does.
    Credentials have their own options and are refused in the URL, because URLs end up in logs.
    ca_file, cert_file, key_file: PEM; without ca_file the system's authorities are trusted.
    keepalive_s: seconds after which either side notices that the other is gone.
    """

    url: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    keepalive_s: int = 60
    host: str = field(init=False, default="")
    port: int = field(init=False, default=0)
    path: str = field(init=False, default="")

    def __post_init__(self) -> None:
        host, port, path = _host_port_path(self.url)
        object.__setattr__(self, "host", host)
        object.__setattr__(self, "port", port)
        object.__setattr__(self, "path", path)
        if self.password is not None and self.username is None:
            raise UsageError("broker: a password without a user name; give both")
        if not 5 <= self.keepalive_s <= 65535:
            raise UsageError(f"broker: keep-alive of {self.keepalive_s} s; give 5 to 65535")
        if not self.tls and (self.ca_file or self.cert_file or self.key_file):
            raise UsageError(f"broker {self.url}: certificates need TLS; write mqtts:// or wss://")
        if self.key_file and not self.cert_file:
            raise UsageError("broker: a client key without its certificate; give both")

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.url.lower().startswith(("mqtts:", "wss:"))

    @property
    def websockets(self) -> bool:
        """Whether MQTT goes through websockets."""
        return self.url.lower().startswith(("ws:", "wss:"))

    @property
    def address(self) -> str:
        """`host:port`, for messages."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def tls_context(self) -> ssl.SSLContext | None:
        """Return the TLS settings, None without TLS; UsageError names a file that is no use."""
        if not self.tls:
            return None
        for path in (self.ca_file, self.cert_file, self.key_file):
            if path is not None and not path.is_file():
                raise UsageError(f"{path}: no such file; correct the broker's certificate options")
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except ssl.SSLError as error:
            raise UsageError(f"{self.ca_file}: not a PEM certificate ({error.reason})") from error
        if self.cert_file is not None:
            try:
                context.load_cert_chain(self.cert_file, self.key_file, password="")
            except ssl.SSLError as error:
                raise UsageError(
                    f"{self.cert_file}: certificate and key cannot be used ({error.reason})"
                ) from error
        return context


def read_password(path: Path | None) -> str | None:
    """Return the password in a file, else that of the environment, else None.

    UsageError for a file that cannot be read or is empty.
    """
    if path is None:
        return os.environ.get(PASSWORD_VARIABLE) or None
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: password file cannot be read") from error
    if not lines or not lines[0]:
        raise UsageError(f"{path}: empty; put the password on its first line")
    return lines[0]


def connect_failure(broker: BrokerOptions, error: Exception) -> BrokerError:
    """Return the one-line error for an exception met while connecting."""
    where = f"broker {broker.address}"
    if isinstance(error, ssl.SSLCertVerificationError):
        if getattr(error, "verify_code", None) in _NOT_NOW:
            # A device without a clock chip wakes up years ago; its cameras go on meanwhile.
            return BrokerUnreachable(
                f"{where}: {error.verify_message}; check this machine's clock, or renew the "
                "broker's certificate"
            )
        return BrokerRefused(
            f"{where}: its certificate is not trusted ({error.verify_message}); give the CA that "
            "signed it, and check this machine's clock"
        )
    if isinstance(error, _HUNG_UP):
        # Proxies do so while the broker behind them is not up yet.
        return BrokerUnreachable(
            f"{where}: hung up in the TLS handshake; is the broker up, and is this its TLS port?"
        )
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "reason", None) or "handshake failed"
        return BrokerRefused(f"{where}: no TLS ({reason}); is this its TLS port?")
    if isinstance(error, socket.gaierror | UnicodeError):
        return BrokerUnreachable(f"{where}: host not found; check the name and the network")
    if isinstance(error, ConnectionRefusedError):
        return BrokerUnreachable(
            f"{where}: nothing listens there; start the broker or correct the address"
        )
    if isinstance(error, TimeoutError):
        return BrokerUnreachable(f"{where}: no answer; check the address, network and firewall")
    if isinstance(error, WebsocketConnectionError):
        return BrokerUnreachable(
            f"{where}: no websocket at {broker.path}; are port and path right?"
        )
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return BrokerUnreachable(f"{where}: {reason}; check the address and the network")


def hung_up(broker: BrokerOptions, wanted: str = "MQTT") -> str:
    """Return in one line what may be wrong when a broker ends a connection before its CONNACK.

    In TLS 1.3 that is also how a client hears that its certificate is refused. wanted: what the
    broker must speak.
    """
    said = f"broker {broker.address}: hung up without an answer"
    if not broker.tls:
        return f"{said}; is an {wanted} broker listening there, and does it want mqtts://?"
    if broker.cert_file is None:
        return f"{said}; does it want a client certificate? Is an {wanted} broker listening there?"
    return (
        f"{said}; is {broker.cert_file} expired, revoked, or of another authority? The broker's "
        "log says so"
    )


def refusal(broker: BrokerOptions, code: int, reason: str) -> BrokerError:
    """Return the one-line error for a CONNACK's or DISCONNECT's reason code (MQTT 5 numbers)."""
    where = f"broker {broker.address}"
    login = f"as {broker.username!r}" if broker.username is not None else "without a user name"
    match code:
        case 0x86 | 0x8C:
            return BrokerRefused(f"{where}: refused the login {login}; check user and password")
        case 0x87 | 0x8A:
            return BrokerRefused(
                f"{where}: not authorised {login}; check user, password and the broker's rules"
            )
        case 0x85:
            return BrokerRefused(f"{where}: refused the client id; allow the device's id there")
        case 0x8E:
            return BrokerRefused(
                f"{where}: another client has taken over this device's id; give each its own"
            )
        case 0x8D:
            return BrokerUnreachable(
                f"{where}: heard nothing from us for too long; is the line good?"
            )
        case 0x95:
            return BrokerRefused(
                f"{where}: hung up on a message that is too large; raise its largest packet size"
            )
        case 0x93 | 0x96 | 0x97 | 0x9F:
            return BrokerUnreachable(
                f"{where}: too much for it ({reason.lower()}); lower drain_per_s"
            )
        case 0x88 | 0x89 | 0x8B | 0x98 | 0x9C | 0x9D | 0xA0:
            # Busy, shutting down, administrative, moved, connection time over.
            return BrokerUnreachable(f"{where}: {reason.lower()}; tried again later")
        case _:
            return BrokerRefused(f"{where}: refused ({reason}); see the broker's log")


def _host_port_path(url: str) -> tuple[str, int, str]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"broker: not a URL; {_WRITE}") from error
    if parts.username is not None or parts.password is not None:
        raise UsageError("broker: credentials in the URL; give user name and password separately")
    if parts.scheme not in _PORTS or not host:
        raise UsageError(f"broker {url!r}: {_WRITE}")
    web = parts.scheme.startswith("ws")
    if parts.query or parts.fragment or (parts.path not in ("", "/") and not web):
        raise UsageError(f"broker {url!r}: nothing may follow the port; {_WRITE}")
    if not parts.path.isascii() or any(ord(c) <= ord(" ") for c in parts.path):
        raise UsageError(f"broker {url!r}: the path has letters that need %-encoding")
    if port == 0:
        raise UsageError(f"broker {url!r}: port 0 cannot be; give 1 to 65535")
    # What most brokers listen on; mosquitto takes any.
    path = parts.path if parts.path not in ("", "/") else "/mqtt"
    return host, port or _PORTS[parts.scheme], path if web else ""

"""A throw-away broker on this machine's loopback, for the demo and for tests.

Debian's `mosquitto` as a child process when it is installed, else the embedded `amqtt` (pure
Python, MQTT 3.1.1 only) in a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import importlib.util
import logging
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from edge.errors import BrokerError

_HOST = "127.0.0.1"
_START_S = 10.0
_STOP_S = 5.0
_ATTEMPTS = 3
# Debian installs daemons outside of most users' PATH.
_SYSTEM_PATHS = ("/usr/sbin", "/usr/local/sbin", "/sbin", "/opt/homebrew/sbin")

Kind = Literal["mosquitto", "amqtt"]


class LocalBroker(NamedTuple):
    """Where the broker listens, `mqtt://127.0.0.1:PORT`, and what it is, `mosquitto 2.0.11`."""

    url: str
    name: str


@contextmanager
def local_broker(kind: Kind | None = None) -> Iterator[LocalBroker]:
    """Run a broker while the block runs; `kind` None takes the best there is.

    BrokerError when there is none or it does not start.
    """
    if kind is None:
        kind = "mosquitto" if find_mosquitto() else "amqtt"
    if kind == "mosquitto":
        with Mosquitto() as mosquitto:
            yield LocalBroker(mosquitto.url, mosquitto.name)
    else:
        with _amqtt() as url:
            yield LocalBroker(url, f"amqtt {importlib.metadata.version('amqtt')}")


def find_mosquitto() -> str | None:
    """Return the path of the `mosquitto` daemon, None when it is not installed."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *_SYSTEM_PATHS])
    return shutil.which("mosquitto", path=path)


class Mosquitto:
    """A mosquitto process with a configuration of its own; starts on entering, ends on leaving.

    config: lines added to its configuration file. anonymous: whether anybody may log in.
    """

    def __init__(self, config: Sequence[str] = (), *, anonymous: bool = True) -> None:
        self.port = 0
        self._config = [
            f"allow_anonymous {'true' if anonymous else 'false'}",
            # Started by root it would become another user, who may not read our files.
            *(["user root"] if os.geteuid() == 0 else []),
            *(
                []
                if any(line.startswith("persistence ") for line in config)
                else ["persistence false"]
            ),
            "log_dest stderr",
            *config,
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="earmark-mosquitto-")

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"mqtt://{_HOST}:{self.port}"

    @property
    def name(self) -> str:
        """`mosquitto` with its version."""
        path = self._executable()
        # `mosquitto -h` prints the version first, and ends with 3 in some versions.
        text = subprocess.run([path, "-h"], capture_output=True, check=False).stdout.decode()
        return " ".join(text.split()[:1] + text.split()[2:3]) or "mosquitto"

    def start(self) -> None:
        """Start and wait until it listens; on the same port again after `stop`."""
        for _ in range(_ATTEMPTS):
            port = self.port or free_port()
            if self._try_start(port):
                self.port = port
                return
        raise BrokerError(f"{self._executable()}: does not start: {self._last_words()}")

    def stop(self) -> None:
        """End it gracefully, or by force after 5 s."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def __enter__(self) -> Mosquitto:
        try:
            self.start()
        except BaseException:
            self._folder.cleanup()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
        self._folder.cleanup()

    def _try_start(self, port: int) -> bool:
        config = Path(self._folder.name) / "mosquitto.conf"
        config.write_text("\n".join([f"listener {port} {_HOST}", *self._config]) + "\n")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [self._executable(), "-c", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C at the terminal is for the agent, which still has events to deliver.
                start_new_session=True,
            )
        begin = time.monotonic()
        while time.monotonic() < begin + _START_S and self._process.poll() is None:
            # Somebody else may have taken the port meanwhile: mosquitto's own word counts, or,
            # for versions that do not give it, that it is still there after a second.
            settled = b" running" in self._log.read_bytes() or time.monotonic() > begin + 1
            if settled and listens(port):
                return True
            time.sleep(0.01)
        self.stop()
        return False

    @property
    def _log(self) -> Path:
        return Path(self._folder.name) / "mosquitto.log"

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines() or ["no message"]
        return lines[-1]

    @staticmethod
    def _executable() -> str:
        path = find_mosquitto()
        if path is None:
            raise BrokerError("mosquitto: not installed; on Debian: apt-get install mosquitto")
        return path


def free_port() -> int:
    """Return a TCP port of the loopback that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Whether somebody accepts connections on a port of the loopback."""
    with socket.socket() as probe:
        probe.settimeout(0.1)
        return probe.connect_ex((_HOST, port)) == 0


@contextmanager
def _amqtt() -> Iterator[str]:
    if importlib.util.find_spec("amqtt") is None:
        raise BrokerError(
            "no broker on this machine: on Debian apt-get install mosquitto, or pip install "
            "'earmark[demo]' for the embedded one; or name yours with --broker"
        )
    port = free_port()
    failure: list[Exception] = []
    ready = threading.Event()
    end: list[Callable[[], object]] = []

    async def serve() -> None:
        from amqtt.broker import Broker

        config = {
            "listeners": {"default": {"type": "tcp", "bind": f"{_HOST}:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {}},
        }
        over = asyncio.Event()
        end.append(partial(asyncio.get_running_loop().call_soon_threadsafe, over.set))
        try:
            broker = Broker(config)
            await broker.start()
        except Exception as error:
            failure.append(error)
            return
        finally:
            ready.set()
        await over.wait()
        await broker.shutdown()

    # It tells every connection, and calls each refused MQTT 5 an error.
    for name in ("amqtt", "transitions"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    thread = threading.Thread(
        target=lambda: asyncio.run(serve()), name="earmark-amqtt", daemon=True
    )
    thread.start()
    if not ready.wait(_START_S) or failure:
        reason = failure[0] if failure else f"not ready within {_START_S:g} s"
        raise BrokerError(f"amqtt: does not start: {reason}")
    try:
        yield f"mqtt://{_HOST}:{port}"
    finally:
        with contextlib.suppress(RuntimeError):
            end[0]()
        thread.join(_STOP_S)

"""A throw-away PostgreSQL on this machine's loopback, for tests and benchmarks."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from edge.errors import EarmarkError
from edge.messaging.local_broker import free_port, listens

_START_S = 60.0
_STOP_S = 20.0
# PostgreSQL refuses to run as root; Debian's package makes the first of these users.
_USERS = ("postgres", "nobody")


def find_postgres() -> Path | None:
    """Return the folder with `initdb` and `postgres`, the newest there is; None without."""
    # Debian keeps them outside of PATH, a folder a version.
    debian = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"),
        key=lambda path: float(path.parent.name) if path.parent.name.isdigit() else 0.0,
        reverse=True,
    )
    for folder in debian:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    found = shutil.which("initdb")
    return None if found is None else Path(found).resolve().parent


class LocalPostgres:
    """A cluster of its own, with one database; starts on entering, ends on leaving.

    settings: lines of postgresql.conf.
    """

    def __init__(self, settings: Sequence[str] = ()) -> None:
        programs = find_postgres()
        if programs is None:
            raise EarmarkError("PostgreSQL: not installed; on Debian: apt-get install postgresql")
        self._programs = programs
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="earmark-postgres-")
        self._user: str | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        """Its URL, for a superuser; no password is asked."""
        return f"postgresql://earmark@127.0.0.1:{self.port}/postgres"

    @property
    def pid(self) -> int:
        """The process to stop or to kill."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, on the same port and data again after `stop`, and wait until it answers."""
        log = self._data.with_name("log")
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [
                    *(self._programs / "postgres", "-D", self._data, "-p", str(self.port)),
                    *("-k", self._folder.name, "-c", "listen_addresses=127.0.0.1"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                user=self._user,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_S
        while not self._ready(log):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                words = log.read_text(errors="replace").strip().splitlines() or ["no message"]
                raise EarmarkError(f"PostgreSQL does not start: {words[-1]}")
            time.sleep(0.02)

    def stop(self, sign: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT shuts it down at once but in order, SIGQUIT as a crash would."""
        if self._process is None:
            return
        self._process.send_signal(sign)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def __enter__(self) -> LocalPostgres:
        try:
            self._initialise()
            self.start()
        except BaseException:
            self._folder.cleanup()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
        self._folder.cleanup()

    @property
    def _data(self) -> Path:
        return Path(self._folder.name) / "data"

    def _initialise(self) -> None:
        if os.geteuid() == 0:
            self._user = _unprivileged()
            os.chown(self._folder.name, pwd.getpwnam(self._user).pw_uid, -1)
        done = subprocess.run(
            [
                *(self._programs / "initdb", "-D", self._data, "-U", "earmark", "-A", "trust"),
                *("-E", "UTF8", "--locale=C", "--no-sync"),
            ],
            capture_output=True,
            text=True,
            check=False,
            user=self._user,
            cwd=self._folder.name,
        )
        if done.returncode:
            raise EarmarkError(f"initdb: {done.stderr.strip() or done.stdout.strip()}")
        with (self._data / "postgresql.conf").open("a") as config:
            config.writelines(f"{line}\n" for line in self._settings)

    def _ready(self, log: Path) -> bool:
        # The port listens before the recovery after a crash is over; the log tells.
        words = log.read_text(errors="replace").rpartition("starting PostgreSQL")[2]
        return "database system is ready" in words and listens(self.port)


def _unprivileged() -> str:
    for name in _USERS:
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise EarmarkError(f"PostgreSQL does not run as root, and there is no user {_USERS[0]}")

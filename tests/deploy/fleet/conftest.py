"""A real sshd, a repository, and a stand-in for a device's updater."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from edge.messaging.local_broker import free_port, listens
from edge.release.manifest import decode_manifest
from edge.release.targets import FLEET, Assigned, Fleet, content_path, write_fleet

PROJECT = Path(__file__).parents[3]
COMMAND = (sys.executable, "-c", "from deploy.cli import entry; entry()")
BUNDLE = PROJECT / "models" / "demo" / "bundle"


def _sshd() -> str | None:
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


class Sshd:
    """Debian's sshd for this user alone, with keys and a port of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.user = getpass.getuser()
        self.key = folder / "id"
        self.known_hosts = folder / "known_hosts"
        self._process: subprocess.Popen[bytes] | None = None
        client = asyncssh.generate_private_key("ssh-ed25519")
        self.key.write_bytes(client.export_private_key())
        self.key.chmod(0o600)
        (folder / "authorized_keys").write_bytes(client.export_public_key())
        self.new_host_key()
        self.trust()

    def new_host_key(self) -> None:
        self._host_key = asyncssh.generate_private_key("ssh-ed25519")
        path = self.folder / "host_key"
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(self._host_key.export_private_key())

    def trust(self) -> None:
        """Write the host's key into known_hosts."""
        line = f"[127.0.0.1]:{self.port} {self._host_key.export_public_key().decode()}"
        self.known_hosts.write_text(line)

    def start(self) -> None:
        config = self.folder / "sshd_config"
        config.write_text(
            textwrap.dedent(f"""\
            Port {self.port}
            ListenAddress 127.0.0.1
            HostKey {self.folder}/host_key
            AuthorizedKeysFile {self.folder}/authorized_keys
            PidFile none
            UsePAM no
            StrictModes no
            PermitRootLogin prohibit-password
            PasswordAuthentication no
            KbdInteractiveAuthentication no
            MaxStartups 100
            Subsystem sftp internal-sftp
            """)
        )
        if os.geteuid() == 0:
            # Debian makes it when its own service starts.
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        executable = _sshd()
        assert executable is not None
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [executable, "-D", "-e", "-f", str(config)],
                stdin=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 30
        while not listens(self.port) and self._process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert self._process.poll() is None, (self.folder / "log").read_text()

    def children(self) -> list[int]:
        """The processes that serve its connections, theirs included."""
        if self._process is None:
            return []
        found, waiting = [], [self._process.pid]
        while waiting:
            pid = waiting.pop()
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    below = [int(one) for one in (task / "children").read_text().split()]
                    found += below
                    waiting += below
        return found

    def cut(self) -> None:
        """Cut every connection, and whatever runs for it."""
        for pid in self.children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)

    def stop(self) -> None:
        if self._process is not None:
            self.cut()
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture(scope="session")
def sshd_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    if _sshd() is None:
        pytest.skip("sshd is not installed: apt-get install openssh-server")
    server = Sshd(tmp_path_factory.mktemp("sshd"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def sshd(sshd_server: Sshd) -> Iterator[Sshd]:
    """A running sshd whose host key is known, whatever the test before has done to it."""
    if not listens(sshd_server.port):
        sshd_server.start()
    sshd_server.trust()
    yield sshd_server
    sshd_server.cut()


@dataclass
class FakeRepository:
    """A repository's folder without signatures: what is read of it here is the same."""

    folder: Path
    bundles: dict[str, dict[str, Any]]
    means: dict[str, Any]
    seq: int = 0
    version: int = 0

    def publish(self, changes: bytes = b"") -> str:
        """Put the demo bundle in, its report changed; return its id."""
        manifest = decode_manifest((BUNDLE / "manifest.json").read_bytes(), "manifest.json")
        id = hashlib.sha256(manifest.id.encode() + changes).hexdigest()
        targets = {}
        for path in sorted(BUNDLE.iterdir()):
            data = path.read_bytes() + (changes if path.name == "report.html" else b"")
            targets[f"models/{id}/{path.name}"] = self.put(f"models/{id}/{path.name}", data)
        self.bundles[id] = targets
        return id

    def put(self, target: str, data: bytes, custom: Any = None) -> dict[str, Any]:
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.folder / content_path(target, sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        entry: dict[str, Any] = {"length": len(data), "hashes": {"sha256": sha256}}
        return entry if custom is None else {**entry, "custom": custom}

    def assign(self, **releases: str) -> None:
        """Assign bundles: `all=ID`, or `barn_1=ID` for a device."""
        self.seq += 1
        scopes = {
            name if name == "all" else f"device/{name.replace('_', '-')}": Assigned(
                bundle=id, seq=self.seq
            )
            for name, id in releases.items()
        }
        fleet = write_fleet(Fleet(seq=self.seq, releases=scopes))
        self.version += 1
        roles = {
            "targets": {},
            "models": {k: v for targets in self.bundles.values() for k, v in targets.items()},
            "means": self.means,
            "assignments": {FLEET: self.put(FLEET, fleet)},
        }
        metadata = self.folder / "metadata"
        metadata.mkdir(exist_ok=True)
        for role, targets in roles.items():
            self._write(f"{self.version}.{role}.json", {"targets": targets})
        meta = {f"{role}.json": {"version": self.version} for role in roles}
        self._write(f"{self.version}.snapshot.json", {"meta": meta})
        self._write("timestamp.json", {"meta": {"snapshot.json": {"version": self.version}}})
        if not (metadata / "1.root.json").exists():
            self._write("1.root.json", {"version": 1})

    def _write(self, name: str, signed: dict[str, Any]) -> None:
        text = json.dumps({"signatures": [], "signed": signed})
        (self.folder / "metadata" / name).write_text(text)


@pytest.fixture
def repository(tmp_path: Path) -> FakeRepository:
    """A repository with the demo bundle for everybody."""
    repository = FakeRepository(tmp_path / "repository", {}, {})
    repository.folder.mkdir()
    repository.assign(all=repository.publish())
    return repository


FAKE_EDGE = f"""#!{sys.executable}
'''Stands for earmark-edge: takes what is assigned, or fails as `fault` in its store says.'''
import json, os, shutil, sys
from pathlib import Path
sys.path.insert(0, {str(PROJECT)!r})
if sys.argv[1:] == ["--version"]:
    print("earmark-edge 0.1.0")
    sys.exit()
import yaml
from deploy.fleet.repository import Repository
arguments = sys.argv[1:]
config = yaml.safe_load(Path(arguments[arguments.index("--config") + 1]).read_text())
store = Path(config["updates"]["store"])
state = store / "fake.json"
status = json.loads(state.read_text()) if state.exists() else {{
    "schema": 1, "phase": "idle", "release": None, "assignment": 0, "means": 0}}
if arguments[1] == "status":
    print(json.dumps(status))
    sys.exit()
with (store / "calls").open("a") as calls:
    calls.write(" ".join(arguments) + "\\n")
fault = (store / "fault").read_text() if (store / "fault").exists() else ""
if fault == "hang":
    (store / "pid").write_text(str(os.getpid()))
    while True:
        import time; time.sleep(60)
if fault:
    status |= {{"phase": "rolled_back", "reason": fault, "text": "the agent died twice"}}
    state.write_text(json.dumps(status))
    print(f"earmark-edge: error: {{fault}}", file=sys.stderr)
    sys.exit(1)
url = arguments[arguments.index("--from") + 1]
folder = Path(url.removeprefix("file://"))
wanted = Repository(folder).wanted(config["device"])
for content in wanted.files:
    if "/assignments/" in content.path:
        continue
    blob = store / "blobs" / "sha256" / content.sha256[:2] / content.sha256
    if not blob.exists():
        blob.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / content.path, blob)
status |= {{"phase": "idle", "release": f"{{wanted.bundle[:12]}}-{{wanted.assignment}}",
    "assignment": wanted.assignment, "means": wanted.means_seq or 0}}
state.write_text(json.dumps(status))
"""


@pytest.fixture(scope="session")
def fake_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python environment with a stand-in for earmark-edge in it."""
    program = tmp_path_factory.mktemp("environment") / "bin" / "earmark-edge"
    program.parent.mkdir()
    program.write_text(FAKE_EDGE)
    program.chmod(0o755)
    return program.parents[1]


SETTINGS = {
    "cameras": [{"name": "pen-3", "source": "/dev/video0"}],
    "broker": {"url": "mqtt://127.0.0.1:1883"},
}


def write_inventory(
    path: Path, sshd: Sshd, roots: Path, environment: Path, *names: str, **changes: object
) -> Path:
    """Write an inventory of devices under this host, a root each."""
    defaults = {
        "host": "127.0.0.1",
        "port": sshd.port,
        "user": sshd.user,
        "key": str(sshd.key),
        "known_hosts": str(sshd.known_hosts),
        "environment": str(environment),
        "config": SETTINGS,
        **changes,
    }
    devices = {name: {"root": str(roots / name)} for name in names}
    path.write_text(json.dumps({"defaults": defaults, "devices": devices}))
    return path


@pytest.fixture
def make_inventory(tmp_path: Path, sshd: Sshd) -> Callable[..., Path]:
    """Call with an environment, ids and changes of the defaults: an inventory, roots in `roots`."""

    def make(environment: Path, *names: str, roots: Path | None = None, **changes: object) -> Path:
        place = roots or tmp_path / "roots"
        return write_inventory(
            tmp_path / "inventory.yaml", sshd, place, environment, *names, **changes
        )

    return make


def run_deploy(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=280
    )


@pytest.fixture
def deploy() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Call with arguments of `earmark-deploy`: runs it as a process of its own."""
    return run_deploy


@dataclass
class Provisioned:
    """Three devices as they are after provisioning. fresh: a copy of their roots."""

    roots: Path
    fresh: Path
    environment: Path
    names: tuple[str, ...]


@pytest.fixture(scope="session")
def provisioned_once(
    sshd_server: Sshd, fake_environment: Path, tmp_path_factory: pytest.TempPathFactory
) -> Provisioned:
    folder = tmp_path_factory.mktemp("devices")
    roots, names = folder / "roots", ("barn-1", "barn-2", "barn-3")
    for name in names:
        (roots / name).mkdir(parents=True)
    (folder / "repository").mkdir()
    repository = FakeRepository(folder / "repository", {}, {})
    repository.assign()
    sshd_server.trust()
    path = write_inventory(folder / "inventory.yaml", sshd_server, roots, fake_environment, *names)
    done = run_deploy("provision", path, "--repo", repository.folder)
    assert done.returncode == 0, done.stderr + done.stdout
    shutil.copytree(roots, folder / "fresh", symlinks=True)
    return Provisioned(roots, folder / "fresh", fake_environment, names)


@pytest.fixture
def devices(provisioned_once: Provisioned, sshd: Sshd) -> Provisioned:
    """Three devices that are provisioned and run nothing yet."""
    shutil.rmtree(provisioned_once.roots)
    shutil.copytree(provisioned_once.fresh, provisioned_once.roots, symlinks=True)
    return provisioned_once

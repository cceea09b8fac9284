"""The folder of a farm's broker: the authority, what the broker gets, what each client gets.

ca.key  clients.json            stay on the workstation
broker/                         to the broker: mosquitto.conf, acl, ca.crt, server.*, crl.pem
clients/<name>/                 to that client: ca.crt, client.crt, client.key
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from deploy.broker.authority import Authority, Issued, check_hosts, new_authority, new_key
from deploy.broker.rules import Role, acl, configuration
from edge.errors import UsageError
from edge.files import new_directory, write_atomically
from edge.messaging.events import timestamp
from edge.messaging.topics import check_id

DAYS = 5 * 365
SERVER = "server"
_FOLDER = "/etc/mosquitto/earmark"
_STATE = "/var/lib/mosquitto"


class Client(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A certificate that was given out. serials: hexadecimal, of its renewals too, newest last."""

    role: Role
    serials: list[str]
    not_after: str
    revoked: bool = False


class Register(msgspec.Struct, forbid_unknown_fields=True):
    """clients.json: who has a certificate, and the server's names."""

    schema: int
    hosts: list[str]
    server_not_after: str
    clients: dict[str, Client]


class Kit:
    """An existing kit; UsageError when the folder is none."""

    def __init__(
        self, folder: Path, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.folder = folder
        self._clock = clock
        try:
            self.register = msgspec.json.decode(
                (folder / "clients.json").read_bytes(), type=Register
            )
        except FileNotFoundError as error:
            raise UsageError(
                f"{folder}: no broker kit; make one: earmark-deploy broker init {folder} --host "
                "NAME"
            ) from error
        except msgspec.DecodeError as error:
            raise UsageError(f"{folder}/clients.json: {error}") from error

    def issue(self, name: str, role: Role, *, days: int = DAYS) -> Path:
        """Make key and certificate of a new client; return its folder.

        UsageError when the name has one: keys are never overwritten.
        """
        if check_id(role, name) == SERVER:
            raise UsageError(f"{name!r} is the broker's own name; choose another")
        target = self.folder / "clients" / name
        known = self.register.clients.get(name)
        if target.exists() or (known is not None and (known.revoked or known.role != role)):
            raise UsageError(f"{name}: has a certificate already; renew it, or choose another name")
        key = new_key()
        issued = self._authority().client(name, key, self._clock(), days)
        # In the register first: a certificate that nobody knows of could not be revoked.
        self._enter(name, role, issued)
        target.parent.mkdir(exist_ok=True)
        with _private_folder(target) as made:
            write_private(made / "client.key", key)
            write_atomically(made / "client.crt", issued.pem)
            write_atomically(made / "ca.crt", self._ca_pem())
        self._write_rules()
        return target

    def renew(self, name: str, *, days: int = DAYS) -> Path:
        """Sign the same key for longer; return the certificate. `server` renews the broker's."""
        if name == SERVER:
            path = self.folder / "broker" / "server.crt"
            key = (self.folder / "broker" / "server.key").read_bytes()
            issued = self._authority().server(self.register.hosts, key, self._clock(), days)
            self.register.server_not_after = str(timestamp(issued.not_after))
            self._save()
        else:
            client = self._client(name)
            path = self.folder / "clients" / name / "client.crt"
            try:
                key = path.with_name("client.key").read_bytes()
            except FileNotFoundError as error:
                raise UsageError(
                    f"{path.with_name('client.key')}: not here any more, and renewing signs the "
                    "same key; revoke it and make one of another name"
                ) from error
            issued = self._authority().client(name, key, self._clock(), days)
            self._enter(name, client.role, issued)
        write_atomically(path, issued.pem)
        return path

    def revoke(self, name: str) -> Path:
        """Let a lost or stolen certificate be refused; return the list for the broker."""
        client = self._client(name)
        self.register.clients[name] = msgspec.structs.replace(client, revoked=True)
        self._save()
        self._write_rules()
        return self.folder / "broker" / "crl.pem"

    def _client(self, name: str) -> Client:
        client = self.register.clients.get(name)
        if client is None or client.revoked:
            what = "is revoked" if client else "has no certificate"
            raise UsageError(f"{name}: {what}; earmark-deploy broker list shows who has one")
        return client

    def _enter(self, name: str, role: Role, issued: Issued) -> None:
        known = self.register.clients.get(name)
        serials = [*(known.serials if known else []), f"{issued.serial:x}"]
        self.register.clients[name] = Client(role, serials, str(timestamp(issued.not_after)))
        self._save()

    def _save(self) -> None:
        self.register.clients = dict(sorted(self.register.clients.items()))
        data = msgspec.json.format(msgspec.json.encode(self.register), indent=1)
        write_atomically(self.folder / "clients.json", data + b"\n")

    def _write_rules(self) -> None:
        """Write what the broker must know of the clients: its rules, and who is revoked."""
        clients = self.register.clients
        good = {name: client.role for name, client in clients.items() if not client.revoked}
        write_atomically(self.folder / "broker" / "acl", acl(good).encode())
        serials = [
            int(serial, 16)
            for client in clients.values()
            if client.revoked
            for serial in client.serials
        ]
        write_atomically(
            self.folder / "broker" / "crl.pem",
            self._authority().revocations(serials, self._clock()),
        )

    def _authority(self) -> Authority:
        try:
            key = (self.folder / "ca.key").read_bytes()
        except FileNotFoundError as error:
            raise UsageError(
                f"{self.folder / 'ca.key'}: not here; certificates are made where it is kept"
            ) from error
        return Authority(self._ca_pem(), key)

    def _ca_pem(self) -> bytes:
        return (self.folder / "broker" / "ca.crt").read_bytes()


def create_kit(
    folder: Path,
    hosts: Sequence[str],
    *,
    days: int = DAYS,
    configuration_folder: str = _FOLDER,
    state_folder: str = _STATE,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Kit:
    """Make a new kit at `folder`, whole or not at all.

    hosts: names and addresses by which the devices reach the broker. configuration_folder,
    state_folder: where its files lie on the broker's machine.
    """
    if not hosts:
        raise UsageError("name the broker as devices reach it: --host broker.local")
    check_hosts(hosts)
    if folder.exists():
        raise UsageError(f"{folder}: is there already; keys are never overwritten, name another")
    now = clock()
    ca_key, server_key = new_key(), new_key()
    ca_pem = new_authority(f"earmark {hosts[0]}"[:64], ca_key, now)
    authority = Authority(ca_pem, ca_key)
    server = authority.server(hosts, server_key, now, days)
    with new_directory(folder) as made:
        write_private(made / "ca.key", ca_key)
        broker = made / "broker"
        write_atomically(broker / "ca.crt", ca_pem)
        write_atomically(broker / "server.crt", server.pem)
        write_private(broker / "server.key", server_key)
        configured = configuration(configuration_folder, state_folder)
        write_atomically(broker / "mosquitto.conf", configured.encode())
        register = Register(1, list(hosts), str(timestamp(server.not_after)), {})
        write_atomically(made / "clients.json", msgspec.json.encode(register) + b"\n")
        kit = Kit(made, clock)
        kit._save()
        kit._write_rules()
    return Kit(folder, clock)


def write_private(path: Path, data: bytes) -> None:
    """Write a secret that only its owner may read, whole, and never over another one."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        # Unlike a rename, a link does not replace what is there.
        os.link(name, path)
    except FileExistsError as error:
        raise UsageError(f"{path}: is there already; keys are never overwritten") from error
    finally:
        Path(name).unlink()


@contextmanager
def _private_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`, which takes its place on success, and goes on error.

    Unlike `new_directory` it is its owner's alone, and never takes the place of a folder of keys.
    """
    made = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield made
        made.rename(path)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise

"""A repository in memory that signs whatever it is told to, and is a channel to itself.

Attack tests read like sentences: `repository.sign_with("models", key_of="means")`, then ask the
device. Only what makes sense is made here with earmark's own code; `deploy.repo` is tested apart.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from edge.release.channels import ChannelMissingError
from edge.release.manifest import FileEntry, content_id
from edge.release.targets import (
    FLEET,
    ROLES,
    Assigned,
    Fleet,
    content_path,
    means_target,
    model_target,
    write_fleet,
)

NOW = datetime(2026, 11, 24, 4, 31, tzinfo=UTC)
TOP = ("root", "timestamp", "snapshot", "targets")
EMBEDDER = "e" * 64


class Repository:
    """What a web server would serve, in `files`; `fetched` are the paths that were asked for.

    days: how long everything is good for, from NOW on.
    """

    name = "memory:"

    def __init__(self, days: int = 30) -> None:
        self.files: dict[str, bytes] = {}
        self.fetched: list[str] = []
        self.seq = 0
        self.fleet = Fleet(seq=1)
        self.expires = {role: NOW + timedelta(days=days) for role in (*TOP, *ROLES)}
        self.signers = {role: [CryptoSigner.generate_ed25519()] for role in (*TOP, *ROLES)}
        self._borrowed: dict[str, list[CryptoSigner]] = {}
        self.root_md = Metadata(Root(expires=self.expires["root"], consistent_snapshot=True))
        for role in TOP:
            self._let_sign(role)
        self.targets = Targets(expires=self.expires["targets"])
        self.targets.delegations = Delegations({}, {})
        assert self.targets.delegations.roles is not None
        for role, paths in ROLES.items():
            delegated = DelegatedRole(role, [], 1, False, paths=list(paths))
            self.targets.delegations.roles[role] = delegated
            self.targets.add_key(self.signers[role][0].public_key, role)
        self.roles = {role: Targets(expires=self.expires[role]) for role in ROLES}
        self.snapshot = Snapshot(expires=self.expires["snapshot"])
        self.timestamp = Timestamp(expires=self.expires["timestamp"])
        self._sign_root()
        self.publish()

    # What an operator does.

    def publish_bundle(self, source: Path | Mapping[str, bytes]) -> str:
        """Publish a bundle's folder, or files by name; return its id."""
        if isinstance(source, Path):
            files = {path.name: path.read_bytes() for path in source.iterdir()}
            bundle = str(msgspec.json.decode(files["manifest.json"])["id"])
        else:
            files = {"manifest.json": b"{}", **source}
            entries = {
                name: FileEntry(sha256=_sha256(data), size=len(data), role="model")
                for name, data in source.items()
            }
            bundle = content_id(entries)
        for name, data in files.items():
            self.put("models", model_target(bundle, name), data)
        self.publish()
        return bundle

    def publish_means(self, data: bytes, scope: str = "all", embedder: str = EMBEDDER) -> int:
        """Publish class means for a scope; return their seq."""
        seq = self.count()
        custom = {"seq": seq, "embedder_sha256": embedder}
        self.put("means", means_target(scope), data, custom)
        self.publish()
        return seq

    def assign(self, scope: str, bundle: str, seq: int | None = None) -> int:
        """Let a scope run a bundle; return the assignment's seq."""
        seq = seq or self.count()
        releases = {**self.fleet.releases, scope: Assigned(bundle=bundle, seq=seq)}
        self.set_fleet(seq=seq, releases=releases)
        return seq

    def group(self, name: str, devices: Iterable[str]) -> None:
        """Say who is in a group."""
        self.set_fleet(groups={**self.fleet.groups, name: list(devices)})

    def rotate(self, role: str) -> None:
        """Give a role a new key."""
        old = self.signers[role]
        self.signers[role] = [CryptoSigner.generate_ed25519()]
        if role in ROLES:
            for signer in old:
                self.targets.revoke_key(signer.public_key.keyid, role)
            self.targets.add_key(self.signers[role][0].public_key, role)
        else:
            for signer in old:
                self.root_md.signed.revoke_key(signer.public_key.keyid, role)
            self._let_sign(role)
            self.root_md.signed.version += 1
            self._sign_root(also=old if role == "root" else [])
        self.publish()

    # What an attacker, or a mistake, does.

    def sign_with(self, role: str, key_of: str | None) -> None:
        """Sign a role with another's key from now on; None: with a stranger's."""
        stranger = [CryptoSigner.generate_ed25519()]
        self._borrowed[role] = self.signers[key_of] if key_of else stranger
        self.publish()

    def need(self, role: str, signatures: int) -> None:
        """Ask for more signatures of a role than there are."""
        if role in ROLES:
            assert self.targets.delegations is not None
            assert self.targets.delegations.roles is not None
            self.targets.delegations.roles[role].threshold = signatures
        else:
            self.root_md.signed.roles[role].threshold = signatures
            self.root_md.signed.version += 1
            self._sign_root()
        self.publish()

    def expire(self, role: str, at: datetime) -> None:
        """Let a role's metadata expire then."""
        self.expires[role] = at
        if role == "root":
            self.root_md.signed.version += 1
            self._sign_root()
        self.publish()

    def copy(self) -> dict[str, bytes]:
        """Return what is served now, to be served again later."""
        return dict(self.files)

    def twin(self) -> Repository:
        """Return another one with the same keys, which goes its own way from here."""
        other = copy.copy(self)
        for name in ("files", "roles", "targets", "snapshot", "timestamp", "root_md", "expires"):
            setattr(other, name, copy.deepcopy(getattr(self, name)))
        other.fetched, other._borrowed = [], {}
        other.signers = {role: list(signers) for role, signers in self.signers.items()}
        return other

    def put(
        self, role: str, target: str, data: bytes, custom: Mapping[str, object] | None = None
    ) -> None:
        """Sign content under any name by any role, whether that makes sense or not."""
        info = TargetFile.from_data(target, data, ["sha256"])
        if custom is not None:
            info.unrecognized_fields["custom"] = dict(custom)
        self.roles[role].targets[target] = info
        self.files[content_path(target, _sha256(data))] = data

    def set_fleet(self, **changes: object) -> None:
        """Change the assignments' fields and publish them."""
        self.fleet = msgspec.structs.replace(
            self.fleet, **{"seq": max(self.seq, self.fleet.seq), **changes}
        )
        self.put("assignments", FLEET, write_fleet(self.fleet))
        self.publish()

    def count(self) -> int:
        """Return the next number of the repository's counter."""
        self.seq += 1
        return self.seq

    def publish(self) -> None:
        """Sign everything below the root anew, one version further."""
        for role, signed in self.roles.items():
            self._write(role, signed)
        self._write("targets", self.targets)
        for name, part in {"targets": self.targets, **self.roles}.items():
            data = self.files[f"metadata/{part.version}.{name}.json"]
            self.snapshot.meta[f"{name}.json"] = MetaFile.from_data(part.version, data, ["sha256"])
        data = self._write("snapshot", self.snapshot)
        self.timestamp.snapshot_meta = MetaFile.from_data(self.snapshot.version, data, ["sha256"])
        self._write("timestamp", self.timestamp)

    # The channel.

    def fetch(self, path: str, *, offset: int = 0, limit: int) -> Iterator[bytes]:
        """Yield a file's content, in pieces."""
        self.fetched.append(path)
        if path not in self.files:
            raise ChannelMissingError(f"{self.name}: has no {path}")
        data = self.files[path][offset : offset + limit]
        for start in range(0, len(data), 1000):
            yield data[start : start + 1000]

    @property
    def content_fetched(self) -> list[str]:
        """The contents among what was asked for."""
        return [path for path in self.fetched if path.startswith("targets/")]

    @property
    def root(self) -> bytes:
        """The root metadata with which devices are provisioned."""
        return self.files["metadata/1.root.json"]

    def write_to(self, folder: Path) -> Path:
        """Write everything into a folder, as a web server or a stick has it; return it."""
        for name, data in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return folder

    def _let_sign(self, role: str) -> None:
        for signer in self.signers[role]:
            self.root_md.signed.add_key(signer.public_key, role)

    def _sign_root(self, also: Iterable[CryptoSigner] = ()) -> None:
        self.root_md.signed.expires = self.expires["root"]
        self.root_md.signatures.clear()
        for signer in (*also, *self.signers["root"]):
            self.root_md.sign(signer, append=True)
        version = self.root_md.signed.version
        self.files[f"metadata/{version}.root.json"] = self.root_md.to_bytes()

    def _write(self, role: str, signed: Targets | Snapshot | Timestamp) -> bytes:
        first = f"metadata/{'' if role == 'timestamp' else '1.'}{role}.json" not in self.files
        signed.version += not first
        signed.expires = self.expires[role]
        metadata = Metadata(signed)
        for signer in self._borrowed.get(role, self.signers[role]):
            # A borrowed key signs in the name of the right one too: only the check can tell.
            metadata.sign(signer, append=True)
        prefix = "" if role == "timestamp" else f"{signed.version}."
        data = metadata.to_bytes()
        self.files[f"metadata/{prefix}{role}.json"] = data
        return data


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

"""One change of a repository: everything is signed first, then written so that nobody sees half.

Contents and versioned metadata have names of their own, which nothing refers to yet;
`timestamp.json` is replaced last, by one rename. Whoever reads before it sees the old repository
whole, whoever reads after it the new one; what a broken-off change leaves, the next overwrites.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Signed, TargetFile, Targets

from deploy.repo.keys import KeyRing
from deploy.repo.state import TOP, State
from edge.durable import make_folder, write_durably
from edge.errors import UsageError
from edge.release.signed import LIMITS
from edge.release.targets import ROLES, content_path

_LIMITS = {
    "root": LIMITS.root_max_length,
    "timestamp": LIMITS.timestamp_max_length,
    "snapshot": LIMITS.snapshot_max_length,
}


class Change:
    """Collects what is to be different; `write` signs and publishes it.

    state: what is published now; it is changed. days: how long each role's signature is good for.
    beyond: versions are this high at least, for a repository restored from an old copy.
    """

    def __init__(
        self,
        state: State,
        ring: KeyRing,
        days: Mapping[str, int],
        now: datetime,
        *,
        beyond: int = 0,
    ) -> None:
        self._state, self._ring, self._days, self._now = state, ring, days, now
        self._beyond = beyond
        self._roles: set[str] = set()
        self._contents: dict[str, bytes] = {}
        # A role whose key is replaced signs with the old one as well, once.
        self._also: dict[str, list[CryptoSigner]] = {}
        self._roots: list[tuple[str, bytes]] = []
        self._last_root: list[tuple[str, bytes]] = []

    def put(
        self, role: str, target: str, data: bytes, custom: Mapping[str, Any] | None = None
    ) -> None:
        """Publish content under a name, in the place of what had it."""
        info = TargetFile.from_data(target, data, ["sha256"])
        if custom is not None:
            info.unrecognized_fields["custom"] = dict(custom)
        self._state.roles[role].targets[target] = info
        self._contents[content_path(target, hashlib.sha256(data).hexdigest())] = data
        self._roles.add(role)

    def remove(self, role: str, target: str) -> None:
        """Publish a name no more."""
        del self._state.roles[role].targets[target]
        self._roles.add(role)

    def renew(self, roles: Iterable[str]) -> None:
        """Sign roles anew as they are."""
        for role in roles:
            if role == "root":
                self._sign_root([])
            else:
                self._roles.add(role)

    def replace_keys(self, role: str) -> list[str]:
        """Give a role new keys, as many as it should have; return the ids of those that are out."""
        old, threshold = self._state.keys_of(role)
        # A replacement that was broken off has left one too many, of any role but the root.
        made = [self._ring.make(role) for _ in range(len(old) if role == "root" else threshold)]
        if role in ROLES:
            for keyid in old:
                self._state.targets.revoke_key(keyid, role)
            for signer in made:
                self._state.targets.add_key(signer.public_key, role)
            self._roles |= {"targets", role}
        elif role == "root":
            outgoing = self._ring.signers(role, old, threshold)
            self._replace_in_root(role, old, made)
            self._sign_root(outgoing)
        else:
            self._hand_over(role, old, threshold, made)
        return old

    def write(self) -> None:
        """Sign what is to be different and publish it."""
        files = self._signed_files()
        public = self._state.public
        for path, data in self._contents.items():
            if not _holds(public / path, data):
                _write(public / path, data)
        for path, data in (*self._roots, *files, *self._last_root):
            _write(public / path, data)

    def _hand_over(
        self, role: str, old: list[str], threshold: int, made: list[CryptoSigner]
    ) -> None:
        """Replace keys of a role in the root without a moment at which nobody could verify it.

        First a root with the old and the new keys, then the role signed with both, then a root with
        the new keys only. When the old ones are lost there is such a moment: devices ask again.
        """
        present = [keyid for keyid in old if self._ring.find(role, keyid) is not None]
        if len(present) >= threshold:
            self._also[role] = self._ring.signers(role, present, threshold)
            for signer in made:
                self._state.root.signed.add_key(signer.public_key, role)
            self._sign_root([])
            self._replace_in_root(role, old, [])
            self._sign_root([], last=True)
        else:
            self._replace_in_root(role, old, made)
            self._sign_root([])
        self._roles.add(role)

    def _replace_in_root(self, role: str, old: list[str], made: list[CryptoSigner]) -> None:
        root = self._state.root.signed
        for keyid in old:
            root.revoke_key(keyid, role)
        for signer in made:
            root.add_key(signer.public_key, role)

    def _sign_root(self, also: Iterable[CryptoSigner], *, last: bool = False) -> None:
        root = self._state.root
        root.signed.version += 1
        self._date("root", root.signed)
        keyids, threshold = self._state.keys_of("root")
        root.signatures.clear()
        for signer in (*also, *self._ring.signers("root", keyids, threshold)):
            root.sign(signer, append=True)
        root.signed.verify_delegate("root", root.signed_bytes, root.signatures)
        data = root.to_bytes()
        _check_size("root", data)
        (self._last_root if last else self._roots).append(
            (f"metadata/{root.signed.version}.root.json", data)
        )

    def _signed_files(self) -> list[tuple[str, bytes]]:
        """Return the new metadata below the root, in the order in which it is to be written."""
        if not self._roles:
            return []
        files = [self._sign(role) for role in (*ROLES, "targets") if role in self._roles]
        # A machine that only keeps the timestamp young needs no other key.
        if self._roles != {"timestamp"}:
            files.append(self._sign("snapshot"))
        files.append(self._sign("timestamp"))
        return files

    def _sign(self, role: str) -> tuple[str, bytes]:
        """Sign a role's next version, and enter it where the next role tells of it."""
        state, signed = self._state, self._state.signed(role)
        signed.version = max(signed.version + 1, self._beyond)
        self._date(role, signed)
        keyids, threshold = state.keys_of(role)
        metadata: Metadata[Any] = Metadata(signed)
        for signer in (*self._also.get(role, ()), *self._ring.signers(role, keyids, threshold)):
            metadata.sign(signer, append=True)
        delegator: Root | Targets = state.root.signed if role in TOP else state.targets
        delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        data = metadata.to_bytes()
        _check_size(role, data)
        meta = MetaFile.from_data(signed.version, data, ["sha256"])
        if role == "timestamp":
            return "metadata/timestamp.json", data
        if role == "snapshot":
            state.timestamp.snapshot_meta = meta
        else:
            state.snapshot.meta[f"{role}.json"] = meta
        return f"metadata/{signed.version}.{role}.json", data

    def _date(self, role: str, signed: Signed) -> None:
        signed.expires = self._now.replace(microsecond=0) + timedelta(days=self._days[role])


def _check_size(role: str, data: bytes) -> None:
    most = _LIMITS.get(role, LIMITS.targets_max_length)
    if len(data) > most:
        raise UsageError(
            f"{role}: {len(data)} bytes of metadata, devices read {most} at most; withdraw bundles "
            "that nobody runs"
        )


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data
    except FileNotFoundError:
        return False


def _write(path: Path, data: bytes) -> None:
    make_folder(path.parent)
    write_durably(path, data)

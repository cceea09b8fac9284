"""Private keys of a repository's roles, one file each, sealed with a passphrase.

Ed25519; the passphrase is stretched by scrypt, and ChaCha20-Poly1305 seals the key together with
whose it is: a file that was renamed or altered does not open.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Protocol

import msgspec

from deploy.broker.kit import write_private
from edge.errors import UsageError

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
    from securesystemslib.signer import CryptoSigner
except ImportError as missing:
    raise UsageError(
        "signing needs the packages cryptography and tuf: pip install 'earmark[deploy]'"
    ) from missing

SCHEMA = 1
# scrypt's N: some 128 MB and half a second a guess.
COST = 1 << 17
LEAST_LETTERS = 10
_MAX_BYTES = 8 << 10

Hex = Annotated[str, msgspec.Meta(pattern=r"^(?:[0-9a-f]{2}){1,64}$(?!\n)")]


class KeyFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sealed private key, and whose it is."""

    schema: Annotated[int, msgspec.Meta(ge=SCHEMA, le=SCHEMA)] = SCHEMA
    role: Annotated[str, msgspec.Meta(pattern=r"^[a-z]{2,20}$(?!\n)")]
    keyid: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]
    cost: Annotated[int, msgspec.Meta(ge=2, le=1 << 20)]
    salt: Hex
    nonce: Hex
    sealed: Hex

    @property
    def bound(self) -> bytes:
        """What is sealed along with the key."""
        return f"{self.role} {self.keyid}".encode()


class Passphrases(Protocol):
    """Where passphrases come from."""

    def new(self) -> str:
        """Return the passphrase that new keys are sealed with."""

    def tries(self, what: str) -> Iterable[str]:
        """Yield passphrases that may open a key file, until one does; `what` names the file."""


class KeyRing:
    """The key files in some folders, opened as they are needed.

    folders: the first is where new keys are put.
    """

    def __init__(
        self, folders: Sequence[Path], passphrases: Passphrases, cost: int | None = None
    ) -> None:
        self.folders = tuple(folders)
        self._passphrases = passphrases
        self._cost = cost or COST
        self._open: dict[str, CryptoSigner] = {}

    def at(self, folder: Path) -> KeyRing:
        """Return the same ring with its first folder elsewhere."""
        ring = KeyRing([folder, *self.folders[1:]], self._passphrases, self._cost)
        ring._open = self._open
        return ring

    def find(self, role: str, keyid: str) -> Path | None:
        """Return where a role's key lies, None when it is in none of the folders."""
        for folder in self.folders:
            path = folder / key_name(role, keyid)
            if path.is_file():
                return path
        return None

    def signers(self, role: str, keyids: Iterable[str], threshold: int) -> list[CryptoSigner]:
        """Return what signs for a role: those of its keys that are here, `threshold` at least."""
        wanted = list(keyids)
        found = [(keyid, path) for keyid in wanted if (path := self.find(role, keyid)) is not None]
        if len(found) < threshold:
            names = ", ".join(key_name(role, keyid) for keyid in wanted)
            places = ", ".join(map(str, self.folders))
            raise UsageError(
                f"signing {role} needs {threshold} of {names}, and {len(found)} of them lie in "
                f"{places}; name the folder they are in: --keys DIR"
            )
        return [self._signer(keyid, path) for keyid, path in found]

    def make(self, role: str) -> CryptoSigner:
        """Make a new key for a role; it is on the disk, sealed, before this returns."""
        signer = CryptoSigner.generate_ed25519()
        keyid = signer.public_key.keyid
        folder = self.folders[0]
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        sealed = seal(role, signer, self._passphrases.new(), self._cost)
        write_private(folder / key_name(role, keyid), sealed)
        self._open[keyid] = signer
        return signer

    def _signer(self, keyid: str, path: Path) -> CryptoSigner:
        if keyid not in self._open:
            self._open[keyid] = self._unseal(keyid, path)
        return self._open[keyid]

    def _unseal(self, keyid: str, path: Path) -> CryptoSigner:
        file = read_key_file(path)
        for passphrase in self._passphrases.tries(path.name):
            signer = unseal(file, passphrase)
            if signer is None:
                continue
            if keyid not in (file.keyid, signer.public_key.keyid) or file.keyid != keyid:
                raise UsageError(f"{path}: holds another key than its name says")
            return signer
        raise UsageError(f"{path}: the passphrase does not open it, or the file was altered")


def key_name(role: str, keyid: str) -> str:
    """Return the name of a role's key file."""
    return f"{role}-{keyid[:12]}.json"


def seal(role: str, signer: CryptoSigner, passphrase: str, cost: int) -> bytes:
    """Return the key file of a signer."""
    private = serialization.load_pem_private_key(signer.private_bytes, None)
    raw = private.private_bytes(
        serialization.Encoding.Raw,
        serialization.PrivateFormat.Raw,
        serialization.NoEncryption(),
    )
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
    file = KeyFile(
        role=role,
        keyid=signer.public_key.keyid,
        cost=cost,
        salt=salt.hex(),
        nonce=nonce.hex(),
        sealed="00",
    )
    sealed = ChaCha20Poly1305(_stretch(passphrase, salt, cost)).encrypt(nonce, raw, file.bound)
    file = msgspec.structs.replace(file, sealed=sealed.hex())
    return msgspec.json.format(msgspec.json.encode(file), indent=1) + b"\n"


def unseal(file: KeyFile, passphrase: str) -> CryptoSigner | None:
    """Return the signer in a key file; None when the passphrase does not open it."""
    key = _stretch(passphrase, bytes.fromhex(file.salt), file.cost)
    try:
        raw = ChaCha20Poly1305(key).decrypt(
            bytes.fromhex(file.nonce), bytes.fromhex(file.sealed), file.bound
        )
        signer = CryptoSigner(Ed25519PrivateKey.from_private_bytes(raw))
    except (InvalidTag, ValueError):
        return None
    return signer if signer.public_key.keyid == file.keyid else None


def read_key_file(path: Path) -> KeyFile:
    """Read a key file without opening it; UsageError for anything that is none."""
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_BYTES)
        return msgspec.json.decode(data, type=KeyFile)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a key file: {error}") from error


def _stretch(passphrase: str, salt: bytes, cost: int) -> bytes:
    return Scrypt(salt=salt, length=32, n=cost, r=8, p=1).derive(passphrase.encode())


def check_new_passphrase(passphrase: str) -> str:
    """Return a passphrase that may seal keys; UsageError for one that is too short."""
    if len(passphrase) < LEAST_LETTERS:
        raise UsageError(
            f"a passphrase of {len(passphrase)} letters is guessed; take {LEAST_LETTERS} or more, "
            "such as four words"
        )
    return passphrase

"""Key files, sealed, and where their passphrases come from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from deploy.repo import keys
from deploy.repo.keys import KeyFile, KeyRing, key_name, read_key_file, seal, unseal
from deploy.repo.passphrases import (
    VARIABLE,
    AskedPassphrases,
    GivenPassphrases,
    passphrases,
)
from edge.errors import UsageError

PASSPHRASE = "four words make one"


def ring(*folders: Path, passphrase: str = PASSPHRASE) -> KeyRing:
    return KeyRing(folders, GivenPassphrases(passphrase), cost=2)


def test_a_key_comes_back_and_signs_as_before(tmp_path: Path) -> None:
    made = ring(tmp_path).make("models")
    keyid = made.public_key.keyid
    (signer,) = ring(tmp_path).signers("models", [keyid], 1)
    made.public_key.verify_signature(signer.sign(b"a bundle"), b"a bundle")


def test_a_key_file_is_its_owners_alone_and_does_not_hold_the_key(tmp_path: Path) -> None:
    made = ring(tmp_path / "keys").make("models")
    path = tmp_path / "keys" / key_name("models", made.public_key.keyid)
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0
    private = made._private_key.private_bytes_raw()
    assert private.hex() not in path.read_text()


def test_another_passphrase_does_not_open_it(tmp_path: Path) -> None:
    keyid = ring(tmp_path).make("models").public_key.keyid
    with pytest.raises(UsageError, match="does not open"):
        ring(tmp_path, passphrase="four words make two").signers("models", [keyid], 1)


def test_the_same_key_is_never_sealed_alike() -> None:
    signer = CryptoSigner.generate_ed25519()
    assert seal("models", signer, PASSPHRASE, 2) != seal("models", signer, PASSPHRASE, 2)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("role", "means"),
        ("keyid", "0" * 64),
        ("cost", 4),
        ("salt", "00" * 16),
        ("nonce", "00" * 12),
        ("nonce", "00"),
        ("sealed", "00"),
    ],
)
def test_a_key_file_that_was_altered_does_not_open(
    tmp_path: Path, field: str, value: object
) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(seal("models", CryptoSigner.generate_ed25519(), PASSPHRASE, 2))
    assert unseal(read_key_file(path), PASSPHRASE) is not None
    path.write_text(json.dumps({**json.loads(path.read_bytes()), field: value}))
    assert unseal(read_key_file(path), PASSPHRASE) is None


@pytest.mark.parametrize(
    "change",
    [{"cost": 1 << 40}, {"schema": 2}, {"role": "../x"}, {"salt": "xyz"}, {"more": 1}],
)
def test_what_is_no_key_file_is_not_tried(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(seal("models", CryptoSigner.generate_ed25519(), PASSPHRASE, 2))
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **change}))
    with pytest.raises(UsageError, match="not a key file"):
        read_key_file(path)


def test_a_key_file_under_another_keys_name_is_found_out(tmp_path: Path) -> None:
    first, second = (ring(tmp_path).make("models").public_key.keyid for _ in range(2))
    path = tmp_path / key_name("models", first)
    path.unlink()
    (tmp_path / key_name("models", second)).rename(path)
    with pytest.raises(UsageError, match="another key"):
        ring(tmp_path).signers("models", [first], 1)


def test_keys_are_found_in_every_folder_and_enough_of_them_must_be(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("a", "b")]
    keyids = [ring(folder).make("root").public_key.keyid for folder in folders]
    missing = "0" * 64
    assert len(ring(*folders).signers("root", [*keyids, missing], 2)) == 2
    with pytest.raises(UsageError, match=r"root needs 2 of .* 1 of them") as caught:
        ring(folders[0]).signers("root", [*keyids, missing], 2)
    assert str(folders[0]) in str(caught.value)


def test_a_key_is_never_written_over_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = CryptoSigner.generate_ed25519()
    monkeypatch.setattr(keys.CryptoSigner, "generate_ed25519", lambda: signer)
    ring(tmp_path).make("models")
    with pytest.raises(UsageError, match="never overwritten"):
        ring(tmp_path).make("models")


def test_guessing_is_dear_by_default() -> None:
    assert keys.COST >= 1 << 17
    assert KeyFile.__struct_fields__  # the cost is written into each file, so it can rise later
    assert "cost" in KeyFile.__struct_fields__


# Passphrases.


class Typist:
    """Types what it was told to, and remembers what it was asked."""

    def __init__(self, *types: str) -> None:
        self.types = list(types)
        self.asked: list[str] = []

    def __call__(self, text: str) -> str:
        self.asked.append(text)
        return self.types.pop(0)


def test_a_new_passphrase_is_asked_twice_and_once_a_run() -> None:
    typist = Typist(PASSPHRASE, PASSPHRASE)
    asked = AskedPassphrases(typist)
    assert asked.new() == asked.new() == PASSPHRASE
    assert len(typist.asked) == 2
    assert next(iter(asked.tries("models-1.json"))) == PASSPHRASE
    assert len(typist.asked) == 2


def test_two_new_passphrases_that_differ() -> None:
    with pytest.raises(UsageError, match="differ"):
        AskedPassphrases(Typist(PASSPHRASE, "four words make two")).new()


@pytest.mark.parametrize(
    "make", [lambda: AskedPassphrases(Typist("short")), lambda: GivenPassphrases("short")]
)
def test_a_short_passphrase(make: Callable[[], AskedPassphrases | GivenPassphrases]) -> None:
    with pytest.raises(UsageError, match="10 or more"):
        make().new()


def test_each_key_may_have_its_own_passphrase(tmp_path: Path) -> None:
    keyids = [ring(tmp_path, passphrase=word * 10).make("root").public_key.keyid for word in "ab"]
    typist = Typist("a" * 10, "wrong", "b" * 10)
    both = KeyRing([tmp_path], AskedPassphrases(typist), cost=2)
    assert len(both.signers("root", keyids, 2)) == 2
    assert len(both.signers("root", keyids, 2)) == 2
    assert [text.split()[-1] for text in typist.asked[1:]] == [
        f"{key_name('root', keyids[1])}:"
    ] * 2


def test_a_file_may_hold_several_passphrases(tmp_path: Path) -> None:
    keyids = [ring(tmp_path, passphrase=word * 10).make("root").public_key.keyid for word in "ab"]
    file = tmp_path / "passphrases"
    file.write_text("c" * 10 + "\n" + "a" * 10 + "\n\n" + "b" * 10 + "\n")
    both = KeyRing([tmp_path], passphrases(file, {}), cost=2)
    assert len(both.signers("root", keyids, 2)) == 2
    assert passphrases(file, {}).new() == "c" * 10


def test_nobody_is_asked_for_ever(tmp_path: Path) -> None:
    keyid = ring(tmp_path).make("root").public_key.keyid
    typist = Typist(*["wrong"] * 10)
    with pytest.raises(UsageError, match="does not open"):
        KeyRing([tmp_path], AskedPassphrases(typist), cost=2).signers("root", [keyid], 1)
    assert len(typist.asked) == 3


def test_a_file_comes_before_the_environment_and_that_before_a_prompt(tmp_path: Path) -> None:
    file = tmp_path / "passphrase"
    file.write_text("from the file\nand more\n")
    typist = Typist("from the prompt", "from the prompt")
    environment = {VARIABLE: "from the environment"}
    assert passphrases(file, environment, typist).new() == "from the file"
    assert passphrases(None, environment, typist).new() == "from the environment"
    assert typist.asked == []
    assert passphrases(None, {}, typist).new() == "from the prompt"


@pytest.mark.parametrize("data", [None, b"", b"\n", b"\xff\xfe"])
def test_a_passphrase_file_without_one(tmp_path: Path, data: bytes | None) -> None:
    file = tmp_path / "passphrase"
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(UsageError, match="passphrase"):
        passphrases(file, {})


def test_nobody_sits_at_a_cron_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", open("/dev/null"))  # noqa: PTH123, SIM115
    with pytest.raises(UsageError, match="--passphrase-file"):
        passphrases(None, {}).new()

from __future__ import annotations

import hmac
from base64 import b64encode

import asyncssh
import pytest

from deploy.fleet.hostkeys import HostKeys
from edge.errors import UsageError


@pytest.fixture(scope="module")
def keys():
    return [asyncssh.generate_private_key("ssh-ed25519") for _ in range(2)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ssh" / "known_hosts"


def line(name: str, key) -> str:
    return f"{name} {key.export_public_key().decode()}"


def judge(known: HostKeys, key, host: str = "barn-7", port: int = 22):
    return known.judge(host, "192.168.1.7", port, key.convert_to_public())


def test_a_new_host_is_entered_only_when_it_is_wanted(path, keys):
    first, second = keys
    refusal = judge(HostKeys(path), first)
    assert "is not in" in refusal
    assert first.get_fingerprint() in refusal
    assert not path.exists()
    known = HostKeys(path, accept_new=True)
    assert judge(known, first, port=2222) is True
    assert path.read_text() == line("[barn-7]:2222", first)
    assert path.stat().st_mode & 0o777 == 0o600
    # Several devices under one host, connected to at once: the second asks about the same key.
    assert judge(known, first, port=2222) is True
    assert "is not the one in" in judge(known, second, port=2222)
    assert path.read_text() == line("[barn-7]:2222", first)


def test_a_changed_key_is_refused_whatever_is_wanted(path, keys):
    first, second = keys
    path.parent.mkdir()
    path.write_text(line("barn-7", first))
    for accept_new in (False, True):
        refusal = judge(HostKeys(path, accept_new=accept_new), second)
        assert "is not the one in" in refusal
        assert "ssh-keygen -f" in refusal
    assert path.read_text() == line("barn-7", first)


def test_another_port_is_another_host(path, keys):
    first, second = keys
    path.parent.mkdir()
    path.write_text(line("barn-7", first).rstrip("\n"))
    known = HostKeys(path, accept_new=True)
    assert known.trusted("barn-7", "192.168.1.7", None)[0] == [first.convert_to_public()]
    assert known.trusted("barn-7", "192.168.1.7", 2222)[0] == []
    assert judge(known, second, port=2222) is True
    assert path.read_text().splitlines() == [
        line("barn-7", first).strip(),
        line("[barn-7]:2222", second).strip(),
    ]


def test_a_host_known_by_its_address_or_hashed(path, keys):
    first, _ = keys
    path.parent.mkdir()
    path.write_text(line("[192.168.1.7]:2222", first))
    assert HostKeys(path).trusted("barn-7", "192.168.1.7", 2222)[0] == [first.convert_to_public()]
    salt = bytes(20)
    digest = hmac.digest(salt, b"[barn-7]:2222", "sha1")
    path.write_text(line(f"|1|{b64encode(salt).decode()}|{b64encode(digest).decode()}", first))
    assert HostKeys(path).trusted("barn-7", "192.168.1.7", 2222)[0] == [first.convert_to_public()]
    assert HostKeys(path).trusted("barn-7", "192.168.1.7", None)[0] == []


def test_a_file_that_cannot_be_read_is_one_line(path):
    path.parent.mkdir()
    path.write_text("nonsense\n")
    with pytest.raises(UsageError, match=r"known_hosts: cannot be read"):
        HostKeys(path)

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from deploy.broker import kit as module
from deploy.broker.authority import Authority, new_key
from deploy.broker.kit import Kit, create_kit, write_private
from deploy.broker.rules import acl
from deploy.cli import main
from edge.errors import UsageError

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
HOSTS = ["broker.local", "10.0.0.5"]


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    return create_kit(tmp_path / "kit", HOSTS, clock=lambda: NOW)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def common_name(found: x509.Certificate) -> str:
    return str(found.subject.rfc4514_string())


def test_a_new_kit_holds_what_the_broker_needs_and_nothing_secret_beside_it(kit):
    assert files(kit.folder) == [
        *("broker/acl", "broker/ca.crt", "broker/crl.pem", "broker/mosquitto.conf"),
        *("broker/server.crt", "broker/server.key", "ca.key", "clients.json"),
    ]
    for path in kit.folder.rglob("*.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_servers_certificate_names_its_hosts_and_serves_only(kit):
    server = certificate(kit.folder / "broker" / "server.crt")
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["broker.local"]
    assert [str(value) for value in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.5"]
    purposes = server.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [purpose._name for purpose in purposes] == ["serverAuth"]
    assert server.not_valid_before_utc < NOW
    server.verify_directly_issued_by(certificate(kit.folder / "broker" / "ca.crt"))


def test_a_clients_certificate_is_in_its_own_name(kit):
    folder = kit.issue("barn-7", "device", days=10)
    assert files(folder) == ["ca.crt", "client.crt", "client.key"]
    found = certificate(folder / "client.crt")
    assert common_name(found) == "CN=barn-7"
    assert found.not_valid_after_utc == NOW + timedelta(days=10)
    key = load_pem_private_key((folder / "client.key").read_bytes(), None)
    assert key.public_key() == found.public_key()
    assert stat.S_IMODE((folder / "client.key").stat().st_mode) == 0o600
    assert (folder / "ca.crt").read_bytes() == (kit.folder / "broker" / "ca.crt").read_bytes()


def test_nothing_outlives_the_authority(kit):
    found = certificate(kit.issue("barn-7", "device", days=100_000) / "client.crt")
    ca = certificate(kit.folder / "broker" / "ca.crt")
    assert found.not_valid_after_utc == ca.not_valid_after_utc


def test_no_key_is_ever_overwritten(kit):
    with pytest.raises(UsageError, match="is there already"):
        create_kit(kit.folder, HOSTS)
    folder = kit.issue("barn-7", "device")
    before = (folder / "client.key").read_bytes()
    for role in ("device", "operator"):
        with pytest.raises(UsageError, match="has a certificate already"):
            kit.issue("barn-7", role)
    with pytest.raises(UsageError, match="never overwritten"):
        write_private(folder / "client.key", b"other")
    assert (folder / "client.key").read_bytes() == before
    assert not list(folder.glob(".*"))


def test_a_kit_that_cannot_be_made_leaves_nothing(tmp_path, monkeypatch):
    def fail(*args: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(module, "configuration", fail)
    with pytest.raises(OSError, match="disk full"):
        create_kit(tmp_path / "kit", HOSTS)
    assert list(tmp_path.iterdir()) == []


def test_an_issue_that_was_interrupted_can_be_repeated(kit, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_private", lambda *a: (_ for _ in ()).throw(OSError("full")))
        with pytest.raises(OSError, match="full"):
            kit.issue("barn-7", "device")
    again = Kit(kit.folder, lambda: NOW)
    assert files(again.issue("barn-7", "device")) == ["ca.crt", "client.crt", "client.key"]
    assert len(again.register.clients["barn-7"].serials) == 2


@pytest.mark.parametrize("name", ["Barn 7", "barn/7", "+", "b", "../x", "server"])
def test_a_name_that_cannot_stand_in_a_topic_is_refused(kit, name):
    with pytest.raises(UsageError):
        kit.issue(name, "device")
    assert files(kit.folder / "clients") == []


def test_renewing_keeps_the_key(kit):
    folder = kit.issue("barn-7", "device", days=10)
    key, before = (folder / "client.key").read_bytes(), certificate(folder / "client.crt")
    later = Kit(kit.folder, lambda: NOW + timedelta(days=9))
    later.renew("barn-7", days=10)
    after = certificate(folder / "client.crt")
    assert after.not_valid_after_utc == before.not_valid_after_utc + timedelta(days=9)
    assert after.public_key() == before.public_key()
    assert (folder / "client.key").read_bytes() == key
    later.renew("server", days=20)
    server = certificate(kit.folder / "broker" / "server.crt")
    assert server.not_valid_after_utc == NOW + timedelta(days=29)
    with pytest.raises(UsageError, match="has no certificate"):
        later.renew("barn-8")
    (folder / "client.key").unlink()
    with pytest.raises(UsageError, match="not here any more"):
        later.renew("barn-7")


def test_every_certificate_of_a_revoked_client_is_on_the_list(kit):
    folder = kit.issue("barn-7", "device")
    first = certificate(folder / "client.crt").serial_number
    kit.renew("barn-7")
    second = certificate(folder / "client.crt").serial_number
    kit.issue("barn-8", "device")
    kit.revoke("barn-7")
    revoked = x509.load_pem_x509_crl((kit.folder / "broker" / "crl.pem").read_bytes())
    assert {entry.serial_number for entry in revoked} == {first, second}
    assert (
        revoked.next_update_utc == certificate(kit.folder / "broker" / "ca.crt").not_valid_after_utc
    )
    with pytest.raises(UsageError, match="is revoked"):
        kit.revoke("barn-7")
    with pytest.raises(UsageError, match="has a certificate already"):
        kit.issue("barn-7", "device")
    assert "user barn-7\n" not in (kit.folder / "broker" / "acl").read_text()


def test_the_rules_name_everybody_by_role(kit):
    kit.issue("alice", "operator")
    kit.issue("database", "ingest")
    text = (kit.folder / "broker" / "acl").read_text()
    assert text == acl({"alice": "operator", "database": "ingest"})
    section = text.partition("user alice\n")[2].partition("\n\n")[0].splitlines()
    assert section == [
        "topic deny earmark/v1/alice/#",
        "topic deny homeassistant/device/alice/#",
        "topic read earmark/v1/+/up/#",
        "topic write earmark/v1/+/down/command",
        "topic readwrite earmark/v1/+/down/hint",
        "topic readwrite earmark/v1/+/down/repo/#",
    ]


def test_an_authority_takes_no_foreign_key(kit):
    with pytest.raises(UsageError, match="do not belong together"):
        Authority((kit.folder / "broker" / "ca.crt").read_bytes(), new_key())
    with pytest.raises(UsageError, match="cannot be read"):
        Authority(b"rubbish", new_key())


def test_without_the_authoritys_key_nothing_is_signed(kit):
    (kit.folder / "ca.key").unlink()
    with pytest.raises(UsageError, match="made where it is kept"):
        Kit(kit.folder).issue("barn-7", "device")


def test_a_folder_that_is_no_kit_is_told_how_to_make_one(tmp_path):
    with pytest.raises(UsageError, match="broker init"):
        Kit(tmp_path)
    (tmp_path / "clients.json").write_text("{}")
    with pytest.raises(UsageError, match=r"clients\.json"):
        Kit(tmp_path)


@pytest.mark.parametrize("host", ["bärn", "a b", "", "http://broker", "a..b", "-a"])
def test_a_host_that_is_none_is_refused(tmp_path, host):
    with pytest.raises(UsageError, match="neither a host name nor an address"):
        create_kit(tmp_path / "kit", [host])


def test_the_command_line_makes_it_all(tmp_path, capsys):
    folder = str(tmp_path / "kit")
    assert main(["broker", "init", folder, "--host", "broker.local", "10.0.0.5"]) == 0
    assert main(["broker", "device", "barn-7", "--dir", folder]) == 0
    assert main(["broker", "client", "alice", "--role", "operator", "--dir", folder]) == 0
    assert main(["broker", "renew", "server", "--dir", folder]) == 0
    assert main(["broker", "revoke", "alice", "--dir", folder]) == 0
    capsys.readouterr()
    assert main(["broker", "list", "--dir", folder]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:2] for line in lines] == [
        ["server", "broker"],
        ["alice", "operator"],
        ["barn-7", "device"],
    ]
    assert lines[1][2] == "revoked"
    register = json.loads((tmp_path / "kit" / "clients.json").read_text())
    assert register["hosts"] == HOSTS

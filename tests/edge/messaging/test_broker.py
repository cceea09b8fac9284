from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest

from edge.errors import BrokerError, UsageError
from edge.messaging.broker import (
    PASSWORD_VARIABLE,
    BrokerOptions,
    BrokerRefused,
    BrokerUnreachable,
    connect_failure,
    hung_up,
    read_password,
    refusal,
)


@pytest.mark.parametrize(
    ("url", "host", "port", "tls"),
    [
        ("mqtt://barn.local", "barn.local", 1883, False),
        ("mqtt://10.0.0.7:1884/", "10.0.0.7", 1884, False),
        ("mqtts://barn.local", "barn.local", 8883, True),
        ("mqtt://[::1]:1883", "::1", 1883, False),
        ("ws://barn.local/mqtt", "barn.local", 80, False),
        ("wss://barn.local:9001", "barn.local", 9001, True),
    ],
)
def test_a_url_says_where_and_how(url: str, host: str, port: int, tls: bool):
    broker = BrokerOptions(url)
    assert (broker.host, broker.port, broker.tls) == (host, port, tls)
    assert broker.address in (f"{host}:{port}", f"[{host}]:{port}")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("ws://barn", "/mqtt"),
        ("ws://barn/", "/mqtt"),
        ("wss://barn:9001/a/b%20c", "/a/b%20c"),
        ("mqtt://barn", ""),
    ],
)
def test_websockets_have_a_path(url: str, path: str):
    broker = BrokerOptions(url)
    assert (broker.path, broker.websockets) == (path, path != "")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ws://barn/mqtt?a=b",
        "ws://barn/m\r\nX: y",
        "wss://barn/müller",
        "barn.local",
        "http://barn",
        "mqtt://",
        "mqtt://barn:x",
        "mqtt://barn:99999",
        "mqtt://barn:0",
        "mqtt://barn/topic",
        "mqtt://barn?a=b",
        "mqtt://[::1",
    ],
)
def test_another_url_is_a_usage_error_of_one_line(url: str):
    with pytest.raises(UsageError, match="broker") as caught:
        BrokerOptions(url)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_a_password_is_never_shown():
    broker = BrokerOptions("mqtt://barn", username="device", password="hunter2")
    assert "hunter2" not in repr(broker)
    with pytest.raises(UsageError) as caught:
        BrokerOptions("mqtt://device:hunter2@barn")
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in str(refusal(broker, 0x86, "Bad user name or password"))


@pytest.mark.parametrize(
    "options",
    [
        {"password": "x"},
        {"keepalive_s": 0},
        {"ca_file": Path("ca.pem")},
        {"url": "mqtts://barn", "key_file": Path("key.pem")},
    ],
)
def test_options_that_cannot_be_are_usage_errors(options: dict[str, object]):
    with pytest.raises(UsageError):
        BrokerOptions(**{"url": "mqtt://barn", **options})  # type: ignore[arg-type]


def test_certificate_files_are_named_when_they_are_no_use(tmp_path: Path):
    with pytest.raises(UsageError, match=r"missing\.pem: no such file"):
        BrokerOptions("mqtts://barn", ca_file=tmp_path / "missing.pem").tls_context()
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("no certificate")
    with pytest.raises(UsageError, match=r"rubbish\.pem"):
        BrokerOptions("mqtts://barn", ca_file=rubbish).tls_context()
    with pytest.raises(UsageError, match=r"rubbish\.pem"):
        BrokerOptions("mqtts://barn", cert_file=rubbish).tls_context()
    assert BrokerOptions("mqtt://barn").tls_context() is None


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (ConnectionRefusedError(111, "x"), BrokerUnreachable, "nothing listens"),
        (TimeoutError(), BrokerUnreachable, "no answer"),
        (socket.gaierror(-2, "x"), BrokerUnreachable, "host not found"),
        (OSError(101, "Network is unreachable"), BrokerUnreachable, "Network is unreachable"),
        (ssl.SSLCertVerificationError(1, "x"), BrokerRefused, "not trusted"),
        (ssl.SSLError(1, "WRONG_VERSION_NUMBER"), BrokerRefused, "TLS"),
        (ssl.SSLEOFError(8, "UNEXPECTED_EOF_WHILE_READING"), BrokerUnreachable, "hung up"),
        (ssl.SSLZeroReturnError(6, "closed"), BrokerUnreachable, "hung up"),
        (ConnectionResetError(104, "Connection reset by peer"), BrokerUnreachable, "reset"),
    ],
)
def test_each_failure_to_connect_has_its_line(error: Exception, kind: type, words: str):
    if isinstance(error, ssl.SSLCertVerificationError):
        error.verify_message = "self-signed certificate"
    failure = connect_failure(BrokerOptions("mqtt://barn"), error)
    assert type(failure) is kind
    assert str(failure).startswith("broker barn:1883: ")
    assert words in str(failure)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (0x84, BrokerRefused),
        (0x85, BrokerRefused),
        (0x86, BrokerRefused),
        (0x87, BrokerRefused),
        (0x88, BrokerUnreachable),
        (0x89, BrokerUnreachable),
        (0x8A, BrokerRefused),
        (0x8B, BrokerUnreachable),
        (0x8C, BrokerRefused),
        (0x8D, BrokerUnreachable),
        (0x8E, BrokerRefused),
        (0x93, BrokerUnreachable),
        (0x95, BrokerRefused),
        (0x96, BrokerUnreachable),
        (0x97, BrokerUnreachable),
        (0x98, BrokerUnreachable),
        (0x9C, BrokerUnreachable),
        (0x9F, BrokerUnreachable),
        (0xA0, BrokerUnreachable),
        (0x80, BrokerRefused),
    ],
)
def test_each_reason_code_has_its_line(code: int, kind: type):
    failure = refusal(BrokerOptions("mqtt://barn", username="device"), code, "Some reason")
    assert type(failure) is kind
    assert str(failure).startswith("broker barn:1883: ")


@pytest.mark.parametrize(
    ("code", "kind"), [(9, BrokerUnreachable), (10, BrokerUnreachable), (20, BrokerRefused)]
)
def test_a_wrong_clock_is_waited_out_and_a_wrong_certificate_is_not(
    code: int, kind: type[BrokerError]
) -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, "certificate is not yet valid"
    failure = connect_failure(BrokerOptions("mqtts://barn.example"), error)
    assert type(failure) is kind
    assert "clock" in str(failure)


@pytest.mark.parametrize(
    ("url", "certificate", "words"),
    [
        ("mqtt://barn", None, "does it want mqtts://"),
        ("mqtts://barn", None, "does it want a client certificate"),
        ("mqtts://barn", Path("me.crt"), "is me.crt expired, revoked, or of another authority"),
    ],
)
def test_who_hangs_up_before_answering_may_refuse_the_certificate(
    url: str, certificate: Path | None, words: str
):
    text = hung_up(BrokerOptions(url, cert_file=certificate))
    assert words in text
    assert "\n" not in text


def test_a_password_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
    assert read_password(None) is None
    monkeypatch.setenv(PASSWORD_VARIABLE, "of the environment")
    assert read_password(None) == "of the environment"
    file = tmp_path / "password"
    file.write_text("of the file\r\nand a comment\n")
    assert read_password(file) == "of the file"
    file.write_text("\n")
    with pytest.raises(UsageError, match="empty"):
        read_password(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="cannot be read"):
        read_password(file)
    with pytest.raises(UsageError, match="cannot be read"):
        read_password(tmp_path / "missing")

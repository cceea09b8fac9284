from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from deploy.cli import main
from deploy.connecting import add_broker, broker_options
from edge.console import run_command
from edge.errors import UsageError
from edge.messaging.broker import BrokerOptions
from edge.messaging.local_broker import free_port


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["earmark-deploy", *arguments])
    return run_command(main, "earmark-deploy")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--broker", "http://barn"], "write mqtt://HOST"),
        (["--broker", "mqtt://barn", "--device", "Barn 7"], "device id 'Barn 7'"),
        (
            ["--broker", "mqtt://barn", "--password-file", "/nowhere"],
            "/nowhere: password file cannot be read",
        ),
        (["--broker", "mqtts://barn", "--ca-file", "/nowhere.pem"], "/nowhere.pem: no such file"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(monkeypatch, capsys, arguments, words):
    assert run(monkeypatch, "watch", *arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [[], ["watch"], ["watch", "--broker", "mqtt://b", "--for", "0"]]
)
def test_what_argparse_refuses_is_code_2(monkeypatch, capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        run(monkeypatch, *arguments)
    assert caught.value.code == 2


def test_a_broker_that_is_not_there_is_one_line_and_code_1(monkeypatch, capsys):
    port = free_port()
    assert run(monkeypatch, "watch", "--broker", f"mqtt://127.0.0.1:{port}") == 1
    error = capsys.readouterr().err
    assert error.startswith(f"earmark-deploy: error: broker 127.0.0.1:{port}: nothing listens")
    assert error.count("\n") == 1


def test_schemas_go_where_they_are_told(monkeypatch, capsys, tmp_path):
    assert run(monkeypatch, "schemas", "--out", str(tmp_path / "schemas")) == 0
    printed = capsys.readouterr().out.split()
    assert sorted(printed) == sorted(str(path) for path in (tmp_path / "schemas").iterdir())


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("earmark-deploy 0.")


def test_the_password_comes_from_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def options(*arguments: object) -> BrokerOptions:
        parser = argparse.ArgumentParser()
        add_broker(parser)
        wanted = ["--broker", "mqtt://127.0.0.1", *map(str, arguments)]
        return broker_options(parser.parse_args(wanted))

    path = tmp_path / "password"
    path.write_text("hunter 2 \nnot this\n")
    assert options("--username", "me", "--password-file", path).password == "hunter 2 "
    monkeypatch.setenv("EARMARK_MQTT_PASSWORD", "of the environment")
    assert options("--username", "me").password == "of the environment"
    # Who logs in by certificate, or not at all, has no use for it.
    assert options().password is None
    path.write_text("\n")
    with pytest.raises(UsageError, match="empty"):
        options("--username", "me", "--password-file", path)

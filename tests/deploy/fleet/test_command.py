from __future__ import annotations

from pathlib import Path

import pytest

from deploy.cli import main
from deploy.fleet.command import _devices
from edge.errors import UsageError


class Given:
    """Options as argparse gives them."""

    def __init__(self, **given: object) -> None:
        nothing = dict.fromkeys(("inventory", "device", "config", "key", "kit", "broker"))
        self.__dict__.update({**nothing, "only": [], "uninstall": False, **given})


@pytest.mark.parametrize(
    ("what", "user", "host", "port"),
    [
        ("barn-7.local", "root", "barn-7.local", 22),
        ("pi@192.168.1.7:2222", "pi", "192.168.1.7", 2222),
        ("pi@[fe80::1]:2222", "pi", "fe80::1", 2222),
        ("fe80::1", "root", "fe80::1", 22),
    ],
)
def test_one_host(what, user, host, port):
    given = Given(what=what, device="barn-7", config="agent.yaml", kit="kit")
    device = _devices(given)["barn-7"]
    assert (device.user, device.host, device.port) == (user, host, port)
    assert device.config == str(Path.cwd() / "agent.yaml")
    assert device.broker.kit == str(Path.cwd() / "kit")


def test_a_host_that_is_no_id_needs_one():
    with pytest.raises(UsageError, match="device id"):
        _devices(Given(what="barn-7.local", config="agent.yaml"))
    assert list(_devices(Given(what="barn-7", config="agent.yaml"))) == ["barn-7"]
    with pytest.raises(UsageError, match=r"--config agent\.yaml"):
        _devices(Given(what="barn-7"))
    assert list(_devices(Given(what="barn-7", uninstall=True))) == ["barn-7"]


def test_options_of_one_host_do_not_go_with_an_inventory(tmp_path):
    path = tmp_path / "fleet.yaml"
    path.write_text("devices: {barn-7: {host: a}}")
    with pytest.raises(UsageError, match="--kit belongs to one host"):
        _devices(Given(what=str(path), kit="kit"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["flash", "fleet.yaml"],
        ["flash", "fleet.yaml", "--repo", "r", "--jobs", "0"],
        ["flash", "fleet.yaml", "--repo", "r", "--canary", "-1"],
        ["usb", "/mnt"],
    ],
)
def test_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err


def test_purge_alone_and_a_stick_for_nobody():
    with pytest.raises(UsageError, match="--purge belongs to --uninstall"):
        main(["provision", "barn-7", "--purge"])
    with pytest.raises(UsageError, match="say for whom"):
        main(["usb", "/mnt", "--repo", "r"])

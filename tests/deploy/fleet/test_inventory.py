from __future__ import annotations

from pathlib import Path

import pytest

from deploy.fleet.inventory import choose, load_inventory
from edge.errors import UsageError

GOOD = """
defaults:
  user: pi
  key: ~/.ssh/barn
  broker: {url: mqtts://broker.local, kit: broker}
  config: {threads: 2, cameras: [{name: pen-1, source: /dev/video0}]}
devices:
  barn-7: {host: 192.168.1.7, groups: [north]}
  barn-8:
    host: barn-8.local
    port: 2222
    user: root
    config: {threads: 4}
    broker: {url: mqtts://other.local}
  barn-9: {host: barn-9.local, config: barn-9.yaml, groups: [north, old]}
"""


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "fleet.yaml"
        path.write_text(text)
        return path

    return write


def test_a_device_is_the_defaults_and_its_own(write, tmp_path):
    devices = load_inventory(write(GOOD))
    assert list(devices) == ["barn-7", "barn-8", "barn-9"]
    seven, eight, nine = devices.values()
    assert (seven.user, seven.port, seven.root) == ("pi", 22, "/")
    assert seven.key == str(Path("~/.ssh/barn").expanduser())
    assert seven.broker.kit == str(tmp_path / "broker")
    assert (eight.user, eight.address) == ("root", "root@barn-8.local:2222")
    assert eight.broker.url == "mqtts://other.local"
    assert eight.broker.kit == seven.broker.kit
    assert eight.config == {"threads": 4, "cameras": [{"name": "pen-1", "source": "/dev/video0"}]}
    assert nine.config == str(tmp_path / "barn-9.yaml")


def test_devices_are_chosen_by_id_and_by_group(write):
    devices = load_inventory(write(GOOD))
    assert list(choose(devices, [])) == ["barn-7", "barn-8", "barn-9"]
    assert list(choose(devices, ["barn-8", "north"])) == ["barn-7", "barn-8", "barn-9"]
    assert list(choose(devices, ["old", "barn-7"])) == ["barn-7", "barn-9"]
    with pytest.raises(UsageError, match=r"--only south: no device and no group"):
        choose(devices, ["barn-7", "south"])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("devices: {barn-7: {host: a, pasword: x}}", "barn-7: Object contains unknown field `pas"),
        ("devices: {barn-7: {}}", "barn-7: Object missing required field `host`"),
        ("devices: {barn-7: {host: a, port: 70000}}", "barn-7: port: expected `int` <= 65535"),
        ("devices: {Barn_7: {host: a}}", "devices: expected an id: 2 to 48 of a-z"),
        ("devices: {}", "no devices in it"),
        ("devices: [", "not valid YAML"),
        ("- 1", "Expected `object`, got `array`"),
        ("devices: {barn-7: {host: a}}\nplants: {}", "unknown field `plants`"),
        ("devices: {barn-7: {host: 'a; reboot'}}", "barn-7: host: expected `str` matching"),
        ("devices: {barn-7: {host: a, root: '/x y'}}", "barn-7: root: expected `str` matching"),
        ("devices: {barn-7: {host: a, root: /x/../etc}}", "without '..'"),
        ("devices: {barn-7: {host: a}, barn-8: {host: a}}", "barn-8: the same place as barn-7"),
        ("devices: {barn-7: {host: a, broker: {kit: k, ca_file: c}}}", "the kit, or the files"),
        ("devices: {barn-7: {host: a, broker: {password: x}}}", "broker: object contains unknown"),
        (
            "devices: {barn-7: {host: a, config: {cameras: [{source: 'rtsp://u:secret@c'}]}}}",
            "a password stands in rtsp://",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(write, text, problem):
    path = write(text)
    with pytest.raises(UsageError) as caught:
        load_inventory(path)
    message = str(caught.value)
    assert problem in message
    assert message.startswith(str(path))
    assert "secret" not in message


def test_a_file_that_is_missing_or_too_large(tmp_path, write):
    with pytest.raises(UsageError, match="no such inventory"):
        load_inventory(tmp_path / "none.yaml")
    with pytest.raises(UsageError, match="at most"):
        load_inventory(write("#" * (5 << 20)))

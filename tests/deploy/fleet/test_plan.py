from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from deploy.broker.kit import create_kit
from deploy.fleet.inventory import Device, read_inventory
from deploy.fleet.plan import make_plan
from deploy.fleet.repository import Repository
from edge.config import check_config
from edge.errors import UsageError

CAMERAS = [{"name": "pen-3", "source": "/dev/video0"}]


def device(folder: Path, **changes: object) -> Device:
    entry = {"host": "barn-7.local", "config": {"cameras": CAMERAS}, **changes}
    return read_inventory({"devices": {"barn-7": entry}}, "fleet.yaml", folder)["barn-7"]


def settings(folder: Path, **changes: object) -> dict[str, object]:
    return dict(yaml.safe_load(make_plan("barn-7", device(folder, **changes), None).settings))


def test_a_device_gets_its_place_its_name_and_its_broker(tmp_path):
    (tmp_path / "password").write_text("secret\n")
    raw = settings(
        tmp_path,
        config={"cameras": CAMERAS, "threads": 4, "broker": {"keepalive_s": 30}},
        broker={"url": "mqtt://b", "username": "barn-7", "password_file": "password"},
    )
    assert raw["device"] == "barn-7"
    assert raw["bundle"] == "/var/lib/earmark/current"
    assert raw["updates"] == {"channels": ["mqtt:"], "store": "/var/lib/earmark"}
    assert raw["threads"] == 4
    assert raw["broker"] == {
        "keepalive_s": 30,
        "url": "mqtt://b",
        "username": "barn-7",
        "password_file": "/etc/earmark/mqtt-password",
    }
    check_config(raw, "agent.yaml")


def test_channels_that_are_given_stay(tmp_path):
    updates = {"channels": ["https://releases.example"], "every_s": 60}
    raw = settings(tmp_path, config={"cameras": CAMERAS, "updates": updates})
    assert raw["updates"] == {**updates, "store": "/var/lib/earmark"}


def test_below_a_root_everything_is_there(tmp_path):
    raw = settings(tmp_path, root="/srv/barn-7")
    assert raw["bundle"] == "/srv/barn-7/var/lib/earmark/current"
    assert raw["state_dir"] == "/srv/barn-7/var/lib/earmark/agent"


def test_settings_may_be_a_file_of_their_own(tmp_path):
    (tmp_path / "agent.yaml").write_text(json.dumps({"cameras": CAMERAS, "clock": "system"}))
    raw = settings(tmp_path, config="agent.yaml")
    assert (raw["clock"], raw["cameras"]) == ("system", CAMERAS)


def test_the_kit_gives_certificate_and_key(tmp_path):
    kit = create_kit(tmp_path / "broker", ["broker.local"])
    kit.issue("barn-7", "device")
    broker = {"url": "mqtts://broker.local", "kit": "broker"}
    plan = make_plan("barn-7", device(tmp_path, broker=broker), None)
    folder = tmp_path / "broker/clients/barn-7"
    assert plan.secrets == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert yaml.safe_load(plan.settings)["broker"] == {
        "url": "mqtts://broker.local",
        "ca_file": "/etc/earmark/ca.crt",
        "cert_file": "/etc/earmark/client.crt",
        "key_file": "/etc/earmark/client.key",
    }


def test_trust_begins_at_the_repositorys_first_root(tmp_path, repository):
    plan = make_plan("barn-7", device(tmp_path), Repository(repository.folder))
    assert plan.root == (repository.folder / "metadata/1.root.json").read_bytes()
    assert plan.roots == {plan.root}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"config": {}}, "barn-7: config: Object missing required field `cameras`"),
        ({"config": {"cameras": CAMERAS, "thread": 1}}, "unknown field `thread`"),
        ({"config": {"cameras": CAMERAS, "broker": 1}}, "broker: expected settings, got int"),
        ({"config": "none.yaml"}, "no such settings; correct `config` of barn-7"),
        ({"broker": {"kit": "broker"}}, "earmark-deploy broker device barn-7 --dir"),
        ({"broker": {"ca_file": "ca.crt"}}, "ca.crt: cannot be read"),
    ],
)
def test_what_is_wrong_is_told_before_any_device_is_asked(tmp_path, changes, problem):
    with pytest.raises(UsageError) as caught:
        make_plan("barn-7", device(tmp_path, **changes), None)
    assert problem in str(caught.value)

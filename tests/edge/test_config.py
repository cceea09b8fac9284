"""agent.yaml: what it may hold, and how it says what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from edge.config import (
    AgentConfig,
    BrokerConfig,
    CameraConfig,
    OutboxConfig,
    check_config,
    default_device,
    load_config,
    reference_config,
)
from edge.errors import UsageError
from edge.messaging.topics import check_id

MINIMAL: dict[str, Any] = {
    "bundle": "/b",
    "cameras": [{"name": "pen-1", "source": "rtsp://camera/x"}],
}


def write(path: Path, settings: Any) -> Path:
    path.write_text(settings if isinstance(settings, str) else yaml.safe_dump(settings))
    return path


def test_only_bundle_and_cameras_must_be_given(tmp_path: Path) -> None:
    config = load_config(write(tmp_path / "agent.yaml", MINIMAL))
    assert config.cameras == [CameraConfig(name="pen-1", source="rtsp://camera/x")]
    assert config.broker == BrokerConfig()
    check_id("device", config.device_id())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"colour": "red"}, "colour"),
        ({"device": "Barn 7"}, "device"),
        ({"device": 7}, "device"),
        ({"threads": 0}, "threads"),
        ({"threads": "two"}, "threads"),
        ({"cameras": []}, "cameras"),
        ({"cameras": [{"name": "pen-1"}]}, "source"),
        ({"cameras": [{"name": "PEN", "source": "x"}]}, "name"),
        ({"cameras": [{"name": "pen-1", "source": "x", "fps": 0}]}, "fps"),
        ({"cameras": [{"name": "pen-1", "source": "x", "speed": 2}]}, "speed"),
        ({"cameras": [{"name": "pen-1", "source": "x", "stall_s": 0}]}, "stall_s"),
        ({"broker": {"url": "mqtt://x", "user": "me"}}, "user"),
        ({"broker": {"keepalive_s": 1}}, "keepalive_s"),
        ({"naming": {"min_share": 1.5}}, "min_share"),
        ({"sightings": {"update_every_s": 0}}, "update_every_s"),
        ({"commands": {"snapshot": True}}, "snapshot"),
        ({"updates": {"store": "/s", "every_s": 0}}, "every_s"),
        ({"updates": {"store": "/s"}}, r"runs /s/current"),
        ({"home_assistant": {"prefix": "home/#"}}, "prefix"),
        ({"home_assistant": {"prefix": "/home"}}, "prefix"),
        ({"home_assistant": {"prefix": ""}}, "prefix"),
        ({"cameras": [{"name": "aa", "source": "x"}] * 2}, "same name"),
        (
            {"annotate": "o.mp4", "cameras": [{"name": n, "source": "x"} for n in ("aa", "bb")]},
            "annotate",
        ),
    ],
)
def test_one_line_names_file_and_key(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    path = write(tmp_path / "agent.yaml", {**MINIMAL, **changes})
    with pytest.raises(UsageError, match=named) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_the_key_comes_first_and_the_expectation_in_words() -> None:
    settings = {**MINIMAL, "cameras": [{"name": "PEN", "source": "x"}]}
    with pytest.raises(UsageError) as caught:
        check_config(settings, "agent.yaml")
    assert str(caught.value) == (
        "agent.yaml: cameras[0].name: expected an id: 2 to 48 of a-z, 0-9 and '-', not beginning "
        "with '-'"
    )
    with pytest.raises(UsageError) as caught:
        check_config({**MINIMAL, "threads": "two"}, "agent.yaml")
    assert str(caught.value) == "agent.yaml: threads: expected `int`, got `str`"


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words", "bundle: [1\n", "a: b: c"])
def test_what_is_no_config_is_refused(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "agent.yaml", text)
    with pytest.raises(UsageError, match=r"agent\.yaml"):
        load_config(path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_bytes(b"bundle: \xff\xfe")
    with pytest.raises(UsageError, match=r"agent\.yaml"):
        load_config(path)


def test_a_missing_config_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="earmark-edge config"):
        load_config(tmp_path / "agent.yaml")


def test_relative_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    settings = {
        "bundle": "bundle",
        "state_dir": "state",
        "annotate": "/out/pen.mp4",
        "cameras": [{"name": "pen-1", "source": "clips/pen.mp4"}],
        "broker": {"url": "mqtts://b", "ca_file": "ca.pem", "password_file": "pw"},
    }
    config = load_config(write(tmp_path / "agent.yaml", settings))
    assert config.bundle == str(tmp_path / "bundle")
    assert config.state_folder() == tmp_path / "state"
    assert config.annotate == "/out/pen.mp4"
    assert config.cameras[0].source == str(tmp_path / "clips/pen.mp4")
    assert config.broker.ca_file == str(tmp_path / "ca.pem")
    assert config.broker.password_file == str(tmp_path / "pw")
    assert config.broker.url == "mqtts://b"


@pytest.mark.parametrize("source", ["rtsp://camera/x", "v4l2:/dev/video0", "/dev/video0"])
def test_addresses_of_cameras_stay_as_they_are(tmp_path: Path, source: str) -> None:
    settings = {**MINIMAL, "cameras": [{"name": "pen-1", "source": source}]}
    config = load_config(write(tmp_path / "agent.yaml", settings))
    assert config.cameras[0].source == source


def test_with_a_store_the_device_runs_its_current_release(tmp_path: Path) -> None:
    settings = {**MINIMAL, "bundle": "store/current", "updates": {"store": "store"}}
    config = load_config(write(tmp_path / "agent.yaml", settings))
    assert config.updates.root() == tmp_path / "store"
    assert config.bundle == str(tmp_path / "store" / "current")
    assert load_config(write(tmp_path / "agent.yaml", MINIMAL)).updates.root() is None


def test_the_reference_is_a_config_and_holds_the_defaults(tmp_path: Path) -> None:
    config = load_config(write(tmp_path / "agent.yaml", reference_config()))
    usual = check_config({**MINIMAL, "bundle": config.bundle}, "test")
    for name in ("broker", "naming", "sightings", "threads", "annotate", "device"):
        assert getattr(config, name) == getattr(usual, name)
    entry = config.cameras[0]
    assert entry == CameraConfig(name=entry.name, source=entry.source)


def structs(kind: Any) -> set[type[msgspec.Struct]]:
    found: set[type[msgspec.Struct]] = set()

    def walk(node: Any) -> None:
        if isinstance(node, msgspec.inspect.StructType):
            found.add(node.cls)
            for field in node.fields:
                walk(field.type)
        for name in ("type", "item_type"):
            if hasattr(node, name):
                walk(getattr(node, name))
        for inner in getattr(node, "types", ()):
            walk(inner)

    walk(msgspec.inspect.type_info(kind))
    return found


def test_the_reference_describes_every_key() -> None:
    lines = reference_config().splitlines()
    names = {
        field.encode_name
        for section in structs(AgentConfig)
        for field in msgspec.structs.fields(section)
    }
    assert {"bundle", "source", "password_file", "min_votes", "update_every_s"} <= names
    for name in names:
        at = next(i for i, line in enumerate(lines) if line.lstrip("# -").startswith(f"{name}:"))
        # A list's first key may have its dash between; the line above is the description.
        assert lines[at - 1].strip().startswith("# "), name
        assert len(lines[at - 1].strip()) > 4, name


def test_the_password_comes_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("s3cret\n")
    broker = BrokerConfig(username="farm", password_file=str(tmp_path / "pw"))
    assert broker.options().password == "s3cret"
    assert broker.options().username == "farm"


def test_the_password_comes_from_the_environment_for_who_has_a_user_name(monkeypatch) -> None:
    monkeypatch.setenv("EARMARK_MQTT_PASSWORD", "s3cret")
    assert BrokerConfig(username="farm").options().password == "s3cret"
    assert BrokerConfig().options().password is None


def test_the_outbox_has_limits_as_the_settings_say() -> None:
    config = check_config(
        {**MINIMAL, "outbox": {"ack": "ingest", "limit_mib": 3, "max_age_h": 2, "ballast_mib": 0}},
        "agent.yaml",
    )
    assert config.outbox.ack == "ingest"
    assert config.outbox.limits() == {
        "limit_bytes": 3 << 20,
        "limit_age_s": 7200,
        "keep_free_bytes": 64 << 20,
        "ballast_bytes": 0,
    }
    assert OutboxConfig(max_age_h=0).limits()["limit_age_s"] is None
    for wrong in ({"ack": "nobody"}, {"limit_mib": 0}, {"gather_s": 1.5}, {"max_age_h": -1}):
        with pytest.raises(UsageError, match="outbox"):
            check_config({**MINIMAL, "outbox": wrong}, "agent.yaml")


def test_a_missing_password_file_is_named(tmp_path: Path) -> None:
    broker = BrokerConfig(username="farm", password_file=str(tmp_path / "pw"))
    with pytest.raises(UsageError, match="pw: password file cannot be read"):
        broker.options()


@pytest.mark.parametrize("host", ["Barn_7.local", "x", "-", "ÄÖ", "a" * 80, "raspberrypi"])
def test_the_host_s_name_makes_a_device_id(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: host)
    check_id("device", default_device())


def test_the_state_folder_is_the_user_s_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    config = check_config({**MINIMAL, "device": "barn-7"}, "test")
    assert config.state_folder() == tmp_path / "earmark" / "barn-7"


@pytest.mark.parametrize("key", ["bundle", "state_dir", "source"])
def test_the_home_of_nobody_is_named(tmp_path: Path, key: str) -> None:
    settings = {"bundle": "b", "state_dir": "s", "source": "pen.mp4", key: "~nobody-here/x"}
    camera = f"[{{name: pen, source: {settings.pop('source')}}}]"
    lines = [*(f"{name}: {value}" for name, value in settings.items()), f"cameras: {camera}"]
    with pytest.raises(UsageError, match="~nobody-here/x: there is no such home folder"):
        load_config(write(tmp_path / "agent.yaml", "\n".join(lines)))


def test_a_tracker_is_one_of_four(tmp_path: Path) -> None:
    text = "bundle: b\ncameras: [{name: pen-1, source: pen.mp4}]\ntracker: "
    assert load_config(write(tmp_path / "a.yaml", text + "window-mean")).tracker == "window-mean"
    with pytest.raises(UsageError, match="tracker: invalid enum value 'sort'"):
        load_config(write(tmp_path / "b.yaml", text + "sort"))

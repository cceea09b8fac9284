"""The agent's settings: one YAML file, every key described, unknown keys refused."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Annotated, Any

import msgspec
import yaml

from edge.capture.clock import ClockTrust
from edge.comparison import TrackerName
from edge.errors import UsageError
from edge.files import expanded
from edge.health.logs import LogFormat, LogLevel
from edge.health.server import parse_listen
from edge.inference.accelerator import parse_accelerator
from edge.messaging.broker import BrokerOptions, read_password
from edge.messaging.flow import Acknowledgement
from edge.messaging.topics import ID_PATTERN
from edge.vision.view import View

# The channel of releases for which the agent takes in what the broker has.
MQTT_CHANNEL = "mqtt:"


def _described(text: str, **limits: Any) -> msgspec.Meta:
    return msgspec.Meta(description=text, **limits)


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every section: immutable, unknown keys refused."""


class CameraConfig(_Section, frozen=True):
    """One camera, or what stands for one."""

    name: Annotated[str, _described("id in topics and events", pattern=ID_PATTERN)]
    source: Annotated[
        str, _described("rtsp://…, /dev/video0, a video file, or a folder of images", min_length=1)
    ]
    fps: Annotated[float, _described("at most so many frames a second", gt=0)] | None = None
    stall_s: Annotated[
        float, _described("seconds without a picture until it is lost; 10 for /dev/video0", gt=0)
    ] = 20.0
    realtime: Annotated[bool, _described("play a file at its own speed, as a camera would")] = False
    loop: Annotated[bool, _described("begin a file again at its end")] = False
    region: Annotated[
        tuple[float, float, float, float],
        _described("x1, y1, x2, y2 of what is looked at, shares of the frame from 0 to 1"),
    ] = (0.0, 0.0, 1.0, 1.0)
    masks: Annotated[
        tuple[tuple[tuple[float, float], ...], ...],
        _described("polygons [[x, y], ...] of what is not looked at, shares of the frame"),
    ] = ()

    def view(self) -> View:
        """Return what of its picture is looked at; ValueError for what cannot be."""
        return View(self.region, self.masks)


class BrokerConfig(_Section, frozen=True):
    """The MQTT broker."""

    url: Annotated[
        str, _described("mqtt://host[:1883], mqtts:// for TLS, ws:// or wss:// for websockets")
    ] = "mqtt://127.0.0.1:1883"
    username: Annotated[str, _described("user name")] | None = None
    password_file: (
        Annotated[
            str, _described("file with the password; without it EARMARK_MQTT_PASSWORD is asked")
        ]
        | None
    ) = None
    ca_file: Annotated[str, _described("PEM of the authority that signed the broker")] | None = None
    cert_file: Annotated[str, _described("PEM of this device's certificate")] | None = None
    key_file: Annotated[str, _described("PEM of this device's key")] | None = None
    keepalive_s: Annotated[int, _described("seconds until a lost connection is noticed", ge=5)] = 60
    drain_per_s: Annotated[
        float, _described("events a second, at most, after an outage; 0 for no limit", ge=0)
    ] = 200.0

    def options(self) -> BrokerOptions:
        """Return what the MQTT client needs; UsageError for a password file that is missing."""
        password = None
        # Without a user name the environment's password is meant for somebody else.
        if self.username is not None or self.password_file is not None:
            password = read_password(_path(self.password_file))
        return BrokerOptions(
            url=self.url,
            username=self.username,
            password=password,
            ca_file=_path(self.ca_file),
            cert_file=_path(self.cert_file),
            key_file=_path(self.key_file),
            keepalive_s=self.keepalive_s,
        )


class OutboxConfig(_Section, frozen=True):
    """Where events wait, on disk."""

    ack: Annotated[
        Acknowledgement, _described("who must have an event before it goes: broker, or ingest")
    ] = "broker"
    limit_mib: Annotated[int, _described("beyond it the oldest events are dropped", ge=1)] = 256
    max_age_h: Annotated[
        float, _described("hours that an event waits while the agent runs; 0 for ever", ge=0)
    ] = 720.0
    keep_free_mib: Annotated[
        int, _described("with less free disk the outbox does not grow any more", ge=0)
    ] = 64
    ballast_mib: Annotated[
        int, _described("kept beside it, and given up when the disk is full", ge=0)
    ] = 8
    gather_s: Annotated[
        float,
        _described("seconds that events may be gathered until they are stored", ge=0, le=1),
    ] = 1.0

    def limits(self) -> dict[str, Any]:
        """Return the outbox's limits, as its keyword arguments."""
        return {
            "limit_bytes": self.limit_mib << 20,
            "limit_age_s": self.max_age_h * 3600 or None,
            "keep_free_bytes": self.keep_free_mib << 20,
            "ballast_bytes": self.ballast_mib << 20,
        }


class InferenceConfig(_Section, frozen=True):
    """What the models run on."""

    accelerator: Annotated[
        str, _described("auto, cpu, edgetpu, gpu, or delegate:/path/lib.so?key=value", min_length=1)
    ] = "auto"
    require: Annotated[bool, _described("refuse to run on the CPU instead")] = False
    stuck_s: Annotated[
        float, _described("seconds without an answer until inference is restarted", ge=1)
    ] = 10.0


class LogConfig(_Section, frozen=True):
    """What is written to standard error."""

    format: Annotated[LogFormat, _described("text, or json: an object a line")] = "text"
    level: Annotated[LogLevel, _described("debug, info, warning or error")] = "warning"


class HealthConfig(_Section, frozen=True):
    """Pages for whoever watches over the device."""

    listen: Annotated[str, _described("HOST:PORT of /healthz and /metrics, 127.0.0.1:9110")] = ""
    allow_remote: Annotated[bool, _described("listen beyond this machine; nobody logs in")] = False


class CropsConfig(_Section, frozen=True):
    """Crops that are kept for a person to look at."""

    keep: Annotated[int, _described("so many, in the state folder; 0 for none", ge=0)] = 200


class SightingsConfig(_Section, frozen=True):
    """When a sighting is told again."""

    update_every_s: Annotated[float, _described("seconds between updates", gt=0)] = 30.0
    hold_s: Annotated[float, _described("a name lost for less is not told", ge=0)] = 3.0


class NamingConfig(_Section, frozen=True):
    """When an animal has a name."""

    min_votes: Annotated[int, _described("good crops that must agree", ge=1)] = 3
    min_share: Annotated[float, _described("share of all votes an animal needs", gt=0, le=1)] = 0.5
    unknown_after_s: Annotated[float, _described("seconds until nobody is told as such", gt=0)] = (
        10.0
    )
    max_crops: Annotated[int, _described("crops embedded a frame, at most", ge=1)] = 8


class CommandsConfig(_Section, frozen=True):
    """What the device may be told over MQTT."""

    enabled: Annotated[bool, _described("take commands from whoever may publish them")] = True
    snapshots: Annotated[bool, _described("let them ask for pictures, which leave the farm")] = (
        False
    )


class UpdatesConfig(_Section, frozen=True):
    """Releases that come by themselves: verified, tried, and taken back when they do not work."""

    store: Annotated[
        str, _described("folder of the releases; then `bundle` is its link `current`")
    ] = ""
    channels: Annotated[
        tuple[str, ...],
        _described("where releases come from: https://…, file:///folder, mqtt: (class means)"),
    ] = ()
    ca_file: (
        Annotated[str, _described("PEM of the authority that signed the web server")] | None
    ) = None
    every_s: Annotated[float, _described("seconds between two looks", ge=1)] = 900.0
    soak_s: Annotated[float, _described("seconds that other models must work well", ge=0)] = 30.0
    soak_frames: Annotated[int, _described("frames that they must work well", ge=1)] = 50
    means_soak_frames: Annotated[
        int, _described("frames that other class means alone must work well", ge=1)
    ] = 5
    limit_kib_s: Annotated[int, _described("KiB a second, at most; 0 for no limit", ge=0)] = 0

    def root(self) -> Path | None:
        """Return the folder of the releases; None where they do not come by themselves."""
        return expanded(self.store) if self.store else None


class HomeAssistantConfig(_Section, frozen=True):
    """Entities that appear in Home Assistant by themselves."""

    enabled: Annotated[bool, _described("announce this device to Home Assistant")] = False
    prefix: Annotated[
        str,
        _described(
            "Home Assistant's discovery prefix",
            pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$(?!\n)",
            max_length=100,
        ),
    ] = "homeassistant"
    animals: Annotated[bool, _described("two entities for every animal of the herd as well")] = (
        False
    )


class AgentConfig(_Section, frozen=True):
    """The whole of agent.yaml."""

    bundle: Annotated[str, _described("folder of the bundle to run", min_length=1)]
    cameras: Annotated[list[CameraConfig], _described("what to look at", min_length=1)]
    device: Annotated[str, _described("id of this device in topics", pattern=ID_PATTERN)] = ""
    state_dir: Annotated[str, _described("folder for the outbox; must survive a restart")] = ""
    threads: Annotated[int, _described("threads of one inference", ge=1, le=64)] = 2
    clock: Annotated[
        ClockTrust, _described("ntp: believed once it was synchronised; system: as it is")
    ] = "ntp"
    inference: Annotated[InferenceConfig, _described("what the models run on")] = InferenceConfig()
    tracker: Annotated[
        TrackerName,
        _described("earmark; or, to compare: nearest-box, kalman-appearance, window-mean"),
    ] = "earmark"
    log: Annotated[LogConfig, _described("what is written to standard error")] = LogConfig()
    health: Annotated[HealthConfig, _described("pages for who watches over it")] = HealthConfig()
    crops: Annotated[CropsConfig, _described("crops kept for a person to look at")] = CropsConfig()
    annotate: Annotated[str, _described("write an annotated video here")] | None = None
    broker: Annotated[BrokerConfig, _described("where events go")] = BrokerConfig()
    outbox: Annotated[OutboxConfig, _described("where events wait, on disk")] = OutboxConfig()
    naming: Annotated[NamingConfig, _described("when an animal has a name")] = NamingConfig()
    sightings: Annotated[SightingsConfig, _described("when it is told again")] = SightingsConfig()
    commands: Annotated[CommandsConfig, _described("what the device may be told over MQTT")] = (
        CommandsConfig()
    )
    updates: Annotated[UpdatesConfig, _described("releases that come by themselves")] = (
        UpdatesConfig()
    )
    home_assistant: Annotated[
        HomeAssistantConfig, _described("entities that appear there by themselves")
    ] = HomeAssistantConfig()

    def device_id(self) -> str:
        """Return the device's id; by default made from the host's name."""
        return self.device or default_device()

    def state_folder(self) -> Path:
        """Return the state folder; by default one a device in the user's state home."""
        if self.state_dir:
            return expanded(self.state_dir)
        home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
        return expanded(home) / "earmark" / self.device_id()


def default_device() -> str:
    """Return a device id made from the host's name."""
    name = "".join(c if c.isascii() and c.isalnum() else "-" for c in socket.gethostname().lower())
    name = name.strip("-")[:48].rstrip("-")
    return name if len(name) >= 2 else "earmark-device"


def load_config(path: Path) -> AgentConfig:
    """Read agent.yaml; UsageError names the file and the key that is wrong."""
    return check_config(read_config(path), str(path))


def read_config(path: Path) -> dict[str, Any]:
    """Return agent.yaml as it is, unchecked but for being YAML; UsageError where it is not.

    Relative paths in it are made relative to the file.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such config; `earmark-edge config` prints one") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise UsageError(f"{path}: no settings in it; `earmark-edge config` prints some")
    return _absolute(raw, path.resolve().parent)


def check_config(raw: Any, where: str) -> AgentConfig:
    """Return the settings in `raw`; `where` names their origin in errors (UsageError)."""
    try:
        config = msgspec.convert(raw, type=AgentConfig)
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: {_in_words(str(error))}") from error
    names = [camera.name for camera in config.cameras]
    if len(set(names)) != len(names):
        raise UsageError(f"{where}: two cameras have the same name; names are ids in topics")
    for camera in config.cameras:
        try:
            camera.view()
        except ValueError as error:
            raise UsageError(f"{where}: camera {camera.name}: {error}") from error
    try:
        parse_accelerator(config.inference.accelerator)
    except UsageError as error:
        raise UsageError(f"{where}: inference.{error}") from error
    if config.health.listen:
        try:
            parse_listen(config.health.listen, remote=config.health.allow_remote)
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from error
    root = config.updates.root()
    if root is not None and expanded(config.bundle).absolute() != (root / "current").absolute():
        raise UsageError(
            f"{where}: bundle: with `updates.store` the device runs {root / 'current'}; write that"
        )
    if config.annotate is not None and len(names) > 1:
        raise UsageError(f"{where}: `annotate` writes one video, so it takes one camera")
    return config


def _in_words(problem: str) -> str:
    """Return msgspec's message with the key in front, and ids described instead of as a regex."""
    what, _, place = problem.partition(" - at `$")
    regex = f"`str` matching regex {ID_PATTERN!r}"
    what = what.replace(regex, "an id: 2 to 48 of a-z, 0-9 and '-', not beginning with '-'")
    key = place.rstrip("`").lstrip(".")
    return f"{key}: {what[:1].lower()}{what[1:]}" if key else what


def reference_config() -> str:
    """Return a commented agent.yaml with every key, made from the descriptions."""
    lines = ["# Settings of earmark-edge. Only `bundle` and `cameras` must be given."]
    lines += _reference(AgentConfig, "")
    return "\n".join(lines) + "\n"


_EXAMPLES: dict[str, Any] = {
    "bundle": "/var/lib/earmark/bundle",
    "name": "pen-1",
    "source": "rtsp://camera.example/stream",
}


def _reference(section: type[msgspec.Struct], indent: str) -> list[str]:
    lines: list[str] = []
    info_of_section = msgspec.inspect.type_info(section)
    assert isinstance(info_of_section, msgspec.inspect.StructType)
    for field, info in zip(msgspec.structs.fields(section), info_of_section.fields, strict=True):
        kind, description = _unwrapped(info.type)
        lines.append(f"{indent}# {description}")
        if isinstance(kind, msgspec.inspect.StructType):
            lines.append(f"{indent}{field.encode_name}:")
            lines += _reference(kind.cls, indent + "  ")
        elif isinstance(kind, msgspec.inspect.ListType):
            inner = kind.item_type
            lines.append(f"{indent}{field.encode_name}:")
            if isinstance(inner, msgspec.inspect.StructType):
                entry = _reference(inner.cls, indent + "    ")
                first = next(n for n, line in enumerate(entry) if not line.strip().startswith("#"))
                entry[first] = f"{indent}  - {entry[first].strip()}"
                lines += entry
        elif field.required:
            lines.append(f"{indent}{field.encode_name}: {_EXAMPLES[field.encode_name]}")
        else:
            unset = field.default in (None, "")
            text = "" if unset else msgspec.json.encode(field.default).decode()
            mark = "# " if unset else ""
            lines.append(f"{indent}{mark}{field.encode_name}: {text}".rstrip())
    return lines


def _unwrapped(kind: msgspec.inspect.Type) -> tuple[msgspec.inspect.Type, str]:
    """Return the type below annotations and `| None`, and its description."""
    description = ""
    while True:
        if isinstance(kind, msgspec.inspect.Metadata):
            extra = kind.extra_json_schema or {}
            description = description or str(extra.get("description", ""))
            kind = kind.type
        elif isinstance(kind, msgspec.inspect.UnionType):
            kind = next(t for t in kind.types if not isinstance(t, msgspec.inspect.NoneType))
        else:
            return kind, description


def _absolute(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the settings with file names made relative to the config's own folder."""

    def resolved(value: Any) -> Any:
        return str(folder / expanded(value)) if isinstance(value, str) and value else value

    raw = dict(raw)
    for name in ("bundle", "state_dir", "annotate"):
        if name in raw:
            raw[name] = resolved(raw[name])
    if isinstance(raw.get("broker"), dict):
        raw["broker"] = {
            name: resolved(value) if name.endswith("_file") else value
            for name, value in raw["broker"].items()
        }
    if isinstance(raw.get("updates"), dict):
        raw["updates"] = {
            name: resolved(value) if name in ("store", "ca_file") else value
            for name, value in raw["updates"].items()
        }
    if isinstance(raw.get("cameras"), list):
        raw["cameras"] = [
            {**camera, "source": resolved(camera["source"])}
            if isinstance(camera, dict)
            and isinstance(camera.get("source"), str)
            and ":" not in camera["source"]
            else camera
            for camera in raw["cameras"]
        ]
    return raw


def _path(name: str | None) -> Path | None:
    return None if name is None else Path(name)

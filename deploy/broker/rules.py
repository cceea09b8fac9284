"""Who may read and write what: mosquitto's ACL, from the roles of the certificates."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from string import Template
from typing import Literal, get_args

from edge.messaging.topics import ROOT

Role = Literal["device", "operator", "ingest", "home-assistant", "reader"]
ROLES: tuple[Role, ...] = get_args(Role)

_READ = f"topic read {ROOT}/+/up/#"
# Devices need no lines of their own: the patterns are theirs.
_RULES: Mapping[Role, tuple[str, ...]] = {
    "operator": (
        _READ,
        f"topic write {ROOT}/+/down/command",
        f"topic readwrite {ROOT}/+/down/hint",
        # Files of the repository of releases, which devices believe for their signatures alone.
        f"topic readwrite {ROOT}/+/down/repo/#",
    ),
    "ingest": (_READ, f"topic readwrite {ROOT}/+/down/ingest"),
    "home-assistant": (_READ, "topic read homeassistant/#", "topic write homeassistant/status"),
    "reader": (_READ,),
}


def acl(roles: Mapping[str, Role]) -> str:
    """Return mosquitto's ACL file for certificates by common name."""
    sections = [_template("acl")]
    for name, role in sorted(roles.items()):
        lines = [f"user {name}"]
        if role == "device":
            # When Home Assistant comes back, devices introduce themselves again.
            lines += ["topic read homeassistant/status"]
        else:
            # The patterns hold for every name; nobody but a device is one.
            lines += [f"topic deny {ROOT}/{name}/#", f"topic deny homeassistant/device/{name}/#"]
            lines += _RULES[role]
        sections.append(f"# {role}\n" + "\n".join(lines) + "\n\n")
    return "".join(sections)


def configuration(folder: str, state: str) -> str:
    """Return mosquitto.conf. folder: where the kit's files lie there; state: for what it stores."""
    return Template(_template("mosquitto.conf")).substitute(folder=folder, state=state)


def _template(name: str) -> str:
    return (resources.files("deploy") / "mosquitto" / name).read_text(encoding="utf-8")

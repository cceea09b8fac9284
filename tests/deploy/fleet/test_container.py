"""The container's files name what is there; building it needs an engine and a network."""

from __future__ import annotations

import shlex
import tomllib
from pathlib import Path

import yaml

PROJECT = Path(__file__).parents[3]
CONTAINER = PROJECT / "deploy" / "container"


def test_everything_that_is_copied_is_there_and_all_that_the_wheel_needs_is_copied():
    lines = (CONTAINER / "Containerfile").read_text().replace("\\\n", " ").splitlines()
    copied = {
        word
        for line in lines
        if line.startswith("COPY ") and "--from" not in line
        for word in shlex.split(line)[1:-1]
    }
    assert all((PROJECT / name).exists() for name in copied)
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    packages = project["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {name.rstrip("*") for name in packages} <= copied
    assert {project["project"]["readme"], *project["project"]["license-files"]} <= copied
    assert {"edge", "metrics"} <= set(project["project"]["optional-dependencies"])


def test_agent_and_updater_share_one_store():
    services = yaml.safe_load((CONTAINER / "compose.yaml").read_text())["services"]
    assert {name: one["command"][0] for name, one in services.items()} == {
        "agent": "run",
        "updater": "updater",
    }
    assert services["agent"]["volumes"] == services["updater"]["volumes"]

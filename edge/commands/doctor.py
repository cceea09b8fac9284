"""`earmark-edge doctor`: examine this device, a verdict a line."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from edge.commands.options import Commands, add_verbose
from edge.config import load_config

_MARKS = {"ok": "[green]ok  [/]", "warn": "[yellow]warn[/]", "fail": "[red]FAIL[/]"}


def add_parser(commands: Commands) -> None:
    """Add the command to those of `earmark-edge`."""
    doctor = commands.add_parser("doctor", help="say what is wrong with this device")
    doctor.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="the agent's agent.yaml"
    )
    doctor.add_argument("--json", action="store_true", help="one JSON line a verdict")
    add_verbose(doctor)
    doctor.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.markup import escape

    from edge.doctor import examination

    config = load_config(options.config)
    console = Console(highlight=False)
    counts = {"ok": 0, "warn": 0, "fail": 0}
    for verdict in examination(config):
        counts[verdict.level] += 1
        if options.json:
            row = {
                "level": verdict.level,
                "topic": verdict.topic,
                "text": verdict.text,
                "advice": verdict.advice,
            }
            print(json.dumps(row), flush=True)
            continue
        line = f"{_MARKS[verdict.level]} {escape(verdict.topic)}: {escape(verdict.text)}"
        console.print(line, soft_wrap=True)
        if verdict.advice:
            console.print(f"       → {escape(verdict.advice)}", soft_wrap=True)
    if not options.json:
        console.print(f"{counts['ok']} ok, {counts['warn']} to look at, {counts['fail']} failed")
    return 1 if counts["fail"] else 0

"""The command lines of `flash`, `usb`, `provision` and `status`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from deploy.connecting import Commands, add_broker, broker_options, seconds
from edge.errors import UsageError
from edge.messaging.topics import check_id

if TYPE_CHECKING:
    from deploy.fleet.inventory import Device
    from deploy.fleet.repository import Repository
    from deploy.fleet.ssh import Keyring

_WIDE = 200


def add_parser(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the commands."""
    _add_provision(commands, common)
    _add_flash(commands, common)
    _add_usb(commands, common)
    _add_status(commands, common)


def _add_provision(commands: Commands, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "provision",
        parents=[common],
        help="set up devices over SSH: packages, services, certificate, settings",
        description="Make hosts with SSH and Python into devices, or bring them up to date; a "
        "second run changes nothing. The devices need no network but this one (docs/provision.md).",
    )
    parser.add_argument(
        "what", metavar="INVENTORY.yaml|[USER@]HOST[:PORT]", help="devices, or one host"
    )
    parser.add_argument(
        "--repo", type=Path, metavar="DIR", help="repository whose first root devices trust"
    )
    parser.add_argument("--device", metavar="ID", help="id of the one host's device")
    parser.add_argument("--config", metavar="FILE", help="agent.yaml of the one host")
    parser.add_argument("--key", metavar="FILE", help="SSH key for the one host")
    parser.add_argument("--kit", metavar="DIR", help="broker kit with the one host's certificate")
    parser.add_argument("--broker", metavar="URL", help="the one host's broker")
    parser.add_argument("--wheel", type=Path, metavar="FILE", help="earmark's wheel, built")
    parser.add_argument("--constraints", type=Path, metavar="FILE", help="versions of packages")
    parser.add_argument("--uninstall", action="store_true", help="take everything away again")
    parser.add_argument(
        "--purge", action="store_true", help="with --uninstall: releases and events too"
    )
    _add_ssh(parser)
    parser.set_defaults(run=_provision)


def _add_flash(commands: Commands, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "flash",
        parents=[common],
        help="bring releases to devices over SSH",
        description="Copy to each device what is assigned to it, and wait until it has tried and "
        "taken it. Run it again after a failure: it goes on where it was (docs/flash.md).",
    )
    parser.add_argument("inventory", type=Path, metavar="INVENTORY.yaml")
    parser.add_argument("--repo", type=Path, required=True, metavar="DIR", help="the repository")
    parser.add_argument(
        "--canary", type=_count, default=0, metavar="N", help="N devices first; all must succeed"
    )
    parser.add_argument(
        "--wait",
        dest="wait_s",
        type=seconds,
        default=1800.0,
        metavar="SECONDS",
        help="for a device's trial (1800)",
    )
    _add_ssh(parser)
    parser.set_defaults(run=_flash)


def _add_usb(commands: Commands, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "usb",
        parents=[common],
        help="write a stick that devices take releases from",
        description="Write what devices need to a stick that is mounted at DIR (FAT or exFAT). A "
        "provisioned device takes it when it is plugged in.",
    )
    parser.add_argument("dir", type=Path, metavar="DIR", help="where the stick is mounted")
    parser.add_argument("--repo", type=Path, required=True, metavar="DIR", help="the repository")
    parser.add_argument(
        "--device", nargs="+", action="extend", default=[], metavar="ID", help="these devices"
    )
    parser.add_argument(
        "--inventory", type=Path, metavar="FILE", help="every device of it, without --device"
    )
    parser.set_defaults(run=_usb)


def _add_status(commands: Commands, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "status",
        parents=[common],
        help="show how all devices are",
        description="Ask the broker what each device last said of itself, and show it.",
    )
    add_broker(parser)
    parser.add_argument("--json", action="store_true", help="a JSON array for programs")
    parser.add_argument(
        "--wait",
        dest="wait_s",
        type=seconds,
        default=10.0,
        metavar="SECONDS",
        help="for the broker's last word, at most (10)",
    )
    parser.set_defaults(run=_status)


def _add_ssh(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--only", nargs="+", action="extend", default=[], metavar="ID", help="devices or groups"
    )
    parser.add_argument("--jobs", type=_positive, default=8, metavar="N", help="at a time (8)")
    parser.add_argument(
        "--max-failures",
        type=_count,
        default=10,
        metavar="N",
        help="begin no more devices once more than N have failed (10)",
    )
    parser.add_argument(
        "--limit-kib-s", type=_positive, metavar="N", help="KiB a second, all devices together"
    )
    parser.add_argument("--dry-run", action="store_true", help="tell what would be done")
    parser.add_argument(
        "--accept-new", action="store_true", help="trust hosts that known_hosts does not know yet"
    )
    parser.add_argument("--known-hosts", type=Path, metavar="FILE", help="(~/.ssh/known_hosts)")
    parser.add_argument("--ssh-config", type=Path, metavar="FILE", help="(~/.ssh/config)")


def _provision(options: argparse.Namespace) -> int:
    from deploy.fleet.pace import Pace
    from deploy.fleet.plan import make_plan
    from deploy.fleet.progress import shown
    from deploy.fleet.provision import Options, Provisioner, report
    from deploy.fleet.rollout import Terms
    from deploy.fleet.wheelhouse import default_sources

    if options.purge and not options.uninstall:
        raise UsageError("--purge belongs to --uninstall")
    devices = _devices(options)
    plans, sources = {}, None
    if not options.uninstall:
        repository = _repository(options.repo) if options.repo else None
        plans = {name: make_plan(name, one, repository) for name, one in devices.items()}
        if any(one.environment is None for one in devices.values()):
            sources = default_sources(options.wheel, options.constraints)
    terms = Terms(options.jobs, max_failures=options.max_failures)
    with shown(Console(stderr=True), list(devices)) as progress:
        provisioner = Provisioner(
            devices,
            plans,
            _keyring(options),
            Options(options.uninstall, options.purge, options.dry_run),
            progress,
            sources=sources,
            pace=Pace(_bytes_s(options)),
        )
        rolled = asyncio.run(provisioner.run(terms))
    for line in report(rolled, list(devices), dry=options.dry_run):
        print(line)
    well = all(outcome.failure is None for outcome in rolled.results.values())
    return 0 if well and not rolled.stopped else 1


def _flash(options: argparse.Namespace) -> int:
    from deploy.fleet.flash import Flasher, table
    from deploy.fleet.pace import Pace
    from deploy.fleet.progress import shown
    from deploy.fleet.rollout import Terms

    devices = _devices(options)
    terms = Terms(options.jobs, options.canary, options.max_failures)
    repository = _repository(options.repo)
    with shown(Console(stderr=True), list(devices)) as progress:
        flasher = Flasher(
            devices,
            repository,
            _keyring(options),
            progress,
            pace=Pace(_bytes_s(options)),
            wait_s=options.wait_s,
            dry=options.dry_run,
        )
        rolled = asyncio.run(flasher.run(terms))
    _console().print(table(rolled, list(devices)))
    well = all(outcome.state != "failed" for outcome in rolled.results.values())
    return 0 if well and not rolled.stopped else 1


def _usb(options: argparse.Namespace) -> int:
    from deploy.fleet.inventory import load_inventory
    from deploy.fleet.usb import write_stick

    names = [check_id("device", name) for name in options.device]
    if not names:
        if options.inventory is None:
            raise UsageError("say for whom: --device ID …, or --inventory FILE")
        names = list(load_inventory(options.inventory))
    repository = _repository(options.repo)
    written = write_stick(options.dir, repository, names, datetime.now(UTC), told=print)
    print(
        f"{options.dir}: {written.copied} files written, {written.kept} were there, "
        f"{written.size / 1e6:.2f} MB in all, read again and right; unmount it before you pull it"
    )
    return 0


def _status(options: argparse.Namespace) -> int:
    from deploy.fleet.status import as_json, ask, table

    fleet = ask(broker_options(options), options.wait_s)
    now = datetime.now(UTC)
    if options.json:
        print(as_json(fleet))
    else:
        _console().print(table(fleet, now))
    return 0


def _devices(options: argparse.Namespace) -> dict[str, Device]:
    from deploy.fleet.inventory import choose, load_inventory

    what = str(getattr(options, "inventory", None) or options.what)
    if what.endswith((".yaml", ".yml")) or Path(what).is_file():
        given = ("device", "config", "key", "kit", "broker")
        if extra := [name for name in given if getattr(options, name, None)]:
            raise UsageError(f"--{extra[0]} belongs to one host; the inventory says it of each")
        return choose(load_inventory(Path(what)), options.only)
    return _one_host(what, options)


def _one_host(what: str, options: argparse.Namespace) -> dict[str, Device]:
    """Return the inventory of one host that the command line describes."""
    from deploy.fleet.inventory import read_inventory

    user, _, rest = what.rpartition("@")
    host, colon, port = rest.rpartition(":")
    # A bare IPv6 address has colons of its own; with a port it stands in brackets.
    if not colon or not port.isdigit() or (":" in host and not host.endswith("]")):
        host, port = rest, "22"
    host = host.removeprefix("[").removesuffix("]")
    name = check_id("device", options.device or host)
    entry: dict[str, object] = {"host": host, "port": int(port), "user": user or "root"}
    if options.config:
        entry["config"] = options.config
    elif not options.uninstall:
        raise UsageError("give the device's settings: --config agent.yaml")
    if options.key:
        entry["key"] = options.key
    broker = {"url": options.broker, "kit": options.kit}
    entry["broker"] = {key: value for key, value in broker.items() if value}
    return read_inventory({"devices": {name: entry}}, what, Path.cwd())


def _repository(folder: Path) -> Repository:
    from deploy.fleet.repository import Repository

    # What `repo init` makes holds keys beside the folder that is for devices.
    public = folder / "public"
    return Repository(public if (public / "metadata").is_dir() else folder)


def _keyring(options: argparse.Namespace) -> Keyring:
    from deploy.fleet.ssh import Keyring

    return Keyring(
        accept_new=options.accept_new,
        known_hosts=options.known_hosts,
        ssh_config=options.ssh_config,
    )


def _bytes_s(options: argparse.Namespace) -> float | None:
    return None if options.limit_kib_s is None else options.limit_kib_s * 1024.0


def _console() -> Console:
    # A pipe has no width: programs that read it get whole lines.
    return Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False, markup=False)


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("give 0 or more")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("give 1 or more")
    return value

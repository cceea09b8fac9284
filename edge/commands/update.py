"""`earmark-edge updater` and `earmark-edge update`: releases, by themselves or by hand."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from edge.capture.clock import believe_system, wall_time
from edge.commands.options import Commands, add_verbose, say
from edge.config import AgentConfig, load_config
from edge.errors import EarmarkError, UsageError
from edge.health import set_up_logs
from edge.health.notify import Notifier
from edge.messaging.events import UpdateReport, encode
from edge.release import install
from edge.release.daemon import Daemon
from edge.release.heartbeat import read_heartbeat
from edge.release.inbox import wake_updater
from edge.release.report import read_report
from edge.release.state import StateDamagedError, read_floor, read_journal
from edge.release.store import Store
from edge.release.telling import report_now
from edge.release.turn import turn
from edge.release.updater import Updater
from edge.updating import new_updater

LOG = logging.getLogger("earmark.updater")
_REFUSED, _DEFERRED = 1, 3
_TURN_S = 900.0
_PATIENCE_S = 600.0


def add_parser(commands: Commands) -> None:
    """Add both commands to those of `earmark-edge`."""
    daemon = commands.add_parser("updater", help="keep this device's release up to date")
    _add_config(daemon)
    daemon.set_defaults(run=_run_daemon)

    update = commands.add_parser("update", help="look for a release now, or see to what there is")
    _add_config(update)
    update.add_argument(
        "--from", dest="source", metavar="URL", help="this channel only: https://…, file:///folder"
    )
    update.add_argument("--once", action="store_true", help="do not wait for clock, disk or agent")
    update.add_argument(
        "--without-agent",
        action="store_true",
        help="no agent runs here: the models' own test decides",
    )
    update.set_defaults(run=_run_update)
    acts = update.add_subparsers(metavar="ACT", required=False)
    status = acts.add_parser("status", help="what runs, and what became of the last update")
    _add_config(status)
    status.add_argument("--json", action="store_true", help="as it is told over MQTT")
    status.set_defaults(run=_run_status)
    back = acts.add_parser("rollback", help="go back to the release before, without a network")
    _add_config(back)
    back.set_defaults(run=_run_rollback)
    repair = acts.add_parser("repair", help="make a store whose state was damaged usable again")
    _add_config(repair)
    repair.add_argument("--yes", action="store_true", help="do not ask")
    repair.set_defaults(run=_run_repair)


def _add_config(parser: argparse.ArgumentParser) -> None:
    # Given before or after the act; a default of the inner parser would undo the outer's.
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="agent.yaml; /etc/earmark/agent.yaml",
    )
    add_verbose(parser)


def _run_daemon(options: argparse.Namespace) -> int:
    config, root = _settings(options)
    level = "info" if options.verbose else config.log.level
    set_up_logs(config.log.format, level, journal="JOURNAL_STREAM" in os.environ)
    notifier = Notifier()
    updater = new_updater(config, root, config.updates.channels, alive=notifier.alive)
    daemon = Daemon(root, updater, notifier)

    def stop(number: int, _: object) -> None:
        daemon.stop()
        # Whoever asks twice means at once.
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    daemon.run()
    return 0


def _run_update(options: argparse.Namespace) -> int:
    config, root = _settings(options)
    urls = config.updates.channels if options.source is None else (options.source,)
    told: list[UpdateReport] = []
    updater = new_updater(config, root, urls, agent=not options.without_agent, told=told.append)
    with _my_turn(root):
        _settle(updater, told, once=options.once)
    return _tell_end(told)


def _settle(updater: Updater, told: Sequence[UpdateReport], *, once: bool) -> None:
    """Step until it is installed or refused; or, with `once`, put off."""
    end_s = time.monotonic() + _PATIENCE_S
    phase = ""
    while time.monotonic() < end_s:
        wait_s = updater.step()
        if told and told[-1].phase != phase:
            phase = told[-1].phase
            LOG.info("%s %s", phase, told[-1].candidate or "")
        put_off = bool(told) and told[-1].phase == "deferred"
        if updater.resting and wait_s > 0 and (once or not put_off):
            return
        time.sleep(min(wait_s, max(0.0, end_s - time.monotonic())))


def _tell_end(told: Sequence[UpdateReport]) -> int:
    if not told:
        raise EarmarkError("nothing is known of the update; see `earmark-edge update status`")
    last = told[-1]
    about = f"{last.reason}: {last.text}" if last.reason else last.text
    if last.closed or last.phase in ("rejected", "rolled_back") or last.reason == "no-channel":
        raise EarmarkError(f"nothing was installed: {about}")
    if last.phase == "deferred":
        say(f"put off: {about}")
        return _DEFERRED
    print(f"up to date: release {last.release or 'none'}" + (f" ({about})" if about else ""))
    return 0


def _run_status(options: argparse.Namespace) -> int:
    config, root = _settings(options)
    if options.json:
        print(encode(report_now(root, config.device_id(), wall_time)).decode())
        return 0
    for name, text in _standing(root):
        print(f"{name:<11}{text}")
    return 0


def _standing(root: Path) -> list[tuple[str, str]]:
    """Return what a person wants to know of a store, name and text."""
    current, beat = Store(root).current(), read_heartbeat(root)
    rows = [("release", "none yet" if current is None else current.name)]
    try:
        journal, floor = read_journal(root), read_floor(root)
    except StateDamagedError as error:
        rows.append(("closed", str(error)))
    else:
        rows += [
            ("seqs", f"assignment {floor.assignment}, class means {floor.means}"),
            ("phase", journal.phase + (f" ({journal.reason})" if journal.reason else "")),
            ("before", journal.previous or "none"),
        ]
        rows += [("refused", f"{name}: {why}") for name, why in journal.rejected.items()]
    if beat is not None:
        trial = ", on trial" if beat.trial else ""
        age_s = time.monotonic() - beat.at_monotonic_s
        rows.append(("agent", f"runs {beat.release}{trial}; {beat.backend}; {age_s:.0f} s ago"))
        if beat.error is not None:
            rows.append(("", beat.error))
    return rows


def _run_rollback(options: argparse.Namespace) -> int:
    _, root = _settings(options)
    with _my_turn(root):
        if install.finish(root).done == "trial":
            install.roll_back(root, "operator: taken back by hand")
            current = Store(root).current()
            name = "none" if current is None else current.name
        else:
            name = install.return_to_previous(root, "operator: taken back by hand")
    wake_updater(root)
    print(f"release {name} runs again; the other one is not installed until it is assigned anew")
    return 0


def _run_repair(options: argparse.Namespace) -> int:
    _, root = _settings(options)
    if not options.yes:
        print(
            f"{root}: what may no longer be installed is taken from the releases that are here; a "
            "release that is older than one that was removed could be installed again."
        )
        sys.stdout.write("Repair? [y/N] ")
        sys.stdout.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise UsageError("not repaired")
    report = read_report(root)
    with _my_turn(root):
        floor = install.repair(root, rev=0 if report is None else report.rev)
    wake_updater(root)
    print(f"repaired: assignment {floor.assignment}, class means {floor.means} and later")
    return 0


def _settings(options: argparse.Namespace) -> tuple[AgentConfig, Path]:
    path = getattr(options, "config", Path("/etc/earmark/agent.yaml"))
    config = load_config(path)
    root = config.updates.root()
    if root is None:
        raise UsageError(f"{path}: updates.store is not set, so releases do not come by themselves")
    if config.clock == "system":
        believe_system()
    _become_owner(root)
    return config, root


def _become_owner(root: Path) -> None:
    """Go on as the user whose store it is: what root leaves in it, the updater could not change."""
    try:
        owner = root.stat()
    except OSError:
        return
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.setgroups([])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)


@contextlib.contextmanager
def _my_turn(root: Path) -> Iterator[None]:
    """Work on a store for a block, once the daemon has nothing under way."""
    with turn(root, _TURN_S, lambda: say("another update is under way; waiting for it")) as mine:
        if not mine:
            raise EarmarkError(f"{root}: another update has been under way for {_TURN_S:.0f} s")
        yield

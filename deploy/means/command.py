"""`earmark-deploy means`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from deploy.board import printable
from deploy.command import CommandOptions, ask
from deploy.connecting import Commands, add_broker, broker_options, seconds
from edge.errors import UsageError
from edge.messaging.topics import check_id

if TYPE_CHECKING:
    from deploy.means.push import Fate
    from deploy.repo.repository import Repository

_REPO = Path("repo")


def add_parser(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command and its own subcommands."""
    parser = commands.add_parser(
        "means",
        parents=[common],
        help="send class means to devices, fetch them, compare them",
        description="Class means of running devices (docs/means.md).",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_push(actions.add_parser("push", parents=[common], help="sign and send class means"))
    one = actions.add_parser("pull", parents=[common], help="fetch a device's class means")
    one.add_argument("--device", required=True, metavar="ID")
    one.add_argument("--out", type=Path, metavar="FILE", help="ID-means.npz")
    one.add_argument("--timeout", dest="timeout_s", type=seconds, default=30.0, metavar="SECONDS")
    add_broker(one)
    one.set_defaults(run=_pull)
    one = actions.add_parser("diff", parents=[common], help="show what two class means change")
    one.add_argument("old", type=Path, metavar="OLD.npz")
    one.add_argument("new", type=Path, metavar="NEW.npz")
    one.add_argument("--crops", type=Path, metavar="DIR", help="crops that a device kept")
    one.add_argument("--bundle", type=Path, metavar="DIR", help="whose embedder made the means")
    one.add_argument("--json", action="store_true", help="as JSON")
    one.set_defaults(run=_diff)


def _add_push(one: argparse.ArgumentParser) -> None:
    which = one.add_mutually_exclusive_group(required=True)
    which.add_argument("--device", metavar="ID")
    which.add_argument("--group", metavar="NAME")
    which.add_argument("--all", action="store_true", help="every device")
    one.add_argument("file", type=Path, metavar="MEANS.npz")
    one.add_argument("--repo", type=Path, default=_REPO, metavar="DIR", help="repository (repo)")
    one.add_argument(
        "--keys", type=Path, action="append", metavar="DIR", help="where key files lie (DIR/keys)"
    )
    one.add_argument(
        "--passphrase-file",
        type=Path,
        metavar="F",
        help="passphrase of the keys; without, $EARMARK_REPO_PASSPHRASE, or a prompt",
    )
    one.add_argument(
        "--timeout",
        dest="timeout_s",
        type=seconds,
        default=60.0,
        metavar="SECONDS",
        help="wait so long for devices that are on-line (60)",
    )
    one.add_argument("--no-wait", action="store_true", help="do not wait for what becomes of it")
    add_broker(one)
    one.set_defaults(run=_push)


def _push(options: argparse.Namespace) -> int:
    from deploy.means.letters import devices_of, letters_for, scope_that_serves
    from deploy.means.push import in_words, listen_for_devices, push

    broker = broker_options(options)
    repository = _repository(options)
    scope = _scope(options)
    known = listen_for_devices(broker) if options.all else []
    seq = repository.publish_means(options.file, scope)
    print(f"published for {scope}: means {seq}")
    state = repository.state()
    fleet = state.fleet()
    if fleet is None:
        raise UsageError("nothing is assigned to anybody; earmark-deploy repo assign")
    letters = {}
    for device in sorted({*devices_of(fleet, scope), *known}):
        serves = scope_that_serves(state, fleet, device)
        if serves != scope:
            print(f"{device}: left out; the class means of {serves} go first there")
        else:
            letters[device] = letters_for(state, device)
    if not letters:
        raise UsageError(f"{scope}: no device is known; name one with --device")

    def tell(fate: Fate) -> None:
        print(printable(in_words(fate)), flush=True)

    timeout_s = 0.0 if options.no_wait else options.timeout_s
    fates = push(broker, letters, seq, timeout_s, tell)
    failed = {"refused"} if options.no_wait else {"refused", "silent"}
    return 1 if any(fate.outcome in failed for fate in fates) else 0


def _pull(options: argparse.Namespace) -> int:
    from deploy.means.pull import save_means

    device = check_id("device", options.device)
    out = options.out or Path(f"{device}-means.npz")
    wish = CommandOptions(device=device, name="means", timeout_s=options.timeout_s)
    means = save_means(ask(broker_options(options), wish), out)
    print(f"{out}: {len(means.animals)} animals")
    return 0


def _diff(options: argparse.Namespace) -> int:
    from deploy.means.diff import diff_means, diff_names, lines, name_lines
    from edge.identity.means import load_means

    if (options.crops is None) != (options.bundle is None):
        raise UsageError("--crops and --bundle belong together: the bundle's embedder reads crops")
    old, new = load_means(options.old), load_means(options.new)
    found = diff_means(old, new)
    told, crops, renamed = lines(found), 0, None
    if options.crops is not None:
        from deploy.means.crops import embed_folder

        names, embeddings = embed_folder(options.crops, options.bundle, new.header.embedder_sha256)
        crops, renamed = len(names), diff_names(old, new, embeddings, names)
        told += name_lines(renamed, crops)
    if options.json:
        whole = {"means": found, "crops": crops, "renamed": renamed}
        print(msgspec.json.format(msgspec.json.encode(whole), indent=1).decode())
    else:
        print(printable("\n".join(told)))
    return 0


def _repository(options: argparse.Namespace) -> Repository:
    from deploy.repo.keys import KeyRing
    from deploy.repo.passphrases import passphrases
    from deploy.repo.repository import Repository

    ring = KeyRing(options.keys or [options.repo / "keys"], passphrases(options.passphrase_file))
    return Repository(options.repo, ring)


def _scope(options: argparse.Namespace) -> str:
    if options.all:
        return "all"
    if options.device is not None:
        return f"device/{check_id('device', options.device)}"
    return f"group/{check_id('group', options.group)}"

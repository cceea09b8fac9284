"""`earmark-deploy repo`."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.connecting import Commands
from edge.errors import UsageError

if TYPE_CHECKING:
    from deploy.repo.repository import Repository
    from deploy.repo.status import Status

DEFAULT = Path("repo")
_ROLES = ("root", "targets", "snapshot", "timestamp", "models", "means", "assignments")


def add_parser(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command and its own subcommands."""
    parser = commands.add_parser(
        "repo",
        parents=[common],
        help="sign releases, and say which device runs which",
        description="Make and change the repository that devices update from (docs/releases.md). "
        "Its folder public/ is for them; keys/ stays with you.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        action = actions.add_parser(name, parents=[common], help=text, description=text + ".")
        if name != "init":
            action.add_argument(
                "--dir", type=Path, default=DEFAULT, help="the repository's folder (repo)"
            )
        action.add_argument(
            "--keys",
            type=Path,
            action="append",
            metavar="DIR",
            help="where key files lie, again for more (DIR/keys); new ones go to the first",
        )
        action.add_argument(
            "--passphrase-file",
            type=Path,
            metavar="F",
            help="passphrases of the keys, one a line; without, $EARMARK_REPO_PASSPHRASE, or a "
            "prompt",
        )
        return action

    _add_init(add("init", "Make a new repository and its keys"))
    action = add("publish", "Check, sign and publish a bundle")
    action.add_argument("bundle", type=Path, metavar="BUNDLE", help="its folder")
    action = add("withdraw", "Publish a bundle no more")
    action.add_argument("bundle", metavar="ID", help="the beginning of its id")
    action = add("publish-means", "Check, sign and publish class means")
    action.add_argument("file", type=Path, metavar="MEANS.npz")
    _add_scope(action)
    _add_scope(add("withdraw-means", "Publish a scope's own class means no more"))
    action = add("assign", "Say who runs a published bundle, an older one too")
    action.add_argument("bundle", metavar="ID", help="the beginning of its id; none: nothing own")
    _add_scope(action)
    action = add("group", "Say which devices are in a group")
    action.add_argument("group", metavar="NAME")
    for option in ("--add", "--remove"):
        action.add_argument(option, nargs="+", action="extend", default=[], metavar="DEVICE")
    action = add("rotate", "Give a role new keys; the old ones are worth nothing afterwards")
    action.add_argument("role", choices=_ROLES, metavar="ROLE", help=", ".join(_ROLES))
    action = add("renew", "Sign roles anew before they expire")
    action.add_argument(
        "roles", nargs="*", metavar="ROLE", help="timestamp, snapshot and what expires by default"
    )
    action.add_argument(
        "--beyond",
        type=int,
        default=0,
        metavar="VERSION",
        help="go on from this version at least: after a restore from an old copy",
    )
    action = add("status", "Show what is published, who runs it, and what expires when")
    action.add_argument("--json", action="store_true", help="as JSON")
    action = add("copy", "Copy public/ to a web server's folder or a stick, safely at any moment")
    action.add_argument("target", type=Path, metavar="FOLDER")
    action.add_argument("--assigned", action="store_true", help="only bundles that somebody runs")
    parser.set_defaults(run=run)


def _add_init(action: argparse.ArgumentParser) -> None:
    action.add_argument("dir", nargs="?", type=Path, default=DEFAULT, metavar="DIR")
    action.add_argument(
        "--days",
        type=_role_days,
        nargs="+",
        action="extend",
        default=[],
        metavar="ROLE=N",
        help="how long a role's signature is good for",
    )
    action.add_argument(
        "--root-keys", type=int, default=1, metavar="N", help="keys of the root (1)"
    )
    action.add_argument(
        "--root-threshold", type=int, default=1, metavar="N", help="how many of them sign (1)"
    )
    action.add_argument(
        "--beyond",
        type=int,
        default=0,
        metavar="VERSION",
        help="count on from here: in the place of a repository whose root was lost",
    )


def _add_scope(action: argparse.ArgumentParser) -> None:
    which = action.add_mutually_exclusive_group(required=True)
    which.add_argument("--device", metavar="ID")
    which.add_argument("--group", dest="to_group", metavar="NAME")
    which.add_argument("--all", action="store_true", help="every device")


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from deploy.repo.creating import create_repository
    from deploy.repo.keys import KeyRing
    from deploy.repo.passphrases import passphrases
    from deploy.repo.repository import Repository

    ring = KeyRing(options.keys or [options.dir / "keys"], passphrases(options.passphrase_file))
    if options.action == "init":
        repository = create_repository(
            options.dir,
            ring,
            days=dict(options.days),
            root_keys=options.root_keys,
            root_threshold=options.root_threshold,
            beyond=options.beyond,
        )
        print(f"{repository.public}: for a web server, a stick, the broker")
        print(f"{options.dir / 'root.json'}: for every device, before its first update")
        print(f"{ring.folders[0]}: keep it here, and a copy where nobody looks")
        return 0
    return _act(Repository(options.dir, ring), options)


def _act(repository: Repository, options: argparse.Namespace) -> int:
    match options.action:
        case "publish":
            _publish(repository, options.bundle)
        case "withdraw":
            print(f"withdrawn: {repository.withdraw(options.bundle)}")
        case "publish-means":
            seq = repository.publish_means(options.file, _scope(options))
            print(f"published for {_scope(options)}: means {seq}")
        case "withdraw-means":
            repository.withdraw_means(_scope(options))
            print(f"withdrawn: means of {_scope(options)}")
        case "assign":
            bundle = None if options.bundle == "none" else options.bundle
            print(f"{_scope(options)}: assignment {repository.assign(_scope(options), bundle)}")
        case "group":
            if not options.add and not options.remove:
                raise UsageError("say who: --add DEVICE … or --remove DEVICE …")
            devices = repository.regroup(options.group, options.add, options.remove)
            print(f"{options.group}: {', '.join(devices) or 'nobody, and gone'}")
        case "rotate":
            _rotate(repository, options.role)
        case "renew":
            _renew(repository, options)
        case "status":
            return _status(repository, as_json=options.json)
        case "copy":
            copied = repository.copy(options.target, assigned=options.assigned)
            print(f"{options.target}: {copied} files copied")
    return 0


def _publish(repository: Repository, bundle: Path) -> None:
    from deploy.repo.checking import has_runtime

    print(f"published: {repository.publish(bundle)}")
    if not has_runtime():
        print("its golden questions were not asked here: no TFLite runtime; devices will ask them")


def _rotate(repository: Repository, role: str) -> None:
    old = repository.rotate(role)
    print(f"{role}: new keys in {repository.ring.folders[0]}")
    for keyid in old:
        path = repository.ring.find(role, keyid)
        if path is not None:
            print(f"{path}: worth nothing any more; delete it and its copies")


def _renew(repository: Repository, options: argparse.Namespace) -> None:
    from deploy.repo.status import expiring

    unknown = [role for role in options.roles if role not in _ROLES]
    if unknown:
        raise UsageError(f"{unknown[0]}: no such role; there are {', '.join(_ROLES)}")
    roles = options.roles or sorted({"timestamp", "snapshot", *expiring(repository, _now())})
    repository.renew(roles, beyond=options.beyond)
    print(f"signed anew: {', '.join(roles)}")


def _status(repository: Repository, *, as_json: bool) -> int:
    import msgspec

    from deploy.repo.status import read_status

    status = read_status(repository, _now())
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(status), indent=1).decode())
    else:
        _show(status)
    return 1 if any("expire" in text for text in status.warnings) else 0


def _show(status: Status) -> None:
    print("role         version  good until  keys here")
    for role in status.roles:
        here = sum(path is not None for path in role.keys.values())
        print(
            f"{role.role:<12} {role.version:>7}  {role.expires:%Y-%m-%d}  "
            f"{here} of {len(role.keys)}, {role.threshold} must sign"
        )
    for bundle in status.bundles:
        scopes = ", ".join(f"{scope} ({seq})" for scope, seq in bundle.scopes.items())
        print(f"bundle {bundle.id[:12]}  {bundle.created[:10]}  {scopes or 'nobody'}")
    for means in status.means:
        print(f"means  {means.seq:<12}  for {means.scope}, embedder {means.embedder[:12]}")
    for name, devices in status.groups.items():
        print(f"group  {name}: {', '.join(devices)}")
    for text in status.warnings:
        print(f"! {text}")


def _scope(options: argparse.Namespace) -> str:
    if options.all:
        return "all"
    if options.device is not None:
        return f"device/{options.device}"
    return f"group/{options.to_group}"


def _role_days(text: str) -> tuple[str, int]:
    role, _, days = text.partition("=")
    if role not in _ROLES or not days.isdecimal() or not 1 <= int(days) <= 20 * 365:
        raise argparse.ArgumentTypeError(f"{text!r}: write ROLE=DAYS, such as timestamp=30")
    return role, int(days)


def _now() -> datetime:
    return datetime.now(UTC)

"""`earmark-deploy broker`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.broker.rules import ROLES
from deploy.connecting import Commands

if TYPE_CHECKING:
    from deploy.broker.kit import Kit

DEFAULT = Path("broker")


def add_parser(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command and its own subcommands."""
    parser = commands.add_parser(
        "broker",
        parents=[common],
        help="make certificates, rules and configuration of a mosquitto broker",
        description="Make what a mosquitto needs to know every device by its certificate. The "
        "folder with ca.key stays on this machine; docs/broker.md says what goes where.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    action = actions.add_parser("init", parents=[common], help="make a new kit in a folder")
    action.add_argument("dir", nargs="?", type=Path, default=DEFAULT, metavar="DIR")
    action.add_argument(
        "--host",
        nargs="+",
        action="extend",
        required=True,
        metavar="NAME",
        help="names and addresses by which devices reach the broker",
    )
    action.add_argument(
        "--install-to",
        default="/etc/mosquitto/earmark",
        metavar="DIR",
        help="where the files will lie on the broker's machine (/etc/mosquitto/earmark)",
    )
    action.add_argument(
        "--state",
        default="/var/lib/mosquitto",
        metavar="DIR",
        help="where it keeps messages there (/var/lib/mosquitto)",
    )
    _add_days(action)

    action = actions.add_parser("device", parents=[common], help="a device's certificate")
    action.add_argument("name", metavar="NAME", help="its device id")
    _add_folder(action)
    _add_days(action)

    action = actions.add_parser("client", parents=[common], help="somebody else's certificate")
    action.add_argument("name", metavar="NAME")
    action.add_argument(
        "--role", required=True, choices=[role for role in ROLES if role != "device"]
    )
    _add_folder(action)
    _add_days(action)

    action = actions.add_parser(
        "renew", parents=[common], help="make a certificate good for longer, with the same key"
    )
    action.add_argument("name", metavar="NAME", help="a client's name, or server")
    _add_folder(action)
    _add_days(action)

    action = actions.add_parser("revoke", parents=[common], help="let one be refused from now on")
    action.add_argument("name", metavar="NAME")
    _add_folder(action)

    action = actions.add_parser("list", parents=[common], help="who has a certificate, until when")
    _add_folder(action)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from deploy.broker.kit import Kit, create_kit

    if options.action == "init":
        kit = create_kit(
            options.dir,
            options.host,
            days=options.days,
            configuration_folder=options.install_to,
            state_folder=options.state,
        )
        print(f"{kit.folder}/broker: for the broker's machine, {options.install_to}")
        print(f"{kit.folder}/ca.key: keep it here, and a copy where nobody looks")
        return 0
    kit = Kit(options.dir)
    match options.action:
        case "device":
            print(kit.issue(options.name, "device", days=options.days))
            _reload(kit)
        case "client":
            print(kit.issue(options.name, options.role, days=options.days))
            _reload(kit)
        case "renew":
            print(kit.renew(options.name, days=options.days))
        case "revoke":
            print(kit.revoke(options.name))
            _reload(kit, restart=True)
        case "list":
            _list(kit)
    return 0


def _reload(kit: Kit, *, restart: bool = False) -> None:
    files = "acl and crl.pem" if restart else "acl"
    print(
        f"copy {kit.folder}/broker/{files} to the broker, then: systemctl "
        f"{'restart' if restart else 'reload'} mosquitto"
    )


def _list(kit: Kit) -> None:
    rows = [("server", "broker", kit.register.server_not_after)]
    rows += [
        (name, client.role, "revoked" if client.revoked else client.not_after)
        for name, client in kit.register.clients.items()
    ]
    for name, role, until in rows:
        print(f"{name:<24} {role:<16} {until[:10]}")


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dir", type=Path, default=DEFAULT, help="the kit's folder (broker)")


def _add_days(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--days", type=_days, default=5 * 365, help="how long it is good for (five years)"
    )


def _days(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("give days, 1 or more")
    return value

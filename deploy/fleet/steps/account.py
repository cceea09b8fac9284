"""The account that the services run under."""

from __future__ import annotations

from deploy.fleet.places import ACCOUNT
from deploy.fleet.steps.work import Work
from deploy.fleet.target import Target

# Cameras, GPUs; Corals, where libedgetpu's own rules are installed.
_GROUPS = ("video", "render", "plugdev", "apex")


async def apply(target: Target, work: Work) -> None:
    """Make the account, without a password or a shell, and let it use cameras."""
    if not target.places.real:
        return
    known = await target.ask('getent passwd "$1"', ACCOUNT)
    if known.code != 0:
        await target.change(
            f"account {ACCOUNT} made",
            'useradd --system --user-group --no-create-home --home-dir "$2" '
            '--shell /usr/sbin/nologin "$1"',
            ACCOUNT,
            target.places.store,
        )
    has = (await target.ask('id -nG "$1"', ACCOUNT)).out.decode().split()
    for group in _GROUPS:
        there = (await target.ask('getent group "$1"', group)).code == 0
        if there and group not in has:
            await target.change(
                f"{ACCOUNT} is in group {group}", 'usermod -aG "$2" "$1"', ACCOUNT, group
            )


async def remove(target: Target, purge: bool) -> None:
    """Remove the account when nothing is left that is its own."""
    if not target.places.real or not purge:
        return
    if (await target.ask('getent passwd "$1"', ACCOUNT)).code == 0:
        await target.change(f"account {ACCOUNT} removed", 'userdel "$1"', ACCOUNT)

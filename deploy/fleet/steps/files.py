"""A device's folders, where its trust begins, its settings and secrets."""

from __future__ import annotations

import posixpath

from deploy.fleet.places import ACCOUNT
from deploy.fleet.plan import SECRETS
from deploy.fleet.ssh import DeviceError
from deploy.fleet.steps.work import Work
from deploy.fleet.target import Target


async def apply_folders(target: Target, work: Work) -> None:
    """Make the folders. What flash fills belongs to who logs in, so that it needs no privilege."""
    places = target.places
    own = target.owner(ACCOUNT, ACCOUNT)
    login = target.owner(target.device.user, await _group(target))
    await target.glance(
        *(places.programs, places.secrets, places.store, places.cache, places.wheels),
        places.repository,
    )
    if not await target.exists(places.programs):
        await target.folder(places.programs, mode=0o755)
    await target.folder(places.secrets, mode=0o750, owner=target.owner("root", ACCOUNT))
    await target.folder(places.store, mode=0o750, owner=own)
    await target.folder(places.cache, mode=0o755, owner=target.owner("root", "root"))
    await target.folder(places.wheels, mode=0o755, owner=login)
    await target.folder(places.repository, mode=0o755, owner=login)


async def remove_folders(target: Target, purge: bool) -> None:
    """Remove settings, secrets and copies; releases, trust and the outbox only when asked to."""
    await target.remove(target.places.secrets)
    await target.remove(target.places.cache)
    if purge:
        await target.remove(target.places.store)


async def apply_trust(target: Target, work: Work) -> None:
    """Write the repository's first root, once: whom a device trusts is not changed from afar."""
    if work.plan.root is None:
        return
    places = target.places
    own = target.owner(ACCOUNT, ACCOUNT)
    path = f"{places.store}/trust/root.json"
    await target.folder(posixpath.dirname(path), mode=0o750, owner=own)
    there = await target.ask('[ ! -e "$1" ] || cat -- "$1"', path)
    if there.code != 0:
        raise DeviceError(f"{target.where}: {path}: {there.error}")
    if there.out in work.plan.roots:
        return
    if there.out:
        raise DeviceError(
            f"{target.where}: {path}: it trusts another repository, and keeps to it; to begin "
            "anew: earmark-deploy provision … --uninstall --purge"
        )
    await target.write(path, work.plan.root, mode=0o644, owner=own)


async def apply_settings(target: Target, work: Work) -> None:
    """Write agent.yaml and the secrets that it names; remove secrets that it names no more."""
    places = target.places
    owner = target.owner("root", ACCOUNT)
    wanted = {**work.plan.secrets, "agent.yaml": work.plan.settings}
    await target.glance(*(f"{places.secrets}/{name}" for name in (*SECRETS, "agent.yaml")))
    for name in SECRETS:
        if name not in wanted:
            work.restart |= await target.remove(f"{places.secrets}/{name}")
    for name, data in wanted.items():
        work.restart |= await target.write(
            f"{places.secrets}/{name}", data, mode=0o640, owner=owner
        )


async def leave(target: Target, purge: bool) -> None:
    """Remove nothing: it lies in folders that others remove."""


async def _group(target: Target) -> str:
    """Return the group of who logs in; a name that is the user's own is not for certain."""
    if not target.places.real:
        return ""
    return await target.do('id -gn -- "$1"', target.device.user)

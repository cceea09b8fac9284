"""Which release is started: the one on trial while it has tries left, otherwise the current one."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edge.durable import DurableError, at
from edge.errors import BundleError
from edge.release.state import (
    MOST_TRIES,
    Boot,
    StateDamagedError,
    boot_locked,
    read_boot,
    write_boot,
)
from edge.release.store import Store

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Selected:
    """The release to run, its folder, and whether it has yet to prove itself."""

    directory: Path
    release: str
    trial: bool


def select(root: Path) -> Selected:
    """Return the release to start now.

    A trial's try is counted, and the count is on the disk, before this returns: a release that
    takes the device down with it is started twice and no more. Where the count cannot be read or
    kept, the current release is started. BundleError when there is none.
    """
    store = Store(root)
    try:
        with boot_locked(root):
            boot = read_boot(root)
            if _may_try(store, boot):
                assert boot.trial is not None
                write_boot(root, msgspec.structs.replace(boot, tries=boot.tries + 1))
                at("select: counted")
                return Selected(store.release(boot.trial), boot.trial, True)
    except StateDamagedError as error:
        LOG.warning("%s: %s; the current release is started", error.path, error.why)
    except DurableError as error:
        LOG.warning("%s; the current release is started", error)
    return _current(store)


def peek(root: Path, running: str) -> Selected:
    """Return the release that should run where `running` does; counts nothing.

    One that is on trial goes on when it is the one that runs, however often it was started.
    """
    store = Store(root)
    try:
        boot = read_boot(root)
    except StateDamagedError:
        return _current(store)
    if boot.trial is not None and (boot.trial == running or _may_try(store, boot)):
        return Selected(store.release(boot.trial), boot.trial, True)
    return _current(store)


def _may_try(store: Store, boot: Boot) -> bool:
    return boot.trial is not None and boot.tries < MOST_TRIES and store.whole(boot.trial)


def _current(store: Store) -> Selected:
    folder = store.current()
    if folder is None:
        raise BundleError(
            f"{store.root / 'current'}: no release was installed here yet; install one with "
            "`earmark-edge update` or `earmark-deploy flash`"
        )
    return Selected(folder, folder.name, False)

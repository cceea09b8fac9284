"""systemd units, udev rules for Corals and sticks, a limit to the journal."""

from __future__ import annotations

from importlib import resources
from string import Template

from deploy.fleet.places import Places
from deploy.fleet.steps.work import Work
from deploy.fleet.target import Target

SERVICES = ("earmark-agent.service", "earmark-updater.service")
STICK = "earmark-stick@.service"
# Where each file goes on a device.
FILES = {
    **{f"systemd/{name}": f"/etc/systemd/system/{name}" for name in (*SERVICES, STICK)},
    "systemd/tmpfiles.conf": "/etc/tmpfiles.d/earmark.conf",
    "systemd/journald.conf": "/etc/systemd/journald.conf.d/earmark.conf",
    "udev/60-earmark-coral.rules": "/etc/udev/rules.d/60-earmark-coral.rules",
    "udev/99-earmark-stick.rules": "/etc/udev/rules.d/99-earmark-stick.rules",
}
_LONG_S = 300.0
# Prints one word a service: whether it is enabled, and whether it runs.
_STATES = """
for unit in "$@"; do
    enabled=$(systemctl is-enabled -- "$unit" 2>/dev/null)
    echo "$enabled $(systemctl is-active -- "$unit" 2>/dev/null)"
done
"""


def rendered(places: Places) -> dict[str, bytes]:
    """Return the files of a device by path: units, rules, and the journal's limits."""
    root = "" if places.real else places.at("")
    folder = resources.files("deploy")
    return {
        places.at(path): Template((folder / name).read_text(encoding="utf-8"))
        .substitute(root=root)
        .encode()
        for name, path in FILES.items()
    }


async def apply(target: Target, work: Work) -> None:
    """Write the files; where systemd runs, let it know of them and let the services run."""
    changed = set()
    files = rendered(target.places)
    await target.glance(*files)
    for path, data in files.items():
        if await target.write(path, data):
            changed.add(path)
    if not target.places.real:
        return
    found = await target.ask("command -v systemctl")
    if found.code != 0:
        work.notes.append("there is no systemd here: start earmark-edge run and updater yourself")
        return
    work.restart |= await _keep_live_in_memory(target)
    if await _runs(target):
        await _reload(target, changed)
    await _services(target, restart=work.restart or any("/system/" in path for path in changed))


async def remove(target: Target, purge: bool) -> None:
    """Stop the services and take all files away."""
    if target.places.real and (await target.ask("command -v systemctl")).code == 0:
        for service in SERVICES:
            if await target.exists(target.places.at(f"/etc/systemd/system/{service}")):
                how = "--now " if await _runs(target) else ""
                await target.change(
                    f"{service} stopped",
                    f'systemctl disable {how}-- "$1"',
                    service,
                    timeout_s=_LONG_S,
                )
    files = rendered(target.places)
    await target.glance(*files)
    removed = {path for path in files if await target.remove(path)}
    if target.places.real:
        await target.remove(target.places.memory)
        if await target.leads_to(target.places.live):
            await target.remove(target.places.live)
    if target.places.real and removed and await _runs(target):
        await _reload(target, removed)


async def _keep_live_in_memory(target: Target) -> bool:
    """Let `run/` of the store lead to memory, for it is written every second; return whether it
    did not. The folder is made at every start of the machine, and now."""
    places = target.places
    if not await target.exists(places.memory):
        await target.change(f"{places.memory} made", "systemd-tmpfiles --create earmark.conf")
    if await target.leads_to(places.live) == places.memory:
        return False
    # What an updater has left before there was a link is of the moment only.
    await target.remove(places.live)
    return await target.link(places.live, places.memory)


async def _runs(target: Target) -> bool:
    """Whether systemd is the one that runs, and not just installed as in an image."""
    return (await target.ask('[ -d "$1" ]', target.places.at("/run/systemd/system"))).code == 0


async def _reload(target: Target, changed: set[str]) -> None:
    if any("/systemd/system/" in path for path in changed):
        await target.change("systemd has read the units", "systemctl daemon-reload")
    if any("/udev/" in path for path in changed):
        await target.change(
            "udev has read the rules",
            "udevadm control --reload && udevadm trigger --subsystem-match=usb "
            "--subsystem-match=apex",
        )
    if any("/journald.conf.d/" in path for path in changed):
        await target.change("journald restarted", "systemctl restart systemd-journald")


async def _services(target: Target, *, restart: bool) -> None:
    runs = await _runs(target)
    states = (await target.ask(_STATES, *SERVICES)).out.decode().splitlines()
    for service, state in zip(SERVICES, states, strict=False):
        enabled, _, active = state.partition(" ")
        if enabled != "enabled":
            await target.change(f"{service} enabled", 'systemctl enable -- "$1"', service)
        if runs and (restart or active not in ("active", "activating")):
            await target.change(
                f"{service} started anew" if active == "active" else f"{service} started",
                'systemctl restart --no-block -- "$1"',
                service,
            )

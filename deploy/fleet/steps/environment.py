"""The Python environment: made of wheels that were copied, under a name of its own, then linked.

/opt/earmark -> earmark-<id>    id stands for its exact packages
"""

from __future__ import annotations

import posixpath
import shlex

from deploy.fleet.facts import ask_machine
from deploy.fleet.ssh import DeviceError
from deploy.fleet.steps.work import Work
from deploy.fleet.target import Target
from deploy.fleet.upload import Upload, Uploader
from deploy.fleet.wheelhouse import Wheelhouse

_COMPLETE = ".complete"
# A Pi with a slow card unpacks four hundred megabytes.
_INSTALL_S = 1800.0
_CHECK_S = 180.0
_MAKE = """
set -e
umask 022
python=$1 env=$2 pip=$3
shift 3
rm -rf -- "$env"
trap '[ $? = 0 ] || rm -rf -- "$env"' EXIT
"$python" -m venv --without-pip -- "$env"
"$env/bin/python" "$pip/pip" install --quiet --no-index --no-deps --no-cache-dir \
    --disable-pip-version-check --no-input -- "$@"
"$env/bin/python" -c \
    "import cv2, numpy, scipy.optimize, ai_edge_litert.interpreter, paho.mqtt.client"
"$env/bin/earmark-edge" --version
touch -- "$env/.complete"
sync -f -- "$env"
"""
_LIST = """
cd -- "$1" 2>/dev/null || exit 0
for f in *.whl; do [ ! -f "$f" ] || sha256sum -- "$f"; done
"""


async def apply(target: Target, work: Work) -> None:
    """Make the environment that the plan asks for and let `/opt/earmark` lead to it."""
    if target.device.environment is not None:
        await _use(target, work, target.device.environment)
        return
    program, machine = await ask_machine(target)
    house = await work.gather(machine, target.device.extras)
    places = target.places
    path = f"{places.programs}/earmark-{house.id}"
    before = await target.leads_to(places.environment)
    if not await target.exists(f"{path}/{_COMPLETE}"):
        await _bring(target, work, house)
        arguments = [f"{places.wheels}/{wheel.path.name}" for wheel in house.wheels]
        pip = f"{places.wheels}/{house.pip.path.name}"
        await target.change(
            f"{path} made of {len(arguments)} packages",
            _MAKE,
            *(program, path, pip, *arguments),
            timeout_s=_INSTALL_S,
        )
    if await target.link(places.environment, posixpath.basename(path)):
        work.restart = True
        await _sweep(target, house, {posixpath.basename(path), posixpath.basename(before)})


async def remove(target: Target, purge: bool) -> None:
    """Remove the link and the environments that were made here; one that was there stays."""
    places = target.places
    if await target.leads_to(places.environment):
        await target.remove(places.environment)
    for path in await _made(target):
        await target.remove(path)


async def _use(target: Target, work: Work, environment: str) -> None:
    """Lead to an environment that is there already."""
    answer = await target.as_account([f"{environment}/bin/earmark-edge", "--version"])
    if answer.code != 0:
        raise DeviceError(
            f"{target.where}: {environment}/bin/earmark-edge: {answer.error or 'does not run'}; "
            "correct `environment` in the inventory, or leave it out to have one made"
        )
    if environment != target.places.environment:
        work.restart |= await target.link(target.places.environment, environment)


async def _bring(target: Target, work: Work, house: Wheelhouse) -> None:
    """Copy the wheels that are not there."""
    folder = target.places.wheels
    listing = await target.ask(_LIST, folder, timeout_s=_CHECK_S)
    there = set(listing.out.decode(errors="replace").splitlines())
    missing = [wheel for wheel in house.files if f"{wheel.sha256}  {wheel.path.name}" not in there]
    if not missing:
        return
    size = sum(wheel.size for wheel in missing)
    work.total(size)
    if not target.dry:
        uploader = Uploader(target.session, target.where, work.pace, work.told)
        await uploader.send(
            [
                Upload(wheel.path, f"{folder}/{wheel.path.name}", wheel.sha256, wheel.size)
                for wheel in missing
            ]
        )
    target.changes.append(f"{len(missing)} packages copied, {size / 1e6:.1f} MB")


async def _sweep(target: Target, house: Wheelhouse, kept: set[str]) -> None:
    """Remove environments but this and the last, and wheels that belong to none."""
    for path in await _made(target):
        if posixpath.basename(path) not in kept:
            await target.remove(path)
    wheels = " ".join(shlex.quote(wheel.path.name) for wheel in house.files)
    script = f"""
cd -- "$1" 2>/dev/null || exit 0
for f in *.whl *.part; do
    case " {wheels} " in *" $f "*) ;; *) rm -f -- "$f";; esac
done
"""
    if not target.dry:
        await target.do(script, target.places.wheels)


async def _made(target: Target) -> list[str]:
    answer = await target.do(
        'for d in "$1"/earmark-????????????; do [ ! -d "$d" ] || echo "$d"; done',
        target.places.programs,
    )
    return answer.splitlines()

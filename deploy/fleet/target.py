"""A device's file system and programs, as steps see them: compared first, changed where it differs.

In a dry run nothing is changed; what would be is told all the same.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, field

from deploy.fleet.inventory import Device
from deploy.fleet.places import ACCOUNT, Places
from deploy.fleet.ssh import COMMAND_S, Answer, DeviceError, Session

# Prints a line each: `mode user group sha256`, `mode user group folder`, `link target`, or `-`.
_LOOK = """
for path in "$@"; do
    if [ -L "$path" ]; then echo "link $(readlink -- "$path")"
    elif [ -d "$path" ]; then echo "$(stat -c '%a %U %G' -- "$path") folder"
    elif [ -e "$path" ]; then echo "$(stat -c '%a %U %G' -- "$path") $(sha256sum <"$path")"
    else echo -
    fi
done
"""
# Written beside its place, then renamed: a reader or a power cut finds the old file or the new one.
_WRITE = """
set -e
mkdir -p -- "$(dirname -- "$1")"
umask 077
new=$(mktemp -- "$(dirname -- "$1")/.$(basename -- "$1").XXXXXX")
trap 'rm -f -- "$new"' EXIT
cat >"$new"
[ -z "$3" ] || chown -- "$3" "$new"
chmod -- "$2" "$new"
sync -- "$new"
mv -fT -- "$new" "$1"
sync -- "$(dirname -- "$1")"
"""
_FOLDER = """
set -e
mkdir -p -- "$1"
[ -z "$3" ] || chown -- "$3" "$1"
chmod -- "$2" "$1"
"""
# sshd tells a program of root's nothing when its connection ends, but its input ends. A program
# that takes long is ended by that: whoever breaks off leaves nothing running there.
_HELD = """
exec 3<&0
"$@" </dev/null 3<&- &
child=$!
{ cat <&3 >/dev/null; kill -s TERM "$child"; } >/dev/null 2>&1 &
watcher=$!
exec 3<&-
wait "$child"
code=$?
kill "$watcher" 2>/dev/null
exit "$code"
"""
_LINK = 'set -e; ln -sfn -- "$2" "$1.new"; mv -fT -- "$1.new" "$1"'


@dataclass(slots=True)
class Target:
    """One device while it is worked on. changes: what was done to it, in words, or would be."""

    session: Session
    name: str
    device: Device
    dry: bool = False
    changes: list[str] = field(default_factory=list)
    places: Places = field(init=False)
    _seen: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.places = Places(self.device.root)

    @property
    def where(self) -> str:
        """The device's name and address, for errors."""
        return f"{self.name} ({self.device.address})"

    def owner(self, user: str, group: str) -> str:
        """Return `user:group`, or nothing where the host's own user owns everything."""
        return f"{user}:{group}" if self.places.real else ""

    async def ask(
        self, script: str, *arguments: str, data: bytes = b"", timeout_s: float = COMMAND_S
    ) -> Answer:
        """Run a shell script as the host's master and return what came of it."""
        command = ["sh", "-c", script, "sh", *arguments]
        return await self.session.run(
            [*self._privilege(), *command], data=data, timeout_s=timeout_s
        )

    async def do(
        self, script: str, *arguments: str, data: bytes = b"", timeout_s: float = COMMAND_S
    ) -> str:
        """Run a shell script that must succeed and return what it printed; else DeviceError."""
        answer = await self.ask(script, *arguments, data=data, timeout_s=timeout_s)
        if answer.code != 0:
            raise DeviceError(f"{self.where}: {answer.error or f'exit code {answer.code}'}")
        return answer.out.decode(errors="replace").strip()

    async def as_account(
        self, command: Sequence[str], *, timeout_s: float = COMMAND_S, held: bool = False
    ) -> Answer:
        """Run a program as the account that the services run under.

        held: it is ended when we break off, or when the line does.
        """
        if held:
            command = ["sh", "-c", _HELD, "sh", *command]
        return await self.session.run([*self._account(), *command], timeout_s=timeout_s, held=held)

    async def glance(self, *paths: str) -> None:
        """Look at many paths at once: a look at each by itself costs a turn over the line."""
        lines = (await self.do(_LOOK, *paths)).splitlines()
        if len(lines) != len(paths):
            raise DeviceError(f"{self.where}: {len(lines)} answers to {len(paths)} questions")
        self._seen.update(zip(paths, lines, strict=True))

    async def _look(self, path: str) -> str:
        """Return what is at a path, empty for nothing; what was glanced at is good for once."""
        if path not in self._seen:
            await self.glance(path)
        seen = self._seen.pop(path)
        return "" if seen == "-" else seen

    async def change(
        self, text: str, script: str, *arguments: str, timeout_s: float = COMMAND_S
    ) -> None:
        """Do one thing that is not a file, unless this is a dry run, and remember it."""
        if not self.dry:
            await self.do(script, *arguments, timeout_s=timeout_s)
        self.changes.append(text)

    async def write(self, path: str, data: bytes, *, mode: int = 0o644, owner: str = "") -> bool:
        """Make a file what it shall be; return whether it was not. owner: `user:group`."""
        wanted = f"{mode:o} {hashlib.sha256(data).hexdigest()}"
        found = (await self._look(path)).split()
        if found[-1:] == ["folder"] or found[:1] == ["link"]:
            raise DeviceError(f"{self.where}: {path}: is not a file; move it away")
        if found and f"{found[0]} {found[3]}" == wanted and self._owned(found, owner):
            return False
        if not self.dry:
            await self.do(_WRITE, path, f"{mode:o}", owner, data=data)
        self.changes.append(f"{path} {'changed' if found else 'written'}")
        return True

    async def folder(self, path: str, *, mode: int = 0o755, owner: str = "") -> bool:
        """Make a folder what it shall be; return whether it was not."""
        found = (await self._look(path)).split()
        if found and found[-1] != "folder":
            raise DeviceError(f"{self.where}: {path}: is not a folder; move it away")
        if found and found[0] == f"{mode:o}" and self._owned(found, owner):
            return False
        if not self.dry:
            await self.do(_FOLDER, path, f"{mode:o}", owner)
        self.changes.append(f"{path} {'changed' if found else 'made'}")
        return True

    async def link(self, path: str, target: str) -> bool:
        """Let a symbolic link lead where it shall, by one rename; return whether it did not."""
        found = (await self._look(path)).split(maxsplit=1)
        if found and found[0] != "link":
            raise DeviceError(
                f"{self.where}: {path}: is there already, and was not made by provision; move it "
                "away, or name it in the inventory: environment"
            )
        if found[1:] == [target]:
            return False
        if not self.dry:
            await self.do(_LINK, path, target)
        self.changes.append(f"{path} leads to {target}")
        return True

    async def leads_to(self, path: str) -> str:
        """Return where a symbolic link leads, empty when there is none."""
        found = (await self._look(path)).split(maxsplit=1)
        return found[1] if found[:1] == ["link"] else ""

    async def exists(self, path: str) -> bool:
        """Return whether there is anything at a path, a link that leads nowhere too."""
        return bool(await self._look(path))

    async def remove(self, path: str) -> bool:
        """Remove a file or a folder with all that is in it; return whether it was there."""
        if not await self.exists(path):
            return False
        await self.change(f"{path} removed", 'rm -rf -- "$1"', path)
        return True

    def _owned(self, found: Sequence[str], owner: str) -> bool:
        return not owner or ":".join(found[1:3]) == owner

    def _privilege(self) -> list[str]:
        if not self.places.real or self.device.user == "root":
            return []
        return ["sudo", "-n", "--"]

    def _account(self) -> list[str]:
        if not self.places.real:
            return []
        if self.device.user == "root":
            return ["runuser", "-u", ACCOUNT, "--"]
        return ["sudo", "-n", "-u", ACCOUNT, "--"]


def below(path: str, folder: str) -> str:
    """Return a path relative to a folder."""
    return posixpath.relpath(path, folder)

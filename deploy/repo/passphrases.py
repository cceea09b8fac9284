"""Where the passphrase of the keys comes from: a file, the environment, or who sits there."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from deploy.repo.keys import check_new_passphrase
from edge.errors import UsageError

VARIABLE = "EARMARK_REPO_PASSPHRASE"
_TRIES = 3


class GivenPassphrases:
    """One passphrase, given beforehand; UsageError where another would be needed."""

    def __init__(self, passphrase: str) -> None:
        self._passphrase = passphrase

    def new(self) -> str:
        """Return it."""
        return check_new_passphrase(self._passphrase)

    def tries(self, what: str) -> Iterator[str]:
        """Yield it."""
        yield self._passphrase


class AskedPassphrases:
    """Asks for passphrases, and tries those it was told before it asks again."""

    def __init__(self, ask: Callable[[str], str]) -> None:
        self._ask = ask
        self._told: list[str] = []
        self._new: str | None = None

    def new(self) -> str:
        """Ask for a new passphrase, twice, once a run."""
        if self._new is None:
            first = check_new_passphrase(self._ask("Passphrase for the new keys: "))
            if self._ask("The same again: ") != first:
                raise UsageError("the two passphrases differ; nothing was made")
            self._new = first
            self._told.append(first)
        return self._new

    def tries(self, what: str) -> Iterator[str]:
        """Yield what was told before, then ask for this file's."""
        yield from reversed(self._told)
        for _ in range(_TRIES):
            told = self._ask(f"Passphrase of {what}: ")
            self._told.append(told)
            yield told


def passphrases(
    file: Path | None,
    environment: Mapping[str, str] = os.environ,
    ask: Callable[[str], str] | None = None,
) -> GivenPassphrases | AskedPassphrases:
    """Return where passphrases come from: a file's first line, $EARMARK_REPO_PASSPHRASE, a prompt.

    ask: how to prompt; without, the terminal, and UsageError when there is none.
    """
    if file is not None:
        return GivenPassphrases(_first_line(file))
    if given := environment.get(VARIABLE):
        return GivenPassphrases(given)
    return AskedPassphrases(ask or _prompt)


def _first_line(file: Path) -> str:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: the passphrase cannot be read") from error
    if not lines or not lines[0]:
        raise UsageError(f"{file}: empty; put the passphrase on its first line")
    return lines[0]


def _prompt(text: str) -> str:
    if not sys.stdin.isatty():
        raise UsageError(
            f"nobody is here to type a passphrase; give --passphrase-file FILE or ${VARIABLE}"
        )
    try:
        return getpass.getpass(text)
    except EOFError as error:
        raise UsageError("no passphrase was typed") from error

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
    """Passphrases that were given beforehand; the first one seals new keys."""

    def __init__(self, *passphrases: str) -> None:
        self._passphrases = passphrases

    def new(self) -> str:
        """Return the first."""
        return check_new_passphrase(self._passphrases[0])

    def tries(self, what: str) -> Iterator[str]:
        """Yield them all."""
        yield from self._passphrases


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
    """Return where passphrases come from: a file's lines, $EARMARK_REPO_PASSPHRASE, a prompt.

    ask: how to prompt; without, the terminal, and UsageError when there is none.
    """
    if file is not None:
        return GivenPassphrases(*_lines(file))
    if given := environment.get(VARIABLE):
        return GivenPassphrases(given)
    return AskedPassphrases(ask or _prompt)


def _lines(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: the passphrase cannot be read") from error
    if not lines or not lines[0]:
        raise UsageError(f"{file}: empty; put the passphrase on its first line")
    return [line for line in lines if line]


def _prompt(text: str) -> str:
    if not sys.stdin.isatty():
        raise UsageError(
            f"nobody is here to type a passphrase; give --passphrase-file FILE or ${VARIABLE}"
        )
    try:
        return getpass.getpass(text)
    except EOFError as error:
        raise UsageError("no passphrase was typed") from error

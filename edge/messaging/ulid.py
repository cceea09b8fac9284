"""Sortable unique ids: 48 bits of milliseconds, 80 random bits, Crockford's base 32.

After the ULID specification (github.com/ulid/spec), its monotonic variant included.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_RANDOM_BITS = 80
_MAX_MILLISECONDS = (1 << 48) - 1


class UlidMaker:
    """Makes ids that rise within one maker, also when the clock steps back.

    clock: seconds since 1970. entropy: n -> n random bytes.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.time,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._clock = clock
        self._entropy = entropy
        self._last = -1

    def __call__(self) -> str:
        """Return the next id, 26 characters."""
        milliseconds = min(max(int(self._clock() * 1000), 0), _MAX_MILLISECONDS)
        value = (milliseconds << _RANDOM_BITS) | int.from_bytes(self._entropy(_RANDOM_BITS // 8))
        if value >> _RANDOM_BITS <= self._last >> _RANDOM_BITS:
            value = self._last + 1
        self._last = value
        return "".join(_ALPHABET[(value >> shift) & 31] for shift in range(125, -1, -5))

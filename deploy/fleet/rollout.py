"""Many devices at once, a few of them first, and no more once too many have failed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Terms:
    """canary: so many are done first, and all of them must succeed. jobs: at a time.

    max_failures: with more than these nobody else is begun.
    """

    jobs: int = 8
    canary: int = 0
    max_failures: int | None = None


@dataclass(frozen=True, slots=True)
class Rolled(Generic[R]):
    """results: of those that were begun, by name. stopped: why not all were, empty otherwise."""

    results: dict[str, R]
    stopped: str = ""


async def roll_out(
    names: Sequence[str],
    work: Callable[[str], Awaitable[R]],
    failed: Callable[[R], bool],
    terms: Terms,
) -> Rolled[R]:
    """Work on every device; those that are being worked on always finish."""
    results: dict[str, R] = {}

    def failures() -> int:
        return sum(failed(result) for result in results.values())

    def enough() -> bool:
        return terms.max_failures is not None and failures() > terms.max_failures

    async def batch(some: Sequence[str]) -> None:
        waiting = list(reversed(some))

        async def worker() -> None:
            while waiting and not enough():
                name = waiting.pop()
                results[name] = await work(name)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(terms.jobs, len(some))):
                group.create_task(worker())

    first, rest = names[: terms.canary], names[terms.canary :]
    await batch(first)
    if first and failures():
        return Rolled(results, "a device that went first failed")
    await batch(rest)
    return Rolled(results, f"{failures()} devices failed" if len(results) < len(names) else "")

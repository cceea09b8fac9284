"""How much memory a process and its children take."""

from __future__ import annotations

import os
from pathlib import Path


def resident_mb(pid: int | None = None, proc: Path = Path("/proc")) -> tuple[float, float]:
    """Return megabytes of a process and all its descendants: their own share, and all they map.

    The first (PSS) counts memory that n processes share as 1/n each, so it adds up; the second
    (RSS) counts it in each.
    """
    shares = [memory_kb(proc / str(one)) for one in family(pid or os.getpid(), proc)]
    return sum(pss for pss, _ in shares) / 1024, sum(rss for _, rss in shares) / 1024


def shares_mb(pid: int | None = None, proc: Path = Path("/proc")) -> tuple[float, float]:
    """Return megabytes (PSS) of a process, and of all its descendants together."""
    own, *others = (memory_kb(proc / str(one))[0] for one in family(pid or os.getpid(), proc))
    return own / 1024, sum(others) / 1024


def family(pid: int, proc: Path = Path("/proc")) -> list[int]:
    """Return a process and all its descendants."""
    parents: dict[int, int] = {}
    for stat in proc.glob("[0-9]*/stat"):
        try:
            # The name in parentheses may hold anything.
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):  # it has ended meanwhile
            continue
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def memory_kb(process: Path) -> tuple[float, float]:
    """Return PSS and RSS of one process (its folder in /proc) in kB; 0 for one that has ended."""
    rows: dict[str, float] = {}
    try:
        for line in (process / "smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in ("Pss", "Rss"):
                rows[name] = float(rest.split()[0])
    except (OSError, ValueError, IndexError):
        return 0.0, 0.0
    return rows.get("Pss", 0.0), rows.get("Rss", 0.0)

"""The bundle: whole, verified, answering rightly here, and how old its class means are."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from edge.doctor.verdict import Verdict
from edge.errors import EarmarkError
from edge.release.bundle import Bundle, load_bundle, run_self_test

_OLD_DAYS = 120


def bundle(
    directory: Path,
    threads: int,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    load: Callable[[Path, int], Bundle] = lambda path, threads: load_bundle(path, threads=threads),
) -> Iterator[Verdict]:
    """Load a bundle as the agent does, and say what it is. It fails as the agent would."""
    begun_s = time.monotonic()
    try:
        loaded = load(directory, threads)
    except EarmarkError as error:
        yield Verdict("fail", "bundle", str(error), "copy it anew, or export it again")
        return
    cosine = run_self_test(loaded)
    took_s = time.monotonic() - begun_s
    manifest = loaded.manifest
    yield Verdict(
        "ok",
        "bundle",
        f"{manifest.id[:12]}, verified; golden answers at cosine {cosine:.3f} (at least "
        f"{manifest.self_test.cosine_floor:g}), loaded in {took_s:.1f} s",
    )
    if loaded.detector is None:
        yield Verdict(
            "fail",
            "bundle",
            "it has no detector, so it names crops only",
            "train with frames, or add one by `earmark-trainer bundle --detector`",
        )
    means = loaded.means
    text = f"{len(means.animals)} animals, seq {means.header.seq}"
    made = _time(means.header.created)
    age_days = math.nan if made is None else (now() - made).total_seconds() / 86400
    if age_days > _OLD_DAYS:
        yield Verdict(
            "warn",
            "class means",
            f"{text}, {age_days:.0f} days old",
            "animals change as they grow: look at `earmark-trainer means inspect`",
        )
    else:
        yield Verdict("ok", "class means", text + ("" if made is None else f", {made:%Y-%m-%d}"))


def _time(text: str) -> datetime | None:
    try:
        made = datetime.fromisoformat(text)
    except ValueError:
        return None
    return made if made.tzinfo else made.replace(tzinfo=UTC)

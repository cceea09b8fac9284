"""Fault table, the outbox's disk: full, failing, torn, older; each survived without a restart."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge.errors import EarmarkError
from edge.messaging.ballast import Ballast
from edge.messaging.events import Gap, Sighting, decode, encode
from edge.messaging.outbox import Outbox

KIB = 1 << 10
MIB = 1 << 20
HOUR_S = 3600.0
NUMBERED = {"id": "0" * 26, "seq": 1, "stream": "0" * 32}

MakeEvent = Callable[..., Sighting]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "outbox.db"


def seqs(outbox: Outbox) -> list[int]:
    return [row.seq for row in outbox.pending(100_000)]


@contextmanager
def full(outbox: Outbox) -> Iterator[None]:
    """As SQLite answers on a disk without room: SQLITE_FULL for every page more."""
    db = outbox._file.connection
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    db.execute(f"PRAGMA max_page_count={pages}")
    yield
    db.execute("PRAGMA max_page_count=1000000000")


# -- bounds ----------------------------------------------------------------------------------------


def test_what_waited_for_too_long_is_dropped_and_counted(path, make_event):
    now_s = [0.0]
    with Outbox(path, limit_age_s=24 * HOUR_S, clock=lambda: now_s[0]) as outbox:
        outbox.append([make_event(), make_event()])
        now_s[0] = 23 * HOUR_S
        outbox.append([make_event()])
        assert outbox.gap is None
        now_s[0] = 25 * HOUR_S
        outbox.append([make_event()])
        assert seqs(outbox) == [3, 4]
        assert outbox.gap == Gap(stream=outbox.stream, first=1, last=2, lost=2)


def test_age_is_the_time_an_agent_ran_whatever_the_clocks_say(path, make_event):
    now_s = [0.0]

    def opened() -> Outbox:
        return Outbox(path, limit_age_s=24 * HOUR_S, clock=lambda: now_s[0])

    with opened() as outbox:
        outbox.append([make_event(last_seen="1970-01-01T00:00:00.000Z")])
        now_s[0] = 20 * HOUR_S
        outbox.append([make_event(last_seen="2036-01-01T00:00:00.000Z")])
    # Switched off for years; the monotonic clock begins anew.
    now_s[0] = 5.0
    with opened() as outbox:
        outbox.append([make_event()])
        assert seqs(outbox) == [1, 2, 3]
        now_s[0] = 5 * HOUR_S
        outbox.append([make_event()])
        assert seqs(outbox) == [2, 3, 4]


def test_on_a_disk_that_others_fill_the_oldest_make_room_before_the_file_grows(path, make_event):
    free = [100 * MIB]
    options = {"keep_free_bytes": 64 * MIB, "free_bytes": lambda folder: free[0]}
    with Outbox(path, **options) as outbox:
        for _ in range(50):
            outbox.append([make_event() for _ in range(100)])
        assert outbox.depth == 5000
        outbox._file.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = path.stat().st_size
        free[0] = 63 * MIB
        for _ in range(50):
            outbox.append([make_event() for _ in range(100)])
        outbox._file.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert path.stat().st_size <= size + 64 * 4 * KIB
        assert 3500 <= outbox.depth <= 5300
        assert outbox.depth + outbox.lost == outbox.last_seq == 10_000
        assert outbox.gap == Gap(
            stream=outbox.stream, first=1, last=outbox.first - 1, lost=outbox.lost
        )
        free[0] = 100 * MIB
        depth = outbox.depth
        outbox.append([make_event() for _ in range(100)])
        assert outbox.depth == depth + 100


# -- a full disk -----------------------------------------------------------------------------------


def test_the_ballast_holds_real_space_and_comes_back(tmp_path):
    ballast = Ballast(tmp_path / "ballast", MIB)
    assert ballast.missing
    ballast.restore(2 * MIB)
    assert ballast.missing
    ballast.restore(3 * MIB)
    assert not ballast.missing
    assert (tmp_path / "ballast").stat().st_blocks * 512 >= MIB
    assert not Ballast(tmp_path / "ballast", MIB).missing
    assert ballast.release()
    assert not (tmp_path / "ballast").exists()
    assert not ballast.release()
    ballast.restore(3 * MIB)
    assert not ballast.missing
    (tmp_path / "ballast").write_bytes(b"")
    assert Ballast(tmp_path / "ballast", MIB).missing


def test_no_ballast_is_none(tmp_path):
    ballast = Ballast(tmp_path / "ballast", 0)
    ballast.restore(10 * MIB)
    assert not ballast.missing
    assert not ballast.release()
    assert list(tmp_path.iterdir()) == []


def test_a_full_file_is_one_line_and_works_again_when_there_is_room(path, make_event):
    with Outbox(path) as outbox:
        outbox.append([make_event() for _ in range(100)])
        with full(outbox):
            filling = ([make_event()] * 10 for _ in range(100))
            with pytest.raises(EarmarkError, match="disk is full") as caught:
                deque(map(outbox.append, filling))
            assert "\n" not in str(caught.value)
            depth, last = outbox.depth, outbox.last_seq
            assert seqs(outbox) == list(range(1, last + 1))
            assert depth == last
            # What is full can still be emptied.
            outbox.delivered(range(1, 51))
            assert outbox.depth == depth - 50
            assert outbox.append([make_event()])[0].seq == last + 1
        outbox.append([make_event() for _ in range(1000)])
        assert outbox.gap is None
        assert seqs(outbox) == list(range(51, last + 1002))


SMALL_DISK = """
import json, resource, sys
from pathlib import Path
import msgspec
from edge.errors import EarmarkError
from edge.messaging.events import Sighting
from edge.messaging.outbox import Outbox

folder, ballast, keep_free = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
event = msgspec.convert(json.loads(sys.argv[4]), Sighting, strict=False)
outbox = Outbox(folder / "outbox.db", ballast_bytes=ballast, keep_free_bytes=keep_free)
told = {"ballast": (folder / "ballast").exists(), "failures": []}
for _ in range(50):
    outbox.append([event] * 20)
# Somebody else fills the disk to the last block.
hog = (folder / "hog").open("wb", buffering=0)
for size in (1 << 20, 512):
    try:
        while hog.write(bytes(size)):
            pass
    except OSError as error:
        told["hog"] = error.errno
for _ in range(100):
    try:
        outbox.append([event] * 20)
    except EarmarkError as error:
        told["failures"].append(str(error))
told["full"] = [outbox.depth, outbox.last_seq, outbox.lost]
told["released"] = told["ballast"] and not (folder / "ballast").exists()
told["before"] = outbox.last_seq
if not ballast:
    hog.truncate(0)
outbox.delivered(range(outbox.first, outbox.first + 100))
hog.truncate(0)
outbox.append([event] * 20)
told["after"] = outbox.last_seq
told["waiting"] = [row.seq for row in outbox.pending(100000)]
told["gaps"] = [[gap.first, gap.last, gap.lost] for gap in outbox.gaps]
told["lost"] = outbox.lost
outbox.close()
print(json.dumps(told))
"""


def on_small_disk(tmp_path: Path, event: Sighting, ballast: int, keep_free: int) -> dict:
    """Run the script above on a file system of 32 MiB of its own; skip where none may be made."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = f"mount -t tmpfs -o size=32m tmpfs {folder}"
    # A mount namespace of its own: nothing is left behind, however it ends.
    prefix = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare, for a small file system")
    tried = subprocess.run([*prefix, mount], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"a small file system may not be mounted here: {tried.stderr.strip()}")
    script = [sys.executable, "-c", SMALL_DISK, str(folder), str(ballast), str(keep_free)]
    run = subprocess.run(
        [*prefix, f'{mount} && exec "$0" "$@"', *script, encode(event).decode()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.slow
def test_with_a_ballast_a_full_disk_stops_nothing(tmp_path, make_event):
    told = on_small_disk(tmp_path, make_event(**NUMBERED), ballast=6 * MIB, keep_free=8 * MIB)
    assert (told["hog"], told["ballast"]) == (28, True)
    assert told["failures"] == []
    depth, last, lost = told["full"]
    # Every event was stored; the oldest made room.
    assert last == 3000
    assert depth + lost == 3000
    assert lost > 0
    assert told["after"] == 3020
    assert told["gaps"] == [[1, lost, lost]]
    assert told["waiting"] == list(range(lost + 101, 3021))


@pytest.mark.slow
def test_without_one_a_full_disk_is_told_of_and_recovered_from(tmp_path, make_event):
    told = on_small_disk(tmp_path, make_event(**NUMBERED), ballast=0, keep_free=0)
    assert told["hog"] == 28
    assert told["failures"]
    assert all("disk is full" in text for text in told["failures"])
    depth, last, lost = told["full"]
    assert (depth, lost) == (last, 0)
    assert told["after"] == told["before"] + 20
    assert told["waiting"] == list(range(101, told["after"] + 1))


# -- a disk that fails -----------------------------------------------------------------------------

FAILING = """
import json, resource, sys
from pathlib import Path
import msgspec
from edge.errors import EarmarkError
from edge.messaging.events import Sighting
from edge.messaging.outbox import Outbox

path, event = Path(sys.argv[1]), msgspec.convert(json.loads(sys.argv[2]), Sighting, strict=False)
outbox = Outbox(path)
outbox.append([event] * 100)
told = {"stream": outbox.stream, "failures": []}
# Every write beyond this many bytes of a file fails: SQLite calls that an I/O error.
resource.setrlimit(resource.RLIMIT_FSIZE, (16384, resource.RLIM_INFINITY))
for _ in range(5):
    try:
        outbox.append([event] * 20)
    except EarmarkError as error:
        told["failures"].append(str(error))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
told["next"] = outbox.append([event])[0].seq
told["same"] = outbox.stream == told["stream"]
told["waiting"] = [row.seq for row in outbox.pending(1000)]
outbox.close()
print(json.dumps(told))
"""


@pytest.mark.slow
def test_an_io_error_is_told_of_and_recovered_from_without_a_restart(path, make_event):
    run = subprocess.run(
        [sys.executable, "-c", FAILING, str(path), encode(make_event(**NUMBERED)).decode()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert len(told["failures"]) == 5
    assert all("the disk fails" in text for text in told["failures"])
    assert (told["next"], told["same"]) == (101, True)
    assert told["waiting"] == list(range(1, 102))


class FailingCommit(sqlite3.Connection):
    """Commits, and says that it could not: as a flush that fails after the log was written."""

    fail = False

    def execute(self, statement, *arguments):
        result = super().execute(statement, *arguments)
        if statement == "COMMIT" and FailingCommit.fail:
            FailingCommit.fail = False
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error
        return result


@pytest.mark.parametrize("limit_rows", [1000, 5])
def test_a_commit_that_failed_and_happened_all_the_same_is_not_stored_twice(
    path, make_event, monkeypatch, limit_rows
):
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3,
        "connect",
        lambda *names, **options: connect(*names, **options, factory=FailingCommit),
    )
    with Outbox(path, limit_rows=limit_rows) as outbox:
        outbox.append([make_event(track=n) for n in range(4)])
        FailingCommit.fail = True
        stored = outbox.append([make_event(track=n) for n in range(4, 7)])
        assert not FailingCommit.fail
        assert [event.seq for event in stored] == [5, 6, 7]
        waiting = [decode(row.payload, Sighting).track for row in outbox.pending(100)]
        # What was dropped to make room stays dropped, and is counted.
        assert waiting == list(range(outbox.lost, 7))
        assert sum(gap.lost for gap in outbox.gaps) == outbox.lost
        FailingCommit.fail = True
        outbox.lose(10)
        assert outbox.last_seq == 17
        assert sum(gap.lost for gap in outbox.gaps) == outbox.lost == 17 - outbox.depth
        assert outbox.append([make_event()])[0].seq == 18


# -- damage ----------------------------------------------------------------------------------------


def damaged(data: bytes, how: str, offset: int, rng: random.Random) -> bytes:
    match how:
        case "torn":
            return data[:offset]
        case "zeroed":
            return data[:offset] + bytes(min(4096, len(data) - offset)) + data[offset + 4096 :]
        case "garbage":
            return (
                data[:offset]
                + rng.randbytes(len(data[offset : offset + 512]))
                + data[offset + 512 :]
            )
        case _:
            return (
                data[:offset] + bytes([data[offset] ^ 1 << rng.randrange(8)]) + data[offset + 1 :]
            )


@pytest.mark.slow
@pytest.mark.parametrize("part", ["", "-wal"], ids=["file", "log"])
@pytest.mark.parametrize("how", ["torn", "zeroed", "garbage", "bit"])
def test_damage_anywhere_never_stops_the_outbox(path, tmp_path, make_event, part, how):
    rng = random.Random(f"{part}{how}")
    outbox = Outbox(path, limit_rows=150)
    for n in range(40):
        outbox.append([make_event(track=n)] * 5)
    outbox._file.connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
    for n in range(40):
        outbox.append([make_event(track=n)])
    outbox.set_aside(outbox.first, "too large")
    stream, last = outbox.stream, outbox.last_seq
    parts = {suffix: path.with_name(path.name + suffix).read_bytes() for suffix in ("", "-wal")}
    outbox.close()
    data = parts[part]
    assert len(data) > 40_000
    offsets = [*range(0, 112, 7), *rng.sample(range(len(data)), 24), len(data) - 1]
    anew = 0
    for number, offset in enumerate(offsets):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        for suffix, content in parts.items():
            broken = damaged(content, how, offset, rng) if suffix == part else content
            (folder / f"outbox.db{suffix}").write_bytes(broken)
        with Outbox(folder / "outbox.db", limit_rows=150) as found:
            (stored,) = found.append([make_event()])
            rows = found.pending(1000)
            assert rows[-1].seq == stored.seq
            assert (found.depth, found.last_seq) == (len(rows), stored.seq)
            found.delivered([rows[0].seq])
            assert found.gaps is not None
            if found.stream == stream:
                assert stored.seq <= last + 1
            else:
                anew += 1
                assert found.moved_aside is not None or stored.seq == 1
        shutil.rmtree(folder)
    if (part, how) == ("", "garbage"):
        assert anew > 0


def test_a_file_of_an_older_version_goes_on(path, make_event):
    with Outbox(path) as outbox:
        stream = outbox.stream
        outbox.append([make_event() for _ in range(3)])
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("ALTER TABLE event DROP COLUMN stored")
    db.execute("DROP TABLE present")
    db.execute("PRAGMA user_version=1")
    db.close()
    with Outbox(path, limit_age_s=HOUR_S) as outbox:
        assert (outbox.stream, outbox.moved_aside) == (stream, None)
        outbox.append([make_event()])
        assert seqs(outbox) == [1, 2, 3, 4]


@pytest.mark.parametrize("value", [-5, 2**62, 1e300, "many", b"\xff", None])
@pytest.mark.parametrize("key", ["next_seq", "age_s"])
def test_numbers_that_cannot_be_are_damage(path, make_event, key, value):
    with Outbox(path) as outbox:
        stream = outbox.stream
        outbox.append([make_event()])
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("UPDATE meta SET value = ? WHERE key = ?", (value, key))
    db.close()
    with Outbox(path) as outbox:
        assert outbox.stream != stream
        assert outbox.append([make_event()])[0].seq == 1


def test_another_programs_database_is_moved_aside(path, make_event):
    path.parent.mkdir()
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE event (name TEXT)")
    db.commit()
    db.close()
    with Outbox(path) as outbox:
        assert outbox.moved_aside is not None
        assert outbox.append([make_event()])[0].seq == 1

"""`earmark-deploy ingest`."""

from __future__ import annotations

import argparse
import re
import signal
import socket
import sys
from functools import partial
from typing import TYPE_CHECKING

from deploy.connecting import Commands, add_broker, broker_options, seconds
from deploy.ingest.database import DEFAULT, HELP, open_database
from edge.errors import UsageError
from edge.messaging.topics import check_id

if TYPE_CHECKING:
    from deploy.ingest.holes import Hole
    from deploy.ingest.store import Store

_GROUP = re.compile(r"[A-Za-z0-9_-]{1,64}")


def add_parser(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "ingest",
        parents=[common],
        help="store every sighting in a database, and tell the devices what is stored",
        description="Subscribe to the sightings and alarms of all devices and store each once. A "
        "message is acknowledged when it is committed, so that nothing is lost when this "
        "ends, however it ends. Runs until SIGTERM or Ctrl-C.",
    )
    # Who only asks the database about holes needs no broker.
    add_broker(parser, required=False)
    parser.add_argument("--db", default=DEFAULT, metavar="URL", help=HELP)
    parser.add_argument(
        "--share",
        metavar="GROUP",
        help="share the work with other ingests of this group on the same database",
    )
    parser.add_argument(
        "--name",
        metavar="ID",
        help="client id, another for each that runs; earmark-ingest, or with --share "
        "earmark-ingest-HOSTNAME",
    )
    parser.add_argument(
        "--acknowledge-every",
        type=seconds,
        default=1.0,
        metavar="SECONDS",
        help="tell a device at most so often up to which event it is stored (1)",
    )
    parser.add_argument(
        "--no-acknowledge",
        action="store_true",
        help="tell the devices nothing: for a second database beside the one that counts",
    )
    parser.add_argument(
        "--holes", action="store_true", help="list events that are missing in the database; end"
    )
    parser.add_argument(
        "--give-up",
        metavar="DEVICE",
        help="count what is missing of this device as lost, so that it may delete the rest; end",
    )
    parser.add_argument("--give-up-all", action="store_true", help="likewise of every device; end")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from deploy.ingest.service import Ingest, IngestOptions
    from deploy.ingest.store import Store

    store = Store(partial(open_database, options.db))
    if options.holes or options.give_up is not None or options.give_up_all:
        # A name with a slip in it must not become a new, empty database.
        open_database(options.db, read_only=True).close()
        try:
            return _holes(store, options.give_up, everybody=options.give_up_all)
        finally:
            store.close()
    if options.broker is None:
        raise UsageError("name the broker: --broker mqtt://HOST or mqtts://HOST")
    if options.share is not None and not _GROUP.fullmatch(options.share):
        raise UsageError(f"--share {options.share!r}: use letters, digits, '-' and '_'")
    ingest = Ingest(
        broker_options(options),
        store,
        IngestOptions(
            name=options.name or _default_name(options.share),
            share=options.share,
            acknowledge_every_s=None if options.no_acknowledge else options.acknowledge_every,
        ),
        _tell,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ingest.stop())
    ingest.run()
    _tell(ingest.summary())
    return 0


def _holes(store: Store, give_up: str | None, *, everybody: bool) -> int:
    if give_up is not None:
        check_id("device", give_up)
    giving_up = everybody or give_up is not None
    holes = store.give_up(None if everybody else give_up) if giving_up else store.holes()
    for hole in holes:
        print(_line(hole))
    if giving_up:
        count = sum(hole.last - hole.first + 1 for hole in holes)
        _tell(f"{count} events of {give_up or 'all devices'} counted as lost")
    return 0


def _line(hole: Hole) -> str:
    return f"{hole.device}\t{hole.stream}\t{hole.first}\t{hole.last}"


def _default_name(share: str | None) -> str:
    if share is None:
        return "earmark-ingest"
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())
    return f"earmark-ingest-{host}"


def _tell(text: str) -> None:
    print(f"earmark-deploy ingest: {text}", file=sys.stderr, flush=True)

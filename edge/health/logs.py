"""Logs for people, for journald, and as JSON lines for machines."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import IO, Literal

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]
# Threads that work for one camera are named after it: its frames, its connection.
_CAMERA_THREADS = ("camera-", "capture ")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC, RFC 3339), level, logger, message, camera, error."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        at = datetime.fromtimestamp(record.created, UTC)
        row: dict[str, str] = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for prefix in _CAMERA_THREADS:
            if record.threadName and record.threadName.startswith(prefix):
                row["camera"] = record.threadName.removeprefix(prefix)
        if record.exc_info:
            row["error"] = self.formatException(record.exc_info)
        return json.dumps(row, ensure_ascii=False)


def set_up_logs(
    kind: LogFormat, level: LogLevel, *, stream: IO[str] | None = None, journal: bool = False
) -> None:
    """Send logs to `stream` (standard error). journal: journald adds the time by itself."""
    handler = logging.StreamHandler(stream or sys.stderr)
    if kind == "json":
        handler.setFormatter(JsonFormatter())
    else:
        time = "" if journal else "%(asctime)s "
        handler.setFormatter(logging.Formatter(f"{time}%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)

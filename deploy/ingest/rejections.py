"""What a person is told of messages that are not stored: each trouble at once, then by the hour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from deploy.ingest.records import Refused
from edge.messaging.topics import ROOT

_EVERY_S = 3600.0
# Whoever sends rubbish chooses the words; neither memory nor the log may grow with them.
_REASONS = 5
_DEVICES = 500
_OTHER = "other reasons"
_SOMEBODY = "somebody"


class Rejections:
    """Tells the first rejection of each device for each reason, and every hour how many more.

    tell: takes one line. now_s: any clock that only rises.
    """

    def __init__(self, tell: Callable[[str], None], now_s: float) -> None:
        self._tell = tell
        self._more: dict[str, Counter[str]] = {}
        self._due_s = now_s + _EVERY_S

    def note(self, refused: Iterable[Refused]) -> None:
        """Count what was rejected, and tell of it if it is new."""
        for each in refused:
            device = _device(each.topic)
            if device not in self._more and len(self._more) >= _DEVICES:
                device = _SOMEBODY
            reasons = self._more.setdefault(device, Counter())
            why = each.why
            if why not in reasons and len(reasons) >= _REASONS:
                why = _OTHER
            if why in reasons:
                reasons[why] += 1
                continue
            reasons[why] = 0
            self._tell(
                f"{device}: a message was rejected ({why}); more of the kind are told every hour, "
                "see docs/ingest.md, Rejected messages"
            )

    def look(self, now_s: float) -> None:
        """Tell what came in the last hour; what did not come any more is over."""
        if now_s < self._due_s:
            return
        self._due_s = now_s + _EVERY_S
        still: dict[str, Counter[str]] = {}
        for device, reasons in self._more.items():
            for why, count in reasons.items():
                if count:
                    self._tell(f"{device}: {count} more rejected in the last hour ({why})")
                    still.setdefault(device, Counter())[why] = 0
        self._more = still


def _device(topic: str) -> str:
    parts = topic.removeprefix(f"{ROOT}/").split("/")
    return parts[0] if topic.startswith(f"{ROOT}/") and parts[0] else _SOMEBODY

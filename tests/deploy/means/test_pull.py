"""Class means in a reply: written when they are what the device says, refused otherwise."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import pytest

from deploy.means.pull import save_means
from edge.errors import EarmarkError
from edge.messaging.events import Reply, decode, encode

MEANS = Path(__file__).parents[3] / "models" / "demo" / "bundle" / "means.npz"


def reply(data: bytes, **result: Any) -> Reply:
    fields = {
        "release": "547b5c32bf92",
        "means_seq": 1,
        "animals": 16,
        "digest": hashlib.sha256(data).hexdigest(),
        "npz": base64.b64encode(data).decode(),
    }
    said = Reply(schema=1, device="barn-7", boot="b7", id="1", ok=True, result={**fields, **result})
    return decode(encode(said), Reply)


def test_they_are_written_as_they_came(tmp_path: Path) -> None:
    means = save_means(reply(MEANS.read_bytes()), tmp_path / "means.npz")
    assert len(means.animals) == 16
    assert (tmp_path / "means.npz").read_bytes() == MEANS.read_bytes()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"npz": None}, "holds no class means"),
        ({"npz": "*"}, "damaged"),
        ({"npz": base64.b64encode(b"other").decode()}, "damaged on the way"),
        (
            {
                "npz": base64.b64encode(b"other").decode(),
                "digest": hashlib.sha256(b"other").hexdigest(),
            },
            "barn-7's means",
        ),
    ],
)
def test_what_is_none_is_not_written(tmp_path: Path, changes: Any, told: str) -> None:
    with pytest.raises(EarmarkError, match=told) as caught:
        save_means(reply(MEANS.read_bytes(), **changes), tmp_path / "means.npz")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_is_told(tmp_path: Path) -> None:
    said = Reply(
        schema=1,
        device="barn-7",
        boot="b7",
        id="1",
        ok=False,
        error="failed",
        text="larger than a reply may be; copy x over SSH",
    )
    with pytest.raises(EarmarkError, match="over SSH"):
        save_means(said, tmp_path / "means.npz")

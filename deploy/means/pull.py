"""A device's class means, fetched over the broker."""

from __future__ import annotations

import base64
import binascii
import hashlib
import tempfile
from pathlib import Path

from edge.errors import BundleError, EarmarkError
from edge.files import write_atomically
from edge.identity.means import ClassMeans, load_means
from edge.messaging.events import Reply


def save_means(reply: Reply, path: Path) -> ClassMeans:
    """Write the class means in a reply to the command `means`, once they were checked.

    EarmarkError when the device refused, or when what it sent is not what it says.
    """
    if not reply.ok:
        raise EarmarkError(f"{reply.device}: {reply.error}: {reply.text}")
    text, sha256 = reply.result.get("npz"), reply.result.get("digest")
    if not isinstance(text, str) or not isinstance(sha256, str):
        raise EarmarkError(f"{reply.device}: its reply holds no class means; is earmark too old?")
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise EarmarkError(f"{reply.device}: the class means are damaged: {error}") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise EarmarkError(f"{reply.device}: the class means are damaged on the way; pull again")
    with tempfile.TemporaryDirectory(prefix="earmark-pull-") as folder:
        copy = Path(folder) / "means.npz"
        copy.write_bytes(data)
        try:
            means = load_means(copy)
        except BundleError as error:
            raise EarmarkError(str(error).replace(str(copy), f"{reply.device}'s means")) from error
    write_atomically(path, data)
    return means

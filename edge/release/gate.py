"""The gate's other side: a process of its own that tries a release, so that nobody else dies of it.

    python -m edge.release.gate

A request comes on standard input, an answer goes to standard output, JSON both; the process may
be killed at any time. It limits its own memory before it looks at anything.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from edge.errors import BundleError, EarmarkError, SelfTestError
from edge.identity.matching import Matcher
from edge.identity.means import ClassMeans, load_means
from edge.release.compose import check_means
from edge.release.manifest import (
    MANIFEST_NAME,
    MEANS_NAME,
    Manifest,
    decode_manifest,
    verify_files,
)
from edge.release.recent import Recent, names_of, read_recent
from edge.release.shadow import ShadowBounds, objection, shadow

if TYPE_CHECKING:
    from edge.release.bundle import Bundle

_REQUEST_BYTES = 64 << 10

Code = Literal["bundle", "self-test", "means", "shadow", "memory", "crashed", "hangs", "slow"]


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to try. release: its folder. models: whether they are to be loaded and asked as well.

    current, recent: class means that run and the file of the last embeddings, for the shadow
    check; empty for none. memory_bytes: of data, at most. most_frame_s: that the golden frames and
    crops may take on average.
    """

    release: str
    models: bool
    current: str = ""
    recent: str = ""
    threads: int = 2
    memory_bytes: int = 1 << 30
    most_frame_s: float = 5.0


class Answer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How it went: `code` is None when nothing speaks against the release, `text` says why not.

    question_s: seconds that a golden frame took, on the CPU; None when none was asked. crops: how
    many recent crops were held against the new class means.
    """

    code: Code | None = None
    text: str = ""
    question_s: float | None = None
    crops: int = 0


class _RefusedError(Exception):
    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.answer = Answer(code=code, text=text[:500])


def judge(request: Request) -> Answer:
    """Try a release in this process."""
    folder = Path(request.release)
    try:
        manifest = _manifest(folder)
        question_s = _ask(folder, request) if request.models else None
        crops = _shadow(folder, manifest, request)
    except _RefusedError as refused:
        return refused.answer
    except MemoryError:
        return Answer(code="memory", text=f"{folder}: needs more memory than it may take")
    except SelfTestError as error:
        return Answer(code="self-test", text=str(error)[:500])
    except EarmarkError as error:
        return Answer(code="bundle", text=str(error)[:500])
    return Answer(question_s=question_s, crops=crops)


def _manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST_NAME
    manifest = decode_manifest(path.read_bytes(), str(path))
    verify_files(folder, manifest)
    if manifest.detector is None:
        raise BundleError(f"{path}: has no detector, so it names crops only")
    return manifest


def _ask(folder: Path, request: Request) -> float:
    """Load the models on the CPU and ask the golden questions; return seconds for a frame."""
    from edge.release.bundle import load_bundle

    bundle = load_bundle(folder, threads=request.threads)
    question_s = _time(bundle, folder)
    if question_s > request.most_frame_s:
        raise _RefusedError(
            "slow", f"{folder}: {question_s:.1f} s a frame, at most {request.most_frame_s:g} s may"
        )
    return question_s


def _time(bundle: Bundle, folder: Path) -> float:
    """Return the seconds that a golden frame and a crop take; the self-test has warmed up."""
    from edge.release.bundle import SELFTEST_NAME
    from edge.release.selftest import load_self_test

    test = load_self_test(folder / SELFTEST_NAME)
    assert bundle.detector is not None
    frames = () if test.frames is None else test.frames.images[:1]
    begin_s = time.monotonic()
    for image in frames:
        bundle.detector.detect(image)
    bundle.embedder.embed(test.crops[:1])
    return time.monotonic() - begin_s


def _shadow(folder: Path, manifest: Manifest, request: Request) -> int:
    """Check the class means; return how many recent crops they were held against."""
    path = folder / MEANS_NAME
    means = _means(path, manifest)
    if not request.current or not request.recent:
        return 0
    try:
        old = load_means(Path(request.current))
        recent = read_recent(Path(request.recent))
    except EarmarkError:
        return 0  # what is missing of the past says nothing against the new
    if recent is None or not _comparable(recent, old, means):
        return 0
    after = names_of(recent.embeddings, Matcher(means))
    before = names_of(recent.embeddings, Matcher(old))
    found = shadow(before, after, old.animals, means.animals)
    problem = objection(found, ShadowBounds())
    if problem is not None:
        raise _RefusedError("shadow", f"{path}: {problem}")
    return found.crops


def _means(path: Path, manifest: Manifest) -> ClassMeans:
    try:
        means = load_means(path)
        check_means(means, manifest, path)
    except MemoryError:
        raise
    except EarmarkError as error:
        raise _RefusedError("means", str(error)) from error
    return means


def _comparable(recent: Recent, old: ClassMeans, new: ClassMeans) -> bool:
    makers = {recent.embedder_sha256, old.header.embedder_sha256, new.header.embedder_sha256}
    sizes = {recent.embeddings.shape[1], old.dimension, new.dimension}
    return len(makers) == 1 and len(sizes) == 1


def main() -> None:
    """Answer one request."""
    data = sys.stdin.buffer.read(_REQUEST_BYTES)
    request = msgspec.json.decode(data, type=Request)
    limit = request.memory_bytes
    for what, most in ((resource.RLIMIT_DATA, limit), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(ValueError, OSError):  # less is allowed already
            resource.setrlimit(what, (most, most))
    if request.models:
        # Whoever watches the barn meanwhile goes first.
        os.nice(10)
    answer = judge(request)
    sys.stdout.buffer.write(msgspec.json.encode(answer))
    sys.stdout.flush()


if __name__ == "__main__":
    main()

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edge.errors import AcceleratorError, BundleError, EarmarkError, SelfTestError
from edge.inference import Inference, Plan, parse_accelerator, plan_backends
from edge.inference.process import InferenceChild
from edge.vision.runtime import Delegate, one_by_one, open_model

pytestmark = pytest.mark.slow
CPU = plan_backends(parse_accelerator("cpu"), require=False, compiled=False, coral=False)


class Heard(list[tuple[str, str]]):
    def __call__(self, event: str, text: str) -> None:
        self.append((event, text))

    @property
    def events(self) -> list[str]:
        return [event for event, _ in self]


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def start(heard: Heard) -> Iterator[Callable[..., Inference]]:
    """Call with a plan and options for an Inference that the test's end closes."""
    made: list[Inference] = []

    def start(plan: Plan = CPU, **options: float) -> Inference:
        made.append(Inference(plan, threads=1, listener=heard, **options))  # type: ignore[arg-type]
        return made[-1]

    yield start
    for inference in made:
        inference.close()


def plan_for(library: str, behaviour: str, *, require: bool = False, more: str = "") -> Plan:
    wanted = parse_accelerator(f"delegate:{library}?behaviour={behaviour}{more}")
    return plan_backends(wanted, require=require, compiled=False, coral=False)


def truth(path: Path, crops: np.ndarray) -> np.ndarray:
    (rows,) = one_by_one(open_model(path, 1), crops).values()
    return rows


def ask(model: object, crops: np.ndarray) -> np.ndarray:
    (rows,) = model.invoke_many(crops).values()  # type: ignore[attr-defined]
    return np.asarray(rows)


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return True
    return state == "Z"


def wait_for(condition: Callable[[], bool], limit_s: float = 20.0) -> None:
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.01)


def test_the_child_answers_as_this_process_would(
    start: Callable[..., Inference], embedder_path: Path, crops: np.ndarray
) -> None:
    inference = start()
    model = inference.open(embedder_path, many=True)
    here = open_model(embedder_path, 1)
    assert model.input.shape == here.input.shape
    assert model.input.dtype == here.input.dtype
    assert (model.input.scale, model.input.zero_point) == (here.input.scale, here.input.zero_point)
    many = np.concatenate([crops, crops[::-1]])  # more than the memory holds at a time
    np.testing.assert_allclose(ask(model, many), truth(embedder_path, many), atol=0.02)
    (one,) = model.invoke(crops[:1]).values()
    np.testing.assert_array_equal(one, truth(embedder_path, crops[:1]))
    assert (inference.backend, inference.degraded) == (here.backend, False)
    assert ask(model, crops[:0]).shape == (0, 64)


def test_a_killed_child_is_missed_by_nobody(
    start: Callable[..., Inference], heard: Heard, embedder_path: Path, crops: np.ndarray
) -> None:
    inference = start()
    model = inference.open(embedder_path, many=True)
    expected = ask(model, crops)
    for number in range(5):
        assert inference.pid is not None
        os.kill(inference.pid, signal.SIGKILL)
        np.testing.assert_array_equal(ask(model, crops), expected)
        assert heard.events == ["restarted"] * (number + 1)
    assert "ended by signal 9; started again" in heard[0][1]
    assert inference.restarted == 5
    # A sixth without a good spell in between is more than an accident.
    os.kill(inference.pid, signal.SIGKILL)
    with pytest.raises(EarmarkError, match=r"inference on cpu keeps failing: .*signal 9"):
        ask(model, crops)


def test_deaths_long_ago_are_forgiven(
    start: Callable[..., Inference], heard: Heard, embedder_path: Path, crops: np.ndarray
) -> None:
    now_s = [0.0]
    inference = Inference(CPU, threads=1, restarts=1, listener=heard, clock=lambda: now_s[0])
    try:
        model = inference.open(embedder_path)
        for _ in range(3):
            assert inference.pid is not None
            os.kill(inference.pid, signal.SIGKILL)
            ask(model, crops[:1])
            now_s[0] += 61
            ask(model, crops[:1])
    finally:
        inference.close()
    assert heard.events == ["restarted"] * 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_that_are_meant_for_the_agent_do_not_end_its_child(
    number: signal.Signals,
    start: Callable[..., Inference],
    heard: Heard,
    embedder_path: Path,
    crops: np.ndarray,
) -> None:
    inference = start()
    opening: list[object] = []
    thread = threading.Thread(target=lambda: opening.append(inference.open(embedder_path)))
    thread.start()
    wait_for(lambda: inference.pid is not None)
    pid = inference.pid
    assert pid is not None
    os.kill(pid, number)  # before its first line has run
    thread.join(timeout=60)
    os.kill(pid, number)
    ask(opening[0], crops[:1])
    assert inference.pid == pid
    assert heard == []
    assert number not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_a_child_killed_in_the_middle_of_its_work(
    start: Callable[..., Inference], heard: Heard, embedder_path: Path, crops: np.ndarray
) -> None:
    inference = start()
    model = inference.open(embedder_path, many=True)
    many = np.tile(crops, (40, 1, 1, 1))
    expected = truth(embedder_path, crops)
    answers: list[np.ndarray] = []
    thread = threading.Thread(target=lambda: answers.append(ask(model, many)))
    pid = inference.pid
    assert pid is not None
    thread.start()
    os.kill(pid, signal.SIGKILL)
    thread.join(timeout=60)
    np.testing.assert_allclose(answers[0], np.tile(expected, (40, 1)), atol=0.02)
    assert heard.events == ["restarted"]


def test_a_child_that_hangs_is_killed(
    start: Callable[..., Inference], heard: Heard, embedder_path: Path, crops: np.ndarray
) -> None:
    inference = start(stuck_s=1.0)
    model = inference.open(embedder_path)
    pid = inference.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    np.testing.assert_array_equal(ask(model, crops[:1]), truth(embedder_path, crops[:1]))
    assert heard == [("restarted", "inference has not answered for 1 s; started again")]
    assert gone(pid)


def test_closing_does_not_wait_for_a_child_that_hangs(
    start: Callable[..., Inference], embedder_path: Path, crops: np.ndarray
) -> None:
    inference = start(stuck_s=300.0)
    model = inference.open(embedder_path)
    assert inference.pid is not None
    os.kill(inference.pid, signal.SIGSTOP)
    said: list[str] = []

    def work() -> None:
        try:
            ask(model, crops)
        except EarmarkError as error:
            said.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    inference.close()
    thread.join(timeout=20)
    assert said == ["inference was stopped"]
    assert inference.pid is None


def test_a_delegate_gets_its_options_and_serves(
    start: Callable[..., Inference],
    heard: Heard,
    delegate_library: str,
    embedder_path: Path,
    crops: np.ndarray,
    tmp_path: Path,
) -> None:
    log = tmp_path / "options"
    inference = start(plan_for(delegate_library, "accept", more=f"&speed=fast&log={log}"))
    model = inference.open(embedder_path)
    np.testing.assert_allclose(ask(model, crops), truth(embedder_path, crops), atol=0.02)
    assert inference.backend.startswith("delegate (")
    assert not inference.degraded
    assert {"behaviour=accept", "speed=fast"} <= set(log.read_text().splitlines())
    assert heard == []


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("refuse", "refuses: .*no such device is plugged in"),
        ("fail-to-apply", "will not run embedder.tflite: .*delegate"),
        ("crash", "ended by signal 11"),
        ("crash-when-applied", "ended by signal 6"),
        ("hang", "has not answered for 8 s"),
        ("hang-when-applied", "has not answered for 8 s"),
    ],
)
def test_a_delegate_that_fails_is_given_up_for_the_cpu_loudly(
    behaviour: str,
    words: str,
    start: Callable[..., Inference],
    heard: Heard,
    delegate_library: str,
    embedder_path: Path,
    crops: np.ndarray,
) -> None:
    hangs = "hang" in behaviour
    # How often a crash is borne is another test's; hangs are counted as in every agent.
    limits = {"start_s": 8.0, "stuck_s": 8.0} if hangs else {"restarts": 1}
    inference = start(plan_for(delegate_library, behaviour), **limits)
    model = inference.open(embedder_path)
    np.testing.assert_allclose(ask(model, crops), truth(embedder_path, crops), atol=0.02)
    assert inference.degraded
    assert inference.backend.startswith("cpu (")
    event, text = heard[-1]
    assert event == "fallback"
    assert text.startswith("delegate given up: ")
    assert text.endswith("; cpu serves instead")
    assert re.search(words, text)
    failed = [text for event, text in heard[:-1] if event == "failed"]
    assert len(failed) == len(heard) - 1 == inference.restarted
    assert all(re.search(words, text) and text.endswith("; trying again") for text in failed)
    assert len(failed) == (1 if hangs or "signal" in words else 0)


def test_an_accelerator_that_hangs_at_every_inference_is_given_up(
    start: Callable[..., Inference],
    heard: Heard,
    delegate_library: str,
    embedder_path: Path,
    crops: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inference = start(plan_for(delegate_library, "accept"), stuck_s=1.0)
    model = inference.open(embedder_path)
    wedged: list[int] = []
    invoke = InferenceChild.invoke

    def wedge(child: InferenceChild, number: int, count: int) -> None:
        if not inference.degraded:
            wedged.append(child.pid)
            os.kill(child.pid, signal.SIGSTOP)
        invoke(child, number, count)

    monkeypatch.setattr(InferenceChild, "invoke", wedge)
    np.testing.assert_allclose(ask(model, crops), truth(embedder_path, crops), atol=0.02)
    assert heard.events == ["restarted", "fallback"]
    assert "has not answered for 1 s; cpu serves instead" in heard[-1][1]
    assert len(set(wedged)) == 2
    assert all(gone(pid) for pid in wedged)


def test_loading_is_stopped_while_a_driver_hangs_in_it(
    start: Callable[..., Inference], delegate_library: str, embedder_path: Path, tmp_path: Path
) -> None:
    log = tmp_path / "options"
    plan = plan_for(delegate_library, "hang", more=f"&log={log}")
    inference = start(plan, start_s=300.0)
    said: list[str] = []

    def work() -> None:
        try:
            inference.open(embedder_path)
        except EarmarkError as error:
            said.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    wait_for(log.exists)
    inference.stop()
    thread.join(timeout=20)
    assert said == ["inference was stopped"]
    assert inference.stopped


def test_stopping_does_not_wait_for_a_child_that_no_signal_reaches(
    start: Callable[..., Inference],
    embedder_path: Path,
    crops: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inference = start(stuck_s=300.0)
    model = inference.open(embedder_path)
    pid = inference.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    # As of a process whose driver holds it in the kernel.
    monkeypatch.setattr(subprocess.Popen, "kill", lambda process: None)
    said: list[str] = []

    def work() -> None:
        try:
            ask(model, crops)
        except EarmarkError as error:
            said.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    closing = threading.Thread(target=inference.close)
    closing.start()
    try:
        thread.join(timeout=30)
        closing.join(timeout=30)
        assert said == ["inference was stopped"]
        assert not closing.is_alive()
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_backend_that_answers_wrongly_answers_nobody(
    start: Callable[..., Inference],
    heard: Heard,
    delegate_library: str,
    embedder_path: Path,
    crops: np.ndarray,
) -> None:
    inference = start(plan_for(delegate_library, "accept"), restarts=0)
    model = inference.open(embedder_path)

    def check() -> None:
        raise SelfTestError("selftest.npz: cosine -0.2")

    inference.add_check(check)
    assert inference.pid is not None
    os.kill(inference.pid, signal.SIGKILL)
    for _ in range(3):  # cameras, one after the other
        with pytest.raises(SelfTestError, match=r"selftest\.npz: cosine -0\.2"):
            ask(model, crops)
    with pytest.raises(SelfTestError):
        inference.open(embedder_path)
    assert inference.pid is None
    assert isinstance(inference.failure, SelfTestError)
    assert heard == []


def test_an_accelerator_that_answers_wrongly_once_restarted_is_given_up(
    start: Callable[..., Inference],
    heard: Heard,
    delegate_library: str,
    embedder_path: Path,
    crops: np.ndarray,
) -> None:
    inference = start(plan_for(delegate_library, "accept"))
    model = inference.open(embedder_path)
    asked: list[str] = []

    def check() -> None:
        ask(model, crops[:1])
        asked.append(inference.backend)
        if not inference.degraded:
            raise SelfTestError("selftest.npz: cosine -0.2")

    inference.add_check(check)
    assert inference.pid is not None
    os.kill(inference.pid, signal.SIGKILL)
    np.testing.assert_allclose(ask(model, crops), truth(embedder_path, crops), atol=0.02)
    assert [backend.partition(" (")[0] for backend in asked] == ["delegate", "cpu"]
    assert heard.events == ["fallback"]
    assert "delegate given up: selftest.npz: cosine -0.2; cpu serves" in heard[-1][1]


def test_a_child_that_dies_in_its_check_is_started_again(
    start: Callable[..., Inference], heard: Heard, embedder_path: Path, crops: np.ndarray
) -> None:
    inference = start()
    model = inference.open(embedder_path)
    doomed = 2

    def check() -> None:
        nonlocal doomed
        if doomed:
            doomed -= 1
            assert inference.pid is not None
            os.kill(inference.pid, signal.SIGKILL)
        ask(model, crops[:1])

    inference.add_check(check)
    inference.prove()
    assert heard.events == ["failed", "restarted"]
    assert inference.restarted == 2
    ask(model, crops[:1])
    assert inference.restarted == 2


def test_where_an_accelerator_is_required_nothing_serves_instead(
    start: Callable[..., Inference], heard: Heard, delegate_library: str, embedder_path: Path
) -> None:
    inference = start(plan_for(delegate_library, "refuse", require=True))
    with pytest.raises(EarmarkError, match="no such device is plugged in"):
        inference.open(embedder_path)
    assert heard == []


@pytest.mark.parametrize("kind", ["missing", "broken", "foreign"])
def test_libraries_that_are_no_delegates(
    kind: str,
    start: Callable[..., Inference],
    heard: Heard,
    embedder_path: Path,
    tmp_path: Path,
) -> None:
    library = {"missing": str(tmp_path / "no.so"), "foreign": "libc.so.6"}.get(kind)
    if library is None:
        (tmp_path / "broken.so").write_bytes(b"\x7fELF nothing else")
        library = str(tmp_path / "broken.so")
    words = {
        "missing": "the library cannot be loaded",
        "broken": "the library cannot be loaded",
        "foreign": "that library is no TFLite delegate",
    }
    with pytest.raises(AcceleratorError, match=words[kind]):
        open_model(embedder_path, 1, Delegate(library))
    inference = start(plan_for(library, "accept"))
    inference.open(embedder_path)
    assert inference.degraded
    assert words[kind] in heard[0][1]


def test_a_file_that_is_no_model_is_the_bundles_fault(
    start: Callable[..., Inference], tmp_path: Path
) -> None:
    (tmp_path / "m.tflite").write_bytes(b"nothing")
    with pytest.raises(BundleError, match=r"m\.tflite is not a model that"):
        start().open(tmp_path / "m.tflite")


@pytest.mark.parametrize("hung", [False, True])
def test_the_child_does_not_outlive_its_parent(
    hung: bool, delegate_library: str, embedder_path: Path, tmp_path: Path
) -> None:
    log = tmp_path / "options"
    behaviour = ("hang" if hung else "accept") + f"&log={log}"
    script = (
        "import sys, threading\n"
        "from pathlib import Path\n"
        "from edge.inference import *\n"
        f"wanted = parse_accelerator('delegate:{delegate_library}?behaviour={behaviour}')\n"
        "plan = plan_backends(wanted, require=True, compiled=False, coral=False)\n"
        "inference = Inference(plan, threads=1)\n"
        f"opening = threading.Thread(target=inference.open, args=(Path({str(embedder_path)!r}),))\n"
        "opening.start()\n"
        "while inference.pid is None: pass\n"
        "print(inference.pid, flush=True)\n"
        "opening.join()\n"
        "threading.Event().wait()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    # The driver's code runs, and while it does no thread of Python's.
    wait_for(log.exists, 60.0)
    assert not gone(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_for(lambda: gone(child))
